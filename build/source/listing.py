"""Listings of source trees: path, mode and blob id of every file, in git's form."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

REGULAR = "100644"
EXECUTABLE = "100755"
SYMLINK = "120000"
TREE = "040000"
SUBMODULE = "160000"

_ROW = re.compile(rb"(?P<mode>[0-7]{6}) (?:blob|tree|commit) (?P<oid>[0-9a-f]{40})\t(?P<path>[^\0]*)")
# Git checks out none of these either (read-cache.c, verify_path). In a layer, they would lead to other files.
_MISLEADING = re.compile(rb"(?:^|/)(?:\.{1,2}|\.git)(?:/|$)|^/|//|/$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Apart:
    """The files of a working tree that a snapshot leaves out.

    Attributes:
        named: Reason by path.
        counted: Number of changed files that were not read, by top-level entry that images do not hold.
    """

    named: Mapping[str, str]
    counted: Mapping[str, int]


NOTHING_APART = Apart(named={}, counted={})


def blob_id(content: bytes) -> str:
    """Return git's id of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file of a tree.

    Attributes:
        mode: Git's mode, one of this module's constants.
        oid: Id of the blob.
    """

    mode: str
    oid: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A source tree without its contents.

    Attributes:
        files: Entries by path relative to the root. A path that is not UTF-8 has surrogate escapes.
        trees: Ids of tree objects by path, with an empty path for the root; empty if only files are known.
    """

    files: Mapping[str, Entry]
    trees: Mapping[str, str]

    @classmethod
    def parse(cls, text: bytes) -> Listing:
        """Parse the output of ``git ls-tree -r -t -z``.

        Raises:
            ValueError: The text is not such output, or is incomplete, or has a name that git does not check out.
        """
        rows = text.split(b"\0")
        if rows.pop():
            raise ValueError("the last row of a listing has no end")
        files: dict[str, Entry] = {}
        trees: dict[str, str] = {}
        for row in rows:
            match = _ROW.fullmatch(row)
            if match is None:
                raise ValueError(f"not a row of a listing: {row[:80]!r}")
            if _MISLEADING.search(match["path"]):
                raise ValueError(f"git does not check out the name {os.fsdecode(match['path'])!a}")
            mode, oid = match["mode"].decode(), match["oid"].decode()
            path = match["path"].decode("utf-8", "surrogateescape")
            if mode == TREE:
                trees[path] = oid
            else:
                files[path] = Entry(mode=mode, oid=oid)
        return cls(files=files, trees=trees)

    def serialize(self) -> bytes:
        """Return the text that :meth:`parse` reads, sorted by path."""
        rows = [(path, f"{TREE} tree {oid}") for path, oid in self.trees.items()]
        rows += [(path, f"{entry.mode} blob {entry.oid}") for path, entry in self.files.items()]
        return b"".join(
            f"{facts}\t".encode("ascii") + path.encode("utf-8", "surrogateescape") + b"\0"
            for path, facts in sorted(rows)
        )

    @property
    def top_level(self) -> frozenset[str]:
        """The names of the files and folders directly below the root."""
        return frozenset(path.partition("/")[0] for path in self.files)
