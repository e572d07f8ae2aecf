"""Uncommitted work as a commit that is in no repository.

The working tree is taken as it is: staged, unstaged and new files that are not ignored, deletions, modes. The
user's index and objects stay as they are, their time stamps too: git works on a copy of the index and writes objects
to a throw-away folder. No filter is run: a file goes in with the bytes that lie there, its line
ends as git keeps them.

Only what images can hold is read. What is left out is named: repositories within, files that the user told git not to
look at, files too large for an overlay.
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

# Fixed, so that the same work has the same id: that is how an image of it is recognised.
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "uncommitted work"), ("EMAIL", "dirty@localhost"))
}

FILE_BYTES = 64 * 2**20
"""Size of a file up to which it is taken: vLLM's largest is a few megabytes, and a layer is to stay below 100 MB."""

_NESTED = "a repository of its own"
_SUBMODULE = "a submodule"
_SKIPPED, _UNCHANGED = "skip-worktree", "assume-unchanged"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A working tree at one moment.

    Attributes:
        source: The repository together with the snapshot's objects; usable while the snapshot is open.
        commit: The work as a commit on top of ``head``.
        head: What was checked out.
        tree: Id of its tree.
        apart: What is not in it.
        unfiltered: Files in it that git would have handed to a filter, as they lie in the working tree.
    """

    source: Repository
    commit: Commit
    head: Commit
    tree: str
    apart: Apart
    unfiltered: tuple[str, ...]

    @property
    def name(self) -> Stem:
        """What its image is called."""
        return Stem.local(self.head.id, tree=self.tree)


@contextlib.contextmanager
def snapshot(
    repository: Repository, *, carried: frozenset[str] = frozenset(), absent: Iterable[str] = ()
) -> Iterator[Snapshot]:
    """The working tree of a repository as a commit, while the block runs.

    Args:
        repository: A clone or worktree with files checked out.
        carried: Top-level entries that are read although the commit does not have them, or images do not hold them.
        absent: Top-level entries of the commit that images do not hold.

    Raises:
        SourceError: It is bare, has no commit yet, or is in the middle of a merge.
    """
    folder = repository.work_tree
    if folder is None:
        raise SourceError(
            f"{repository.path} is bare, or its working tree is elsewhere: it has no uncommitted work",
            hint="name the folder of the files, or leave out --dirty",
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
            hint=f"see whether `git -C {folder} status` works",
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Changes:
    """What differs from the index.

    Attributes:
        taken: Paths of files that are read.
        removed: Paths of files that are gone.
        apart: The rest.
    """

    taken: tuple[str, ...]
    removed: tuple[str, ...]
    apart: Apart


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A working tree, with a copy of its index.

    Attributes:
        folder: The working tree.
        git: Git on it.
        alone: Git on it that writes.
        scope: Top-level entries that are read.
        sparse: Whether files may be left out of it on purpose.
    """

    folder: Path
    git: Git
    alone: Git
    scope: frozenset[str]
    sparse: bool

    def require_no_conflicts(self) -> None:
        """Refuse a merge that is not done: adding would take the files for resolved, markers and all."""
        if unmerged := _names(self.git.output("ls-files", "--unmerged", "-z")):
            raise SourceError(
                f"{self.folder} is in the middle of a merge: {unmerged[0].partition(chr(9))[2]} has conflicts",
                hint="resolve the conflicts, then run this again",
            )

    def changes(self) -> _Changes:
        """Compare the files with the index, reading none whose time stamps are as they were."""
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
        """Paths of the index whose files are others, or gone; with those whose time stamps alone are others."""
        words = ("diff-files", "--name-only", "-z", "--no-renames", "--ignore-submodules=all")
        return _names(self.git.output(*words))

    def _new(self) -> Iterable[str]:
        """Paths that are not in the index and not ignored; that of a repository within ends with a slash."""
        return _names(self.git.output("ls-files", "--others", "--exclude-standard", "-z"))

    def _submodules(self) -> Mapping[str, str]:
        """Those that are checked out."""
        rows = (row.partition("\t") for row in _names(self.git.output("ls-files", "--stage", "-z")))
        found = (path for facts, _, path in rows if facts.startswith(SUBMODULE))
        return {path: _SUBMODULE for path in found if (self.folder / path / ".git").exists()}

    def _marked(self) -> Mapping[str, str]:
        """Files that git was told not to look at and that differ all the same (git-update-index(1))."""
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
        """Ids that the contents of some files would have."""
        names = (f'"{path.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"' for path in paths)
        lines = "".join(name.replace("\n", "\\n") + "\n" for name in names)
        return self.git.text("hash-object", "--stdin-paths", stdin=os.fsencode(lines)).split() if paths else []

    def _differs(self, one: _Mark, found: str | None) -> bool:
        """Whether a file is another than in the index; one that a sparse checkout leaves out is not."""
        file = self.folder / one.path
        if _status(file) is None:
            return not (one.mark == _SKIPPED and self.sparse)
        if file.is_symlink():
            found = blob_id(os.fsencode(file.readlink()))
        return found != one.oid or file.is_symlink() != (one.mode == SYMLINK)

    def tree(self, changes: _Changes) -> str:
        """Id of the tree with some changes."""
        rows = self.git.output("ls-files", "--stage", "-z")
        self.alone.output("update-index", "-z", "--index-info", stdin=rows)
        self._bring(rows, frozenset(changes.taken))
        if changes.removed:
            self.alone.output("update-index", "--force-remove", "-z", "--stdin", stdin=_lines(changes.removed))
        if changes.taken:
            self.alone.output("update-index", "--add", "--replace", "-z", "--stdin", stdin=_lines(changes.taken))
        # What did not change is not here, and a partial clone lacks contents of files that are not checked out.
        return self.alone.text("write-tree", "--missing-ok")

    def _bring(self, rows: bytes, paths: frozenset[str]) -> None:
        """Have what the index holds of some files: whether it has carriage returns decides what becomes of theirs."""
        entries = (row.partition("\t") for row in _names(rows))
        oids = {facts.split()[1] for facts, _, path in entries if path in paths and not facts.startswith(SUBMODULE)}
        asked = "".join(f"{oid}\n" for oid in sorted(oids)).encode("ascii")
        known = map(str.split, self.git.text("cat-file", "--batch-check", stdin=asked).splitlines())
        if found := [words[0] for words in known if words[1] == "blob" and int(words[2]) <= FILE_BYTES]:
            lines = "\n".join(found).encode("ascii")
            pack = self.git.output("pack-objects", "--quiet", "--stdout", stdin=lines, limit=UNPACKED_BYTES)
            self.alone.output("unpack-objects", "-q", stdin=pack)

    def commit(self, tree: str, head: Commit) -> Commit:
        """A commit of a tree on what is checked out."""
        date = {f"GIT_{who}_DATE": f"@{head.timestamp} +0000" for who in ("AUTHOR", "COMMITTER")}
        subject = f"Uncommitted work on {head.short}"
        git = self.git.given({**_IDENTITY, **date})
        oid = git.text("commit-tree", tree, "-p", head.id, "-m", subject)
        return Commit(id=oid, subject=subject, timestamp=head.timestamp)

    def filtered(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """Those of some paths that attributes assign a filter to."""
        if not paths:
            return ()
        rows = _names(self.git.output("check-attr", "-z", "--stdin", "filter", stdin=_lines(paths)))
        found = zip(rows[::3], rows[2::3], strict=True)
        return tuple(path for path, value in found if value not in ("unspecified", "unset"))


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """An entry of the index that git does not compare with its file.

    Attributes:
        path: Its path.
        mark: What it is marked.
        mode: Its mode.
        oid: The id of its content.
    """

    path: str
    mark: str
    mode: str
    oid: str

    @classmethod
    def parse(cls, row: str) -> Self | None:
        """From a row of ``git ls-files -v --stage``; None for any other entry."""
        facts, _, path = row.partition("\t")
        flag, mode, oid, _ = facts.split(" ")
        mark = _SKIPPED if flag in "Ss" else _UNCHANGED if flag.islower() else None
        return cls(path=path, mark=mark, mode=mode, oid=oid) if mark and mode != SUBMODULE else None


def _status(file: Path) -> os.stat_result | None:
    """Status of a file or link; None if there is none: a folder in its place, or a link on the way to it."""
    try:
        status = file.lstat()
        return None if stat.S_ISDIR(status.st_mode) or file.parent.resolve() != file.parent else status
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_plain(file: Path) -> bool:
    """Whether it is a file that is taken by its size, and not a link."""
    status = _status(file)
    return status is not None and stat.S_ISREG(status.st_mode) and _unfit(status) is None


def _unfit(status: os.stat_result) -> str | None:
    """Why a file is not taken; None for one that is."""
    if stat.S_ISLNK(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        return "neither a file nor a link"
    if status.st_size > FILE_BYTES:
        return f"{status.st_size / 1e6:.0f} MB, files up to {FILE_BYTES / 1e6:.0f} MB are taken"
    return None


def _names(raw: bytes) -> list[str]:
    return [os.fsdecode(name) for name in raw.split(b"\0") if name]


def _lines(paths: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)
