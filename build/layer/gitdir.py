"""The small git directory that images carry at ``/opt/vllm-source/.git``.

Holds one commit, its trees and the blobs of the files that are in the image, so that ``git status``, ``git diff``
and ``git log -1`` work without a network; an overlay leaves the blobs out where they are many. Files that the image
leaves out are marked in the index. Everything is made next to the source repository, with its objects as alternates:
the source is only read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from build.errors import SourceError
from build.host import scratch
from build.source.git import Git, GitError
from build.source.listing import SUBMODULE, Listing
from build.source.remotes import REMOTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from build.source.repository import Repository

log = logging.getLogger(__name__)

BASE_REF = "refs/llm-d-dev/base"
"""Names the base's commit inside an image: ``git diff llm-d-dev/base`` shows what an overlay changed."""

CONTENTS_LIMIT = 2**20
"""Bytes of changed files up to which an overlay's git directory has their contents too, about 60 of vLLM's modules.

Each file is in the layer a second time then, as git keeps it, and layers are to stay small. Beyond that git fetches
what it is asked for from the remotes, as in any partial clone, and only contents that none of them has go along, up to
as much again; ``git status`` and ``git log`` need none of it.
"""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a git directory is to describe.

    Attributes:
        commit: Full id of the commit that ``HEAD`` is.
        tree: The commit's files and trees.
        present: Paths of the tree that the image holds.
    """

    commit: str
    tree: Listing
    present: frozenset[str]

    @property
    def contents(self) -> Iterator[str]:
        """Ids of the blobs of what the image holds."""
        files = self.tree.files
        return (files[path].oid for path in sorted(self.present) if files[path].mode != SUBMODULE)


def write_full(target: Path, *, source: Repository, state: State) -> None:
    """Write the git directory of a base.

    Args:
        target: The new ``.git`` folder.
        source: Repository that has the commit.
        state: What it is to describe.
    """
    for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
        (target / folder).mkdir(parents=True)
    (target / "config").write_text(_config(), encoding="utf-8")
    _write_sparse(target, state)
    with _Workshop(source) as workshop:
        workshop.pack([state.commit, *state.tree.trees.values(), *state.contents], target / "objects" / "pack")
        workshop.index(state, target / "index")
    _write_head(target, commit=state.commit, base=state.commit, shallow=[state.commit])


def write_move(  # noqa: D417 - `source` is as above
    target: Path, *, source: Repository, old: State, new: State, complete: bool, published: bool
) -> None:
    """Write those files of a git directory that move a base's one to another commit.

    Args:
        target: Folder that is laid over the base's ``.git``.
        old: What the base's describes.
        new: What it is to describe.
        complete: Whether the contents of all files go along, however many have changed: the base brought a git
            directory of its own, which cannot fetch them and need not be sparse.
        published: Whether the remotes have the commit.
    """
    (target / "objects" / "pack").mkdir(parents=True)
    if not complete:
        (target / "info").mkdir()
        _write_sparse(target, new)
    known = set(old.tree.trees.values())
    with _Workshop(source) as workshop:
        if new.commit != old.commit:
            blobs = _contents(source, old, new, complete=complete, published=published)
            trees = [oid for oid in new.tree.trees.values() if oid not in known]
            workshop.pack([new.commit, *trees, *blobs], target / "objects" / "pack")
        workshop.index(new, target / "index")
    # A commit on the base's is shown against it; one whose parents are not here is shown as if it had none.
    cut = {old.commit} if set(source.parents(new.commit)) == {old.commit} else {old.commit, new.commit}
    _write_head(target, commit=new.commit, base=old.commit, shallow=sorted(cut))


def _contents(source: Repository, old: State, new: State, *, complete: bool, published: bool) -> list[str]:
    """Ids of the contents that go along: all that differ; if they are many, those that no remote has; or none."""
    known = set(old.contents)
    held = [oid for oid in dict.fromkeys(new.contents) if oid not in known]
    # What differs in files that the image leaves out: `git diff` asks for it too. What is here no more, a remote has.
    beside = [] if published else source.present(_differing(old.tree, new.tree) - known - set(held))
    if complete or sum(source.sizes([*held, *beside])) <= CONTENTS_LIMIT:
        return [*held, *beside]
    fetched = set(held) if published else {oid for one in source.published(new.commit) for oid in _blobs(one)}
    own = [oid for oid in (*held, *beside) if oid not in fetched and oid in _blobs(new.tree)]
    kept = own if sum(source.sizes(own)) <= CONTENTS_LIMIT else []
    log.info("of %d contents that differ %d are in the git directory", len(held) + len(beside), len(kept))
    return kept


def _differing(old: Listing, new: Listing) -> set[str]:
    """Ids of the blobs of files that are not the same in two trees."""
    return _blobs(old) ^ _blobs(new)


def _blobs(tree: Listing) -> set[str]:
    return {entry.oid for entry in tree.files.values() if entry.mode != SUBMODULE}


def _write_sparse(target: Path, state: State) -> None:
    sparse = _sparse(state.tree, state.present)
    (target / "info" / "sparse-checkout").write_text(sparse, encoding="utf-8", errors="surrogateescape")


def _write_head(target: Path, *, commit: str, base: str, shallow: Iterable[str]) -> None:
    (target / "HEAD").write_text(f"{commit}\n", encoding="ascii")
    (target / "shallow").write_text("".join(f"{oid}\n" for oid in shallow), encoding="ascii")
    (target / BASE_REF).parent.mkdir(parents=True, exist_ok=True)
    (target / BASE_REF).write_text(f"{base}\n", encoding="ascii")


def _config() -> str:
    lines = ["[core]", "\trepositoryformatversion = 0", "\tfilemode = true", "\tbare = false"]
    # Files that the image leaves out stay left out when another commit is checked out.
    lines += ["\tsparseCheckout = true", "\tsharedRepository = group"]
    # Objects that are not here are promised by the remotes, fetched only when something asks for them. Git asks them as
    # they are listed (git's partial-clone.txt, "Using many promisor remotes"). No `extensions.partialClone`: git needs
    # none beside `promisor`, and libgit2 opens no repository that has it.
    for name, address in REMOTES.items():
        lines += [
            f'[remote "{name}"]',
            f"\turl = {address}",
            f"\tfetch = +refs/heads/*:refs/remotes/{name}/*",
        ]
        lines += ["\tpromisor = true", "\tpartialclonefilter = blob:none"]
    return "\n".join(lines) + "\n"


def _sparse(tree: Listing, present: frozenset[str]) -> str:
    """Patterns that keep what the image holds, whole top-level entries at once (gitignore(5) syntax)."""
    kept = {path.partition("/")[0] for path in present}
    absent = {path for path in tree.files if path not in present and path.partition("/")[0] in kept}
    # Characters of patterns stand for themselves.
    names = (re.sub(r"([*?\[\\ ])", r"\\\1", name) for name in sorted((tree.top_level - kept) | absent))
    return "/*\n" + "".join(f"!/{name}\n" for name in names)


class _Workshop:
    """A throw-away git directory that sees the source's objects."""

    def __init__(self, source: Repository) -> None:
        self._source = source
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._dir = Path(self._held.enter_context(scratch.folder())) / "git"
        for name in ("objects/info", "refs"):
            (self._dir / name).mkdir(parents=True)
        (self._dir / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
        alternates = b"".join(_alternate(folder) + b"\n" for folder in self._source.objects)
        (self._dir / "objects" / "info" / "alternates").write_bytes(alternates)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _git(self, *words: str | Path, lines: bytes = b"") -> None:
        # Not the user's settings: core.splitIndex, say, would leave half of the index here.
        git = Git.sealed(self._dir, name=str(self._source.path)).given({}, cwd=self._dir)
        try:
            # What is made here lives for seconds: waiting for the disk would be for nothing.
            git.output("-c", "core.fsync=none", *words, stdin=lines)
        except GitError as error:
            raise SourceError(
                f"git cannot describe {self._source.path} in an image: {error.text}",
                hint=f"see whether `git -C {self._source.path} fsck` finds something",
            ) from error

    def pack(self, oids: Iterable[str], folder: Path) -> None:
        """Write exactly these objects as a promisor pack: what they refer to may be missing."""
        lines = "".join(f"{oid}\n" for oid in dict.fromkeys(oids)).encode("ascii")
        # One thread, and nothing as the source happens to have packed it: the same objects give the same bytes.
        anew = ("--threads=1", "--no-reuse-object", "--no-reuse-delta")
        self._git("pack-objects", "--quiet", *anew, "--delta-base-offset", folder / "pack", lines=lines)
        for pack in folder.glob("pack-*.pack"):
            pack.with_suffix(".promisor").touch()

    def index(self, state: State, target: Path) -> None:
        """Write an index of the whole tree in which what the image leaves out is marked skip-worktree.

        All of it is in this one file: a split index would be smaller, but only git itself can read one (libgit2#6132).
        """
        # Version 4 stores paths by their difference to the one before: two thirds of the size.
        self._git("-c", "index.version=4", "update-index", "-z", "--index-info", lines=_info(state.tree))
        absent = "".join(f"{path}\0" for path in sorted(state.tree.files.keys() - state.present))
        self._git("update-index", "-z", "--skip-worktree", "--stdin", lines=_bytes(absent))
        shutil.copy(self._dir / "index", target)


def _alternate(folder: Path) -> bytes:
    """A line of ``objects/info/alternates``; quoted as C does, so that no character of the path means anything."""
    escaped = os.fsencode(folder).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'


def _info(tree: Listing) -> bytes:
    """What ``git update-index --index-info`` reads."""
    return _bytes("".join(f"{entry.mode} {entry.oid}\t{path}\0" for path, entry in sorted(tree.files.items())))


def _bytes(paths: str) -> bytes:
    return paths.encode("utf-8", "surrogateescape")
