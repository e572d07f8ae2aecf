"""The listing of a tree: git's own words, there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.source.listing import EXECUTABLE, REGULAR, SUBMODULE, SYMLINK, Entry, Listing, blob_id
from tests.unit.work import git

if TYPE_CHECKING:
    from tests.unit.work import Work

NAMES = ["a b", 'quo"te', "it's", "two\nlines", "tab\there", "grün", "\udcff\udcfe", "-r", "sub/[x]*?", "back\\slash"]


@pytest.fixture
def listed(work: Work) -> bytes:
    for name in NAMES:
        work.write(name, name.encode("utf-8", "replace").decode())
    work.write("run.sh", "#!/bin/sh\n", mode=0o755)
    work.write("empty", "")
    (work.path / "link").symlink_to("../else\udcffwhere")
    work.commit()
    work.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},third/party")
    work.git("commit", "-qm", "x")
    return git(work.path, "ls-tree", "-r", "-t", "-z", "--full-tree", "HEAD")


def test_every_name_and_mode_of_gits_is_read(listed: bytes) -> None:
    listing = Listing.parse(listed)
    assert set(listing.files) == {*NAMES, "run.sh", "empty", "link", "third/party"}
    modes = {path: listing.files[path].mode for path in ("a b", "run.sh", "link", "third/party")}
    assert modes == {"a b": REGULAR, "run.sh": EXECUTABLE, "link": SYMLINK, "third/party": SUBMODULE}
    assert set(listing.trees) == {"sub", "third"}


def test_what_is_written_is_read_again(listed: bytes) -> None:
    listing = Listing.parse(listed)
    assert Listing.parse(listing.serialize()) == listing
    backwards = Listing(files=dict(reversed(list(listing.files.items()))), trees=listing.trees)
    assert backwards.serialize() == listing.serialize()


def test_blob_ids_are_gits(listed: bytes) -> None:
    files = Listing.parse(listed).files
    assert files["empty"].oid == blob_id(b"")
    assert files["run.sh"].oid == blob_id(b"#!/bin/sh\n")
    assert files["link"].oid == blob_id(b"../else\xffwhere")


def test_the_top_level_is_files_and_folders() -> None:
    entry = Entry(mode=REGULAR, oid="0" * 40)
    listing = Listing(files={"setup.py": entry, "vllm/a/b.py": entry, "vllm/c.py": entry}, trees={})
    assert listing.top_level == {"setup.py", "vllm"}


@pytest.mark.parametrize("text", [b"x", b"100644 blob\tname\0", b"\xff blob 00\tname\0"])
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Listing.parse(text)


@pytest.mark.parametrize("path", [b"../a", b"a/..", b"a/./b", b".git/config", b"/a", b"a//b", b"a/"])
def test_a_path_that_leads_elsewhere_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match="git does not check out"):
        Listing.parse(b"100644 blob %s\t%s\0" % (b"1" * 40, path))


def test_nothing_is_an_empty_tree() -> None:
    assert Listing.parse(b"") == Listing(files={}, trees={})
