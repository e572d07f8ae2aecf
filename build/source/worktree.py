"""Uncommitted work as a commit outside the repository.

The snapshot has the present state: staged, unstaged and new files that are not ignored, deletions, modes. The user's
index and objects stay unchanged, with their timestamps: git works on a copy of the index and writes objects to a
temporary folder. Filters do not run: a file's bytes are taken as they are, with git's line endings.

Only files that images hold are read. Files that are left out are reported: nested repositories, files that git was told
to ignore changes of, and files too large for an overlay.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from build.engine.names import Stem
from build.errors import SourceError
from build.host import scratch
from build.source.git import Git, GitError
from build.source.listing import SUBMODULE, SYMLINK, Apart, blob_id
from build.source.repository import UNPACKED_BYTES, Commit, Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Fixed, so that the same work has the same id, which identifies its image.
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "uncommitted work"), ("EMAIL", "dirty@localhost"))
}

FILE_BYTES = 64 * 2**20
"""Maximum size of a file. vLLM's largest is a few megabytes, and a layer should stay below 100 MB."""

_NESTED = "a repository of its own"
_SUBMODULE = "a submodule"
_SKIPPED, _UNCHANGED = "skip-worktree", "assume-unchanged"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A working tree at one moment.

    Attributes:
        source: Repository with the snapshot's objects; usable while the snapshot is open.
        commit: The work as a commit on top of ``head``.
        head: Checked-out commit.
        tree: Id of the snapshot's tree.
        apart: Files that are left out.
        unfiltered: Files that git would have filtered, taken without their filters.
    """

    source: Repository
    commit: Commit
    head: Commit
    tree: str
    apart: Apart
    unfiltered: tuple[str, ...]

    @property
    def name(self) -> Stem:
        """The name of its image."""
        return Stem.local(self.head.id, tree=self.tree)


@contextlib.contextmanager
def snapshot(
    repository: Repository, *, carried: frozenset[str] = frozenset(), absent: Iterable[str] = ()
) -> Iterator[Snapshot]:
    """Open the working tree of a repository as a commit.

    Args:
        repository: Clone or worktree with checked-out files.
        carried: Top-level entries to read even if the commit does not have them or images do not hold them.
        absent: Top-level entries of the commit that images do not hold.

    Raises:
        SourceError: The repository is bare, has no commit yet, or has merge conflicts.
    """
    folder = repository.work_tree
    if folder is None:
        raise SourceError(
            f"{repository.path} has no uncommitted work: it is bare, or its working tree is unknown",
            hint="give the folder of the files, or leave out --dirty",
        )
    head = repository.commit("HEAD")
    scope = (repository.listing(head).top_level - frozenset(absent)) | carried
    with scratch.folder() as name:
        place = Path(name)
        git = repository.on_copy(place)
        work = _Work(folder=folder, git=git, alone=repository.alone(place), scope=scope, sparse=repository.is_sparse)
        with _told(folder):
            work.require_no_conflicts()
            changes = work.changes()
            tree = work.tree(changes)
            commit = work.commit(tree, head)
            unfiltered = work.filtered(changes.taken)
        with contextlib.closing(Repository(repository.path, more_objects=place / "objects")) as source:
            yield Snapshot(
                source=source, commit=commit, head=head, tree=tree, apart=changes.apart, unfiltered=unfiltered
            )


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except GitError as error:
        raise SourceError(
            f"the uncommitted work in {folder} cannot be read: {error.text}",
            hint=f"check whether `git -C {folder} status` works",
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Changes:
    """The differences from the index.

    Attributes:
        taken: Paths of changed files.
        removed: Paths of deleted files.
        apart: Files that are left out.
    """

    taken: tuple[str, ...]
    removed: tuple[str, ...]
    apart: Apart


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A working tree with a copy of its index.

    Attributes:
        folder: Folder of the working tree.
        git: Git for reading (:meth:`Repository.on_copy`).
        alone: Git for writing (:meth:`Repository.alone`).
        scope: Top-level entries to read.
        sparse: Whether the working tree may be sparse.
    """

    folder: Path
    git: Git
    alone: Git
    scope: frozenset[str]
    sparse: bool

    def require_no_conflicts(self) -> None:
        """Refuse merge conflicts, because files with conflict markers would count as resolved."""
        if unmerged := _names(self.git.output("ls-files", "--unmerged", "-z")):
            raise SourceError(
                f"{self.folder} is in the middle of a merge: {unmerged[0].partition(chr(9))[2]} has conflicts",
                hint="resolve the conflicts, then run this again",
            )

    def changes(self) -> _Changes:
        """Compare the files with the index. Files with unchanged timestamps are not read."""
        taken, removed, counted = [], [], Counter[str]()
        named = {**self._submodules(), **self._marked()}
        for path in dict.fromkeys((*self._modified(), *self._new())):
            top = path.partition("/")[0]
            if path.endswith("/"):
                named[path.rstrip("/")] = _NESTED
            elif top not in self.scope:
                counted[top] += 1
            elif (status := _status(self.folder / path)) is None:
                removed.append(path)
            elif why := _unfit(status):
                named[path] = why
            else:
                taken.append(path)
        return _Changes(taken=tuple(taken), removed=tuple(removed), apart=Apart(named=named, counted=counted))

    def _modified(self) -> Iterable[str]:
        """Return the paths of changed and deleted files, including those that differ only in timestamps."""
        words = ("diff-files", "--name-only", "-z", "--no-renames", "--ignore-submodules=all")
        return _names(self.git.output(*words))

    def _new(self) -> Iterable[str]:
        """Return untracked paths that are not ignored. A nested repository's path ends with a slash."""
        return _names(self.git.output("ls-files", "--others", "--exclude-standard", "-z"))

    def _submodules(self) -> Mapping[str, str]:
        """Return the checked-out submodules."""
        rows = (row.partition("\t") for row in _names(self.git.output("ls-files", "--stage", "-z")))
        found = (path for facts, _, path in rows if facts.startswith(SUBMODULE))
        return {path: _SUBMODULE for path in found if (self.folder / path / ".git").exists()}

    def _marked(self) -> Mapping[str, str]:
        """Return the files that differ although git was told not to compare them (git-update-index(1))."""
        marks = [one for one in map(_Mark.parse, _names(self.git.output("ls-files", "-v", "--stage", "-z"))) if one]
        within = [one for one in marks if one.path.partition("/")[0] in self.scope]
        readable = [one.path for one in within if _is_plain(self.folder / one.path)]
        hashes = dict(zip(readable, self._hashes(readable), strict=True))
        return {
            one.path: f"marked {one.mark}; `git update-index --no-{one.mark} {one.path}` takes it"
            for one in within
            if self._differs(one, hashes.get(one.path))
        }

    def _hashes(self, paths: list[str]) -> list[str]:
        """Return the blob ids of some files."""
        names = (f'"{path.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"' for path in paths)
        lines = "".join(name.replace("\n", "\\n") + "\n" for name in names)
        return self.git.text("hash-object", "--stdin-paths", stdin=os.fsencode(lines)).split() if paths else []

    def _differs(self, one: _Mark, found: str | None) -> bool:
        """Return whether a file differs from the index. Files left out by a sparse checkout do not."""
        file = self.folder / one.path
        if _status(file) is None:
            return not (one.mark == _SKIPPED and self.sparse)
        if file.is_symlink():
            found = blob_id(os.fsencode(file.readlink()))
        return found != one.oid or file.is_symlink() != (one.mode == SYMLINK)

    def tree(self, changes: _Changes) -> str:
        """Write the tree with some changes and return its id."""
        rows = self.git.output("ls-files", "--stage", "-z")
        self.alone.output("update-index", "-z", "--index-info", stdin=rows)
        self._bring(rows, frozenset(changes.taken))
        if changes.removed:
            self.alone.output("update-index", "--force-remove", "-z", "--stdin", stdin=_lines(changes.removed))
        if changes.taken:
            self.alone.output("update-index", "--add", "--replace", "-z", "--stdin", stdin=_lines(changes.taken))
        # Unchanged objects are missing here, and a partial clone lacks contents of files that are not checked out.
        return self.alone.text("write-tree", "--missing-ok")

    def _bring(self, rows: bytes, paths: frozenset[str]) -> None:
        """Copy some files' indexed blobs: git's line ending conversion depends on their carriage returns."""
        entries = (row.partition("\t") for row in _names(rows))
        oids = {facts.split()[1] for facts, _, path in entries if path in paths and not facts.startswith(SUBMODULE)}
        asked = "".join(f"{oid}\n" for oid in sorted(oids)).encode("ascii")
        known = map(str.split, self.git.text("cat-file", "--batch-check", stdin=asked).splitlines())
        if found := [words[0] for words in known if words[1] == "blob" and int(words[2]) <= FILE_BYTES]:
            lines = "\n".join(found).encode("ascii")
            pack = self.git.output("pack-objects", "--quiet", "--stdout", stdin=lines, limit=UNPACKED_BYTES)
            self.alone.output("unpack-objects", "-q", stdin=pack)

    def commit(self, tree: str, head: Commit) -> Commit:
        """Write a commit of a tree on top of the checked-out one."""
        date = {f"GIT_{who}_DATE": f"@{head.timestamp} +0000" for who in ("AUTHOR", "COMMITTER")}
        subject = f"Uncommitted work on {head.short}"
        git = self.git.given({**_IDENTITY, **date})
        oid = git.text("commit-tree", tree, "-p", head.id, "-m", subject)
        return Commit(id=oid, subject=subject, timestamp=head.timestamp)

    def filtered(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """Return the paths with a filter in their attributes."""
        if not paths:
            return ()
        rows = _names(self.git.output("check-attr", "-z", "--stdin", "filter", stdin=_lines(paths)))
        found = zip(rows[::3], rows[2::3], strict=True)
        return tuple(path for path, value in found if value not in ("unspecified", "unset"))


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """An index entry that git does not compare with its file.

    Attributes:
        path: Path of the file.
        mark: Name of the mark.
        mode: Mode in the index.
        oid: Id of the indexed blob.
    """

    path: str
    mark: str
    mode: str
    oid: str

    @classmethod
    def parse(cls, row: str) -> Self | None:
        """Parse a row of ``git ls-files -v --stage``. Return None for an unmarked entry."""
        facts, _, path = row.partition("\t")
        flag, mode, oid, _ = facts.split(" ")
        mark = _SKIPPED if flag in "Ss" else _UNCHANGED if flag.islower() else None
        return cls(path=path, mark=mark, mode=mode, oid=oid) if mark and mode != SUBMODULE else None


def _status(file: Path) -> os.stat_result | None:
    """Return the status of a file or link, or None if it is missing, a folder, or behind a symbolic link."""
    try:
        status = file.lstat()
        return None if stat.S_ISDIR(status.st_mode) or file.parent.resolve() != file.parent else status
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_plain(file: Path) -> bool:
    """Return whether a path is a regular file within the size limit."""
    status = _status(file)
    return status is not None and stat.S_ISREG(status.st_mode) and _unfit(status) is None


def _unfit(status: os.stat_result) -> str | None:
    """Return why a file is left out, or None."""
    if stat.S_ISLNK(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        return "neither a file nor a link"
    if status.st_size > FILE_BYTES:
        return f"{status.st_size / 1e6:.0f} MB, over the limit of {FILE_BYTES / 1e6:.0f} MB"
    return None


def _names(raw: bytes) -> list[str]:
    return [os.fsdecode(name) for name in raw.split(b"\0") if name]


def _lines(paths: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)
