"""The archive that is laid over an image, read back."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from build.layer.archive import Ownership, Tarball
from build.source.listing import EXECUTABLE, REGULAR, SYMLINK

OWNER = Ownership(uid=2000, gid=0, file_mode=0o664, folder_mode=0o2775)
SOURCE = PurePosixPath("opt/vllm-source")


def archive(*files: tuple[str, bytes, str], owner: Ownership = OWNER, existing: tuple[str, ...] = ()) -> bytes:
    stream = io.BytesIO()
    with Tarball(stream, owner=owner, timestamp=1_700_000_000, existing=frozenset(existing)) as tarball:
        for path, content, mode in files:
            tarball.add_bytes(SOURCE / path, content, mode=mode)
    return stream.getvalue()


def members(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: member for member in tar}


FILES = (
    ("vllm/a.py", b"a\n", REGULAR),
    ("vllm/empty.py", b"", REGULAR),
    ("run.sh", b"#!/bin/sh\n", EXECUTABLE),
    ("link", b"vllm/a.py", SYMLINK),
)


def test_the_same_files_give_the_same_bytes() -> None:
    assert archive(*FILES) == archive(*FILES)


def test_contents_arrive() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(*FILES))) as tar:
        read = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        contents = {name: file.read() for name, file in read.items() if file}
    assert contents == {
        "opt/vllm-source/vllm/a.py": b"a\n",
        "opt/vllm-source/vllm/empty.py": b"",
        "opt/vllm-source/run.sh": b"#!/bin/sh\n",
    }


def test_everything_is_the_bases_owners_and_of_one_time() -> None:
    found = members(archive(*FILES)).values()
    assert {(member.uid, member.gid, member.mtime) for member in found} == {(2000, 0, 1_700_000_000)}
    assert {(member.uname, member.gname) for member in found} == {("", "")}


@pytest.mark.parametrize(("file_mode", "executable"), [(0o664, 0o775), (0o644, 0o755), (0o600, 0o700), (0o640, 0o750)])
def test_whoever_may_read_a_program_may_run_it(file_mode: int, executable: int) -> None:
    owner = Ownership(uid=0, gid=0, file_mode=file_mode, folder_mode=0o755)
    found = members(archive(*FILES, owner=owner))
    assert found["opt/vllm-source/vllm/a.py"].mode == file_mode
    assert found["opt/vllm-source/run.sh"].mode == executable


def test_a_link_points_where_it_pointed() -> None:
    link = members(archive(*FILES, ("odd", b"\xff/grun", SYMLINK)))
    assert link["opt/vllm-source/link"].issym()
    assert link["opt/vllm-source/link"].linkname == "vllm/a.py"
    assert link["opt/vllm-source/odd"].linkname == "\udcff/grun"


def test_folders_are_added_once_before_what_is_in_them_and_only_where_missing() -> None:
    content = archive(
        ("new/deep/a", b"", REGULAR), ("new/deep/b", b"", REGULAR), existing=("opt", "opt/vllm-source", "/")
    )
    assert list(members(content)) == [f"opt/vllm-source/new{rest}" for rest in ("", "/deep", "/deep/a", "/deep/b")]
    assert members(content)["opt/vllm-source/new"].mode == 0o2775


def test_names_that_tar_cannot_hold_by_itself_arrive() -> None:
    names = ["grün", "two\nlines", "a b", "\udcff\udcfe", f"{'long/' * 60}{'x' * 200}", "back\\slash"]
    content = archive(*((name, b"x", REGULAR) for name in names))
    files = {name for name, member in members(content).items() if member.isfile()}
    assert files == {f"opt/vllm-source/{name}" for name in names}


def test_a_folder_of_this_machine_is_added_in_order(tmp_path: Path) -> None:
    for name in ("b/two", "a/one", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    stream = io.BytesIO()
    with Tarball(stream, owner=OWNER, timestamp=0, existing=frozenset()) as tarball:
        tarball.add_tree(PurePosixPath("git"), tmp_path, mode=REGULAR)
    assert list(members(stream.getvalue())) == ["git", "git/a", "git/a/one", "git/b", "git/b/two", "git/c"]
