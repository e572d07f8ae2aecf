"""Archives of foreign repositories, unpacked with and without Python's own filter."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from build.host.unpack import unpack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True, params=["with Python's filter", "as Debian 12 does"])
def _python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "as Debian 12 does":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o664) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def unpacked(folder: Path, *members: tarfile.TarInfo) -> Path:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for one in members:
            tar.addfile(one)
    with tarfile.open(fileobj=io.BytesIO(made.getvalue())) as tar:
        unpack(tar, folder / "tree")
    return folder / "tree"


# tarfile warns of a missing filter from Python 3.12 on, which has one.
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")


def test_files_folders_and_links_inside(tmp_path: Path) -> None:
    tree = unpacked(
        tmp_path,
        member("a", tarfile.DIRTYPE, mode=0o775),
        member("a/run.sh", mode=0o4775),
        member("a/link", tarfile.SYMTYPE, "run.sh"),
        member("b/up", tarfile.SYMTYPE, "../a/run.sh"),
        member("b/same", tarfile.LNKTYPE, "a/run.sh", mode=0o4775),
    )
    assert (tree / "a/run.sh").stat().st_mode & 0o7777 == 0o755
    assert (tree / "a/link").resolve() == (tree / "b/up").resolve() == tree.resolve() / "a/run.sh"
    assert (tree / "b/same").samefile(tree / "a/run.sh")


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside")],
        [member("a", tarfile.SYMTYPE, "..")],
        [member("a", tarfile.SYMTYPE, "/etc")],
        [member("a", tarfile.LNKTYPE, "../other")],
        [member("a", tarfile.SYMTYPE, "b"), member("b", tarfile.SYMTYPE, "../..")],
        [member("pipe", tarfile.FIFOTYPE)],
    ],
    ids=["file", "link", "absolute-link", "hard-link", "link-to-link", "pipe"],
)
def test_what_would_lie_or_lead_outside_is_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    with pytest.raises(tarfile.TarError):
        unpacked(tmp_path, *members)
    assert {path.name for path in tmp_path.iterdir()} <= {"tree"}
