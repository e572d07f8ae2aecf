"""A git repository for reading only."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from build.errors import SourceError
from build.host import scratch
from build.source.git import OBJECT_BYTES, Batch, Git, GitError
from build.source.listing import SUBMODULE, Listing
from build.source.view import find, missing_alternates, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FULL_ID = re.compile(r"[0-9a-f]{40}")
_SHORT_ID = re.compile(r"[0-9a-fA-F]{4,39}")
"""The minimum number of digits of an id in git (git-config(1), core.abbrev)."""

# The last second of the year 9999.
_LAST_SECOND = 253402300799

# Tags of vLLM that are not final releases (v0.33.0rc1), and of variants of a release.
_NO_RELEASES = ("--exclude=*rc*", "--exclude=*-*")

UNPACKED_BYTES = 2**30
"""Maximum total size of a commit's files."""

SHORT_DIGITS = 12
"""Number of digits of a commit id in tables and messages."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit of a vLLM tree.

    Attributes:
        id: Full id, 40 digits.
        subject: First line of the message.
        timestamp: Committer date in seconds since 1970.
    """

    id: str
    subject: str
    timestamp: int

    @property
    def short(self) -> str:
        """The first 12 digits, for tags and tables."""
        return self.id[:SHORT_DIGITS]


@dataclass(frozen=True, kw_only=True)
class TaggedRelease:
    """A release of vLLM.

    Attributes:
        version: Version, such as ``0.32.0``.
        commit: Commit of the tag.
    """

    version: str
    commit: Commit


class Repository:
    """A repository on this machine: a clone, a worktree, or a bare one.

    Args:
        path: Folder of the repository, or its git directory.
        more_objects: Folder of further objects, which are read like the repository's.

    Raises:
        SourceError: The folder does not exist, or is not a repository.
    """

    def __init__(self, path: Path, *, more_objects: Path | None = None) -> None:
        path = _expanded(path)
        # In a linked worktree or submodule, .git is a file that points to the git directory.
        self.path = path.parent if path.name == ".git" and path.is_file() else path
        self._more_objects = more_objects
        with contextlib.ExitStack() as held:
            try:
                self._place = find(path)
                self._git = self._seen(Path(held.enter_context(scratch.folder())))
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                raise SourceError(
                    f"{path} cannot be read: {error}", hint=f"check whether `git -C {path} log` works"
                ) from error
            self._batch = Batch(self._git)
            held.callback(self._batch.close)
            self._held = held.pop_all()

    def _seen(self, folder: Path) -> Git:
        """Write a view to a folder and return git on it."""
        view = write(folder, self._place)
        seen = Git.sealed(view, name=str(self.path))
        if self.work_tree:
            seen = seen.given({"GIT_WORK_TREE": str(self.work_tree)})
        if self._more_objects:
            seen = seen.given({"GIT_ALTERNATE_OBJECT_DIRECTORIES": quoted(self._more_objects)})
        return seen

    def close(self) -> None:
        """End the git process and remove the view."""
        self._held.close()

    @property
    def objects(self) -> tuple[Path, ...]:
        """The absolute folders of its object databases."""
        own = (self._place.common_dir / "objects").resolve()
        return (own, self._more_objects) if self._more_objects else (own,)

    @property
    def work_tree(self) -> Path | None:
        """The absolute folder of its files; None for a bare repository, or if the folder is unknown."""
        return self._place.work_tree

    @property
    def is_users(self) -> bool:
        """Whether it belongs to the user of this process."""
        return self._place.is_users

    @property
    def is_sparse(self) -> bool:
        """Whether its working tree is sparse."""
        return self._place.is_sparse

    @property
    def origin(self) -> str | None:
        """The address of the remote that it was cloned from."""
        return self._place.settings.get("remote.origin.url")

    def on_copy(self, place: Path) -> Git:
        """Return git on its working tree, with a copy of the index and new objects in a folder.

        Args:
            place: Empty folder.

        Raises:
            SourceError: The working tree does not exist.
        """
        if self.work_tree and not self.work_tree.is_dir():
            raise SourceError(
                f"the working tree of {self.path} does not exist: {self.work_tree}",
                hint="give the folder of the files, or correct core.worktree",
            )
        index = self._place.git_dir / "index"
        if index.is_file():
            # copy2 keeps the timestamps, so that git does not read unchanged files.
            shutil.copy2(index, place / "index")
        (place / "objects").mkdir()
        variables = {
            "GIT_INDEX_FILE": str(place / "index"),
            "GIT_OBJECT_DIRECTORY": str(place / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.pathsep.join(map(quoted, self.objects)),
        }
        return self._git.given(variables, cwd=self.work_tree)

    def alone(self, place: Path) -> Git:
        """Return git like :meth:`on_copy`, with an empty index and without the repository's objects.

        Git updates the timestamp of an existing object instead of writing it again, even in a borrowed database (git
        2.39, object-file.c, write_object_file). Without the repository's objects, they stay unchanged.

        Args:
            place: Folder that :meth:`on_copy` prepared.
        """
        variables = {"GIT_INDEX_FILE": str(place / "alone"), "GIT_OBJECT_DIRECTORY": str(place / "objects")}
        return self._git.given({**variables, "GIT_ALTERNATE_OBJECT_DIRECTORIES": ""}, cwd=self.work_tree)

    @property
    def is_dirty(self) -> bool:
        """Whether the working tree has staged or unstaged changes, or new files that are not ignored.

        Changes inside submodules do not count, and filters do not run.

        Raises:
            SourceError: Git failed.
        """
        if self.work_tree is None:
            return False
        words = ("status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=all", "-z")
        try:
            with scratch.folder() as name:
                return bool(self.on_copy(Path(name)).output(*words))
        except GitError as error:
            raise SourceError(
                f"git cannot tell whether {self.path} has uncommitted work: {error.last_line}",
                hint=f"run `git -C {self.path} status` to see why",
            ) from error

    def commit(self, ref: str) -> Commit:
        """Return the commit of a branch, tag, id or any other commit-ish.

        Raises:
            SourceError: The ref does not resolve to a commit.
        """
        try:
            # `--end-of-options`: a ref may start with a dash.
            oid = self._git.text("rev-parse", "--verify", "--quiet", "--end-of-options", ref)
            if not FULL_ID.fullmatch(oid):
                raise self._no_commit(ref, "it is a range" if oid.startswith("^") else "its ids are SHA-256's")
            # Added only to the id: in `:/text^{commit}` it would be part of the text.
            commit = f"{oid}^{{commit}}"
            shown = self._git.text(
                "log", "-1", "--no-patch", "--no-show-signature", "--format=%H%x00%ct%x00%s", commit, "--"
            )
        except (GitError, ValueError) as error:
            if len(found := self._beginning(ref)) > 1:
                raise SourceError(
                    f"{ref!r} is ambiguous in {self.path}: {', '.join(found)}", hint="give more digits"
                ) from error
            why = self._why_no_commit(ref) or (error.last_line if isinstance(error, GitError) else str(error))
            raise self._no_commit(ref, why) from error
        full, seconds, subject = shown.split("\0", 2)
        return Commit(id=full, subject=subject, timestamp=_timestamp(seconds))

    def _lacks(self, what: str) -> SourceError | None:
        """Return an error if a folder that it borrows objects from does not exist, else None."""
        gone = missing_alternates(self.objects[0])
        if not gone:
            return None
        return SourceError(
            f"{what}: objects/info/alternates names {gone[0]}, which does not exist",
            hint="restore that folder, or clone again with `--dissociate`",
        )

    def _no_commit(self, ref: str, why: str) -> SourceError:
        return self._lacks(f"{ref!r} names no commit in what is left of {self.path}") or SourceError(
            f"{ref!r} names no commit in {self.path}{why and f': {why}'}",
            hint=f"`git -C {self.path} log --oneline -5` shows some that exist",
        )

    def _why_no_commit(self, ref: str) -> str | None:
        """Return what a ref names instead, or what the repository lacks. None means that git's message must do."""
        verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        with contextlib.suppress(GitError):
            kind = self._git.text("cat-file", "-t", self._git.text(*verify, f"{ref}^{{}}"))
            return None if kind == "commit" else f"it is a {kind}"
        with contextlib.suppress(GitError):
            if self._git.text("rev-parse", "--is-shallow-repository") == "true":
                return "the clone is shallow, `git fetch --unshallow` completes it"
            if not self._git.text("for-each-ref", "--count=1"):
                self._git.text(*verify, "HEAD")
            return None
        return "it has no commit yet"

    def release(self, commit: Commit) -> TaggedRelease | None:
        """Return the newest release in a commit's history by its tag, or None."""
        try:
            tag = self._git.text("describe", "--tags", "--abbrev=0", "--match=v[0-9]*", *_NO_RELEASES, commit.id)
        except GitError:
            return None
        return TaggedRelease(version=tag.removeprefix("v"), commit=self.commit(f"refs/tags/{tag}"))

    def parents(self, oid: str) -> list[str]:
        """Return the ids of a commit's parents, even at the boundary of a shallow clone."""
        head = self._git.text("cat-file", "commit", oid).partition("\n\n")[0].splitlines()
        return [line.removeprefix("parent ") for line in head if line.startswith("parent ")]

    def published(self, oid: str) -> list[Listing]:
        """Return the trees of the newest commits in a commit's history that a remote or tag has."""
        rows = self._git.text("rev-list", "--boundary", oid, "--not", "--remotes", "--tags").split()
        found = [row.removeprefix("-") for row in rows if row.startswith("-")] if rows else [oid]
        return [self.listing(self.commit(one)) for one in found]

    def _beginning(self, digits: str) -> list[str]:
        """Return the ids of the commits that begin with these digits."""
        if not _SHORT_ID.fullmatch(digits):
            return []
        found = self._git.text("rev-parse", f"--disambiguate={digits}").split()
        return [oid for oid in found if self._git.text("cat-file", "-t", oid) == "commit"]

    def listing(self, commit: Commit) -> Listing:
        """Return all files and trees of a commit.

        Raises:
            SourceError: The repository was cloned without trees, the listing exceeds the limit, or a name in it is one
                that git does not check out.
        """
        try:
            text = self._git.output("ls-tree", "-r", "-t", "-z", "--full-tree", commit.id)
            root = self._git.text("rev-parse", f"{commit.id}^{{tree}}")
        except GitError as error:
            raise self._partial("folders of the commit") from error
        try:
            listing = Listing.parse(text)
        except ValueError as error:
            raise SourceError(f"{commit.short} has no usable tree: {error}", hint="name another commit") from error
        return Listing(files=listing.files, trees={"": root, **listing.trees})

    def holds(self, oid: str) -> bool:
        """Return whether an object is in the repository."""
        try:
            self._git.output("cat-file", "-e", oid)
        except GitError:
            return False
        return True

    def present(self, oids: Iterable[str]) -> list[str]:
        """Return some blobs, sorted, if the repository has them all, else an empty list."""
        asked = sorted(oids)
        try:
            self.sizes(asked)
        except SourceError:
            return []
        return asked

    def sizes(self, oids: Iterable[str]) -> list[int]:
        """Return the sizes of some objects in bytes, in order.

        Raises:
            SourceError: An object is missing: the repository was cloned without blobs.
        """
        asked = "".join(f"{oid}\n" for oid in oids).encode("ascii")
        try:
            rows = self._git.text("cat-file", "--batch-check=%(objectsize)", "--buffer", stdin=asked)
            return [int(row) for row in rows.splitlines()]
        except (GitError, ValueError) as error:
            raise self._partial("file contents of the commit") from error

    @contextlib.contextmanager
    def blob(self, oid: str) -> Iterator[tuple[int, IO[bytes]]]:
        """Open a blob and yield its size in bytes and its content as a stream.

        Raises:
            SourceError: The blob is missing because the repository was cloned without blobs, or it is damaged or too
                large. Damage may show only while reading.
        """
        try:
            size, content = self._batch.open(oid)
        except LookupError as error:
            raise self._partial(f"file contents of the commit (blob {oid[:SHORT_DIGITS]})") from error
        try:
            if size > OBJECT_BYTES:
                raise self._batch.unreadable(oid)
            # Callers use only its method read.
            yield size, cast("IO[bytes]", content)
        finally:
            self._batch.skip(content)

    def described(self) -> str:
        """Return the output of ``git describe`` for the checkout, empty before a first commit."""
        with contextlib.suppress(GitError), scratch.folder() as place:
            return self.on_copy(Path(place)).text("describe", "--tags", "--always", "--abbrev=12", "--dirty")
        return ""

    def changing(self, paths: Sequence[str], *, most: int) -> list[str]:
        """Return the ids of commits that changed some paths: the newest of the remote's branch, then of all branches.

        Args:
            paths: Paths relative to the top folder.
            most: Maximum number for each of them.
        """
        found: list[str] = []
        for where in ("origin/HEAD", "HEAD", "--all"):
            with contextlib.suppress(GitError):
                found += self._git.text("log", f"--max-count={most}", "--format=%H", where, "--", *paths).split()
        return list(dict.fromkeys(found))

    def archive(
        self, commit: Commit, file: Path, *, paths: Sequence[str] = (".",), exclude: Iterable[str] = ()
    ) -> None:
        """Write files of a commit to a tar archive, with their content in the repository.

        Args:
            commit: Commit to read.
            file: Archive to write.
            paths: Paths to include; all by default.
            exclude: Top-level entries to leave out.

        Raises:
            SourceError: The commit is unreadable or too large.
        """
        files = self.listing(commit).files.values()
        require_size(sum(self.sizes(entry.oid for entry in files if entry.mode != SUBMODULE)), of=commit.short)
        try:
            words = (*paths, *(f":(exclude){name}" for name in exclude))
            self._git.output("archive", "--format=tar", "--output", file, commit.id, "--", *words)
        except GitError as error:
            raise SourceError(
                f"{commit.short} cannot be read: {error.last_line}",
                hint=f"run `git -C {self.path} fsck` to look for damage",
            ) from error

    def _partial(self, what: str) -> SourceError:
        return self._lacks(f"{self.path} lacks {what}") or SourceError(
            f"{self.path} lacks {what}: it is a partial clone",
            hint=f"check out the commit in {self.path} once to fetch them, then run this again",
        )


def require_size(size: int, *, of: str) -> None:
    """Refuse to unpack files that are too large for a vLLM tree.

    Raises:
        SourceError: The size exceeds :data:`UNPACKED_BYTES`.
    """
    if size > UNPACKED_BYTES:
        raise SourceError(
            f"{of} has {size / 1e9:.1f} GB of files; the limit is {UNPACKED_BYTES / 1e9:.1f} GB",
            hint="remove large files from the commit: vLLM's whole source is 0.1 GB",
        )


def quoted(path: Path) -> str:
    """Return a path quoted for a list in a variable of git (git(1), GIT_ALTERNATE_OBJECT_DIRECTORIES)."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _timestamp(seconds: str) -> int:
    """Return a committer date, clamped to what clocks and archives can show."""
    return min(max(int(seconds), 0), _LAST_SECOND) if re.fullmatch(r"-?[0-9]+", seconds) else 0


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise SourceError(f"there is no {path}: {error}", hint="give the path of a vLLM clone") from error


def without_git_variables() -> None:
    """Remove ``GIT_DIR`` and similar variables, which a hook or alias sets and which would redirect git."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        os.environ.pop(name, None)
