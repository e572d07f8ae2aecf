"""The small git directory that images carry at ``/opt/vllm-source/.git``.

It holds one commit, its trees, and the blobs of the files in the image, so that ``git status``, ``git diff`` and
``git log -1`` work without a network. An overlay with many changed blobs leaves them out. The index marks files that
the image leaves out. The directory is made beside the source repository with its objects as alternates, so the source
is only read.
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
"""The ref of the base's commit in an image: ``git diff llm-d-dev/base`` shows what an overlay changed."""

CONTENTS_LIMIT = 2**20
"""Bytes of changed files up to which an overlay's git directory holds their contents, about 60 of vLLM's modules.

Each such file is in the layer twice, and layers must stay small. Above the limit, git fetches contents from the remotes
when it needs them, as in any partial clone. Only contents that no remote has are then added, up to the same size again.
``git status`` and ``git log`` need none of them.
"""


@dataclass(frozen=True, kw_only=True)
class State:
    """The state that a git directory describes.

    Attributes:
        commit: Full ID of the commit at ``HEAD``.
        tree: Files and trees of the commit.
        present: Paths of the tree that the image holds.
    """

    commit: str
    tree: Listing
    present: frozenset[str]

    @property
    def contents(self) -> Iterator[str]:
        """Yield the IDs of the blobs of the files in the image."""
        files = self.tree.files
        return (files[path].oid for path in sorted(self.present) if files[path].mode != SUBMODULE)


def write_full(target: Path, *, source: Repository, state: State) -> None:
    """Write the git directory of a base.

    Args:
        target: The new ``.git`` folder.
        source: Repository that has the commit.
        state: State to describe.
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
    """Write the files that move a base's git directory to another commit.

    Args:
        target: Folder to lay over the base's ``.git``.
        old: State of the base's git directory.
        new: State to describe.
        complete: Whether to add the contents of all files, however many changed. A base's own git directory cannot
            fetch them and may not be sparse.
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
    # A commit on top of the base's is shown against it. A commit with missing parents is shown without parents.
    cut = {old.commit} if set(source.parents(new.commit)) == {old.commit} else {old.commit, new.commit}
    _write_head(target, commit=new.commit, base=old.commit, shallow=sorted(cut))


def _contents(source: Repository, old: State, new: State, *, complete: bool, published: bool) -> list[str]:
    """Return the IDs of the contents to add: all that differ; if too many, those that no remote has; or none."""
    known = set(old.contents)
    held = [oid for oid in dict.fromkeys(new.contents) if oid not in known]
    # Files that the image leaves out count too, because `git diff` reads them. A remote has what is missing here.
    beside = [] if published else source.present(_differing(old.tree, new.tree) - known - set(held))
    if complete or sum(source.sizes([*held, *beside])) <= CONTENTS_LIMIT:
        return [*held, *beside]
    fetched = set(held) if published else {oid for one in source.published(new.commit) for oid in _blobs(one)}
    own = [oid for oid in (*held, *beside) if oid not in fetched and oid in _blobs(new.tree)]
    kept = own if sum(source.sizes(own)) <= CONTENTS_LIMIT else []
    log.info("of %d contents that differ %d are in the git directory", len(held) + len(beside), len(kept))
    return kept


def _differing(old: Listing, new: Listing) -> set[str]:
    """Return the IDs of the blobs of files that differ between two trees."""
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
    # Files that the image leaves out stay left out after the checkout of another commit.
    lines += ["\tsparseCheckout = true", "\tsharedRepository = group"]
    # The remotes promise the missing objects; git fetches them on demand, from the remotes in the listed order (git's
    # partial-clone.txt, "Using many promisor remotes"). `extensions.partialClone` is not set: git does not need it
    # beside `promisor`, and libgit2 refuses a repository that has it.
    for name, address in REMOTES.items():
        lines += [
            f'[remote "{name}"]',
            f"\turl = {address}",
            f"\tfetch = +refs/heads/*:refs/remotes/{name}/*",
        ]
        lines += ["\tpromisor = true", "\tpartialclonefilter = blob:none"]
    return "\n".join(lines) + "\n"


def _sparse(tree: Listing, present: frozenset[str]) -> str:
    """Return patterns that keep the image's files, whole top-level entries at once (gitignore(5) syntax)."""
    kept = {path.partition("/")[0] for path in present}
    absent = {path for path in tree.files if path not in present and path.partition("/")[0] in kept}
    # Special characters of patterns are escaped.
    names = (re.sub(r"([*?\[\\ ])", r"\\\1", name) for name in sorted((tree.top_level - kept) | absent))
    return "/*\n" + "".join(f"!/{name}\n" for name in names)


class _Workshop:
    """A temporary git directory that shares the source's objects."""

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
        # Without the user's settings: core.splitIndex, for example, would leave half of the index here.
        git = Git.sealed(self._dir, name=str(self._source.path)).given({}, cwd=self._dir)
        try:
            # The result lives for seconds: waiting for the disk would be useless.
            git.output("-c", "core.fsync=none", *words, stdin=lines)
        except GitError as error:
            raise SourceError(
                f"git cannot describe {self._source.path} in an image: {error.text}",
                hint=f"run `git -C {self._source.path} fsck` to find damage",
            ) from error

    def pack(self, oids: Iterable[str], folder: Path) -> None:
        """Write exactly these objects as a promisor pack, which may lack the objects that they refer to."""
        lines = "".join(f"{oid}\n" for oid in dict.fromkeys(oids)).encode("ascii")
        # One thread, and no reuse of the source's packs: the same objects give the same bytes.
        anew = ("--threads=1", "--no-reuse-object", "--no-reuse-delta")
        self._git("pack-objects", "--quiet", *anew, "--delta-base-offset", folder / "pack", lines=lines)
        for pack in folder.glob("pack-*.pack"):
            pack.with_suffix(".promisor").touch()

    def index(self, state: State, target: Path) -> None:
        """Write an index of the whole tree that marks files outside the image as skip-worktree.

        The index is one file: a split index would be smaller, but only git itself can read it (libgit2#6132).
        """
        # Version 4 stores each path as a difference to the previous one: two thirds of the size.
        self._git("-c", "index.version=4", "update-index", "-z", "--index-info", lines=_info(state.tree))
        absent = "".join(f"{path}\0" for path in sorted(state.tree.files.keys() - state.present))
        self._git("update-index", "-z", "--skip-worktree", "--stdin", lines=_bytes(absent))
        shutil.copy(self._dir / "index", target)


def _alternate(folder: Path) -> bytes:
    """Return a line of ``objects/info/alternates``, quoted as in C, so that every path is safe."""
    escaped = os.fsencode(folder).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'


def _info(tree: Listing) -> bytes:
    """Return the input of ``git update-index --index-info``."""
    return _bytes("".join(f"{entry.mode} {entry.oid}\t{path}\0" for path, entry in sorted(tree.files.items())))


def _bytes(paths: str) -> bytes:
    return paths.encode("utf-8", "surrogateescape")
