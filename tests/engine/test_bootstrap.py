"""A root file system for an ordinary user, whom mmdebstrap refuses: made in a container of the real engine."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest

from build.console import Console
from build.engine import bootstrap, rootfs
from build.errors import EngineError
from build.host import apt, process

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.client import Engine

REFUSED = process.Completed(returncode=25, tail=("E: unable to pick chroot mode automatically (use --mode …)",))


@pytest.fixture(autouse=True)
def _ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        apt.ensure(["mmdebstrap"], allowed=True, console=Console(quiet=True))
    except EngineError as error:
        pytest.skip(error.what)
    monkeypatch.setattr(process, "run", lambda *_, **__: REFUSED)


def names(engine: Engine) -> set[str]:
    return {name for image in engine.client.api.images() for name in image["RepoTags"] or () if "bootstrap" in name}


def test_packages_are_unpacked_with_their_owners(engine: Engine, tmp_path: Path) -> None:
    archive, before = tmp_path / "made.tar", names(engine)
    options = ["--variant=extract", "--include=base-files,passwd"]
    done = bootstrap.make(engine, archive, options, rootfs.SUITE, progress=print)
    assert done.returncode == 0, done.text
    with tarfile.open(archive) as tar:
        members = {member.name.removeprefix("./"): member for member in tar}
    assert members["etc/debian_version"].uid == 0
    # Its group is another one than root, which a user without user namespaces cannot give a file.
    assert members["usr/bin/chage"].gid != 0
    assert members["usr/bin/passwd"].mode & 0o4000
    assert names(engine) == before, "the image that it started from is gone"


def test_what_mmdebstrap_says_is_the_reason(engine: Engine, tmp_path: Path) -> None:
    done = bootstrap.make(engine, tmp_path / "made.tar", ["--variant=none"], rootfs.SUITE, progress=print)
    assert done.returncode != 0
    assert not bootstrap.only_root(done)
    assert any(line.startswith("E: ") for line in done.tail), done.text


def test_it_cannot_change_this_machine(engine: Engine, tmp_path: Path) -> None:
    options = ["--variant=extract", "--include=base-files", "--setup-hook=touch /usr/written /etc/apt/written"]
    done = bootstrap.make(engine, tmp_path / "made.tar", options, rootfs.SUITE, progress=print)
    assert done.returncode != 0
    assert done.text.count("Read-only file system") == 2


def test_an_engine_without_this_machines_programs_says_as_before(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_SHARED", ())
    assert bootstrap.make(engine, tmp_path / "made.tar", [], rootfs.SUITE, progress=print) is REFUSED
