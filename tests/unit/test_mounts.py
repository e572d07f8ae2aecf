"""Reading mountinfo."""

from __future__ import annotations

from pathlib import Path

from build.host import mounts
from build.host.mounts import Mount


def test_an_overlay_names_its_upper_folder() -> None:
    line = (
        "626 532 0:52 / / rw,relatime master:255 - overlay overlay "
        "rw,lowerdir=/d/l/A:/d/l/B,upperdir=/d/overlay2/c3/diff,workdir=/d/overlay2/c3/work"
    )
    assert Mount.parse(line) == Mount(point=Path("/"), upper=Path("/d/overlay2/c3/diff"))


def test_other_file_systems_have_no_upper_folder() -> None:
    assert Mount.parse("22 1 254:0 / /data rw,relatime shared:1 - ext4 /dev/vda rw,discard").upper is None


def test_optional_fields_may_be_absent_and_spaces_are_decoded() -> None:
    mount = Mount.parse(r"22 1 254:0 / /mnt/my\040disk\134x rw - ext4 /dev/vda rw")
    assert mount.point == Path("/mnt/my disk\\x")


def test_a_process_that_is_gone_has_no_mounts() -> None:
    assert mounts.of(2**30) == ()


def test_this_process_sees_a_root() -> None:
    assert Path("/") in [mount.point for mount in mounts.of("self")]


def test_mount_points_below_a_folder_are_found_and_neighbours_are_not() -> None:
    assert Path("/proc") in mounts.below([Path("/proc")])
    assert Path("/proc") not in mounts.below([Path("/pro"), Path("/proc/sys-not")])
