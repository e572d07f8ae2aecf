"""A git repository that is read and never written to."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import git
from git.exc import GitCommandError, InvalidGitRepositoryError, NoSuchPathError

from build import scratch
from build.errors import SourceError
from build.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Git then writes nothing, asks nothing and fetches nothing. The user named the repository, so that another owner of
# its files is no reason to refuse; safe.directory counts in the environment's configuration (git-config(1), SCOPES).
# A file system monitor is a program that the repository names and that `git status` would start.
ISOLATED = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    # Twice, because only git 2.45 knows the first: no transport is allowed, so that a partial clone fetches nothing.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    # A commit's id promises its content; refs/replace would put other content in its place.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "core.fsmonitor",
    "GIT_CONFIG_VALUE_1": "false",
    "LC_ALL": "C",
}

FULL_ID = re.compile(r"[0-9a-f]{40}")
_SHORT_ID = re.compile(r"[0-9a-fA-F]{4,39}")
"""Git takes no fewer digits for an id (git-config(1), core.abbrev)."""

# The last one of the year 9999.
_LAST_SECOND = 253402300799

# Of vLLM's tags (v0.32.0, v0.33.0rc1), and those of variants of a release.
_NO_RELEASES = ("--exclude=*rc*", "--exclude=*-*")

SHORT_DIGITS = 12
"""Digits of a commit id that tables and messages show."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit of a vLLM tree.

    Attributes:
        id: All 40 digits.
        subject: First line of its message.
        timestamp: Committer's date, seconds since 1970.
    """

    id: str
    subject: str
    timestamp: int

    @property
    def short(self) -> str:
        """The first 12 digits: what tags and tables show."""
        return self.id[:SHORT_DIGITS]


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release of vLLM.

    Attributes:
        version: Such as ``0.32.0``.
        commit: Its commit.
    """

    version: str
    commit: Commit


class Repository:
    """A repository on this machine: a clone, a worktree, or a bare one.

    Args:
        path: Its folder, or its git directory.
        more_objects: A folder of further objects, which are read as if they were the repository's.

    Raises:
        SourceError: No such folder, or it is no repository.
    """

    def __init__(self, path: Path, *, more_objects: Path | None = None) -> None:
        path = _expanded(path)
        if path.name == ".git" and path.is_file():
            # A linked worktree's, or a submodule's: it only points to the git directory.
            path = path.parent
        try:
            self._repo = git.Repo(path, search_parent_directories=path.name != ".git", expand_vars=False)
        except NoSuchPathError as error:
            raise SourceError(
                f"there is no {path}", hint="give the path of a vLLM clone: `dev -- PATH [REF]`"
            ) from error
        except InvalidGitRepositoryError as error:
            raise SourceError(
                f"{path} is no git repository{_broken_link(path)}",
                hint="give the path of a vLLM clone: `dev -- PATH [REF]`",
            ) from error
        self.path = path
        self.git_dir = Path(self._repo.git_dir).absolute()
        self._git = self._repo.git
        # Named outright: GitPython expands variables in the folder that git is to run in, and where there is no such
        # folder git would run in ours and read whatever repository that is.
        self._git.update_environment(**ISOLATED, GIT_DIR=str(self.git_dir))
        if self.work_tree:
            self._git.update_environment(GIT_WORK_TREE=str(self.work_tree))
        self._more_objects = more_objects
        if more_objects:
            self._git.update_environment(GIT_ALTERNATE_OBJECT_DIRECTORIES=quoted(more_objects))

    def close(self) -> None:
        """End the helper processes that git keeps open."""
        self._repo.close()

    @property
    def objects(self) -> tuple[Path, ...]:
        """The folders of its object databases, absolute."""
        own = (Path(self._repo.common_dir) / "objects").resolve()
        return (own, self._more_objects) if self._more_objects else (own,)

    @functools.cached_property
    def work_tree(self) -> Path | None:
        """The folder of its files, absolute; None for a bare repository, or where nothing says which folder it is.

        A git directory says so itself if it is called ``.git``, belongs to a linked worktree (gitrepository-layout(5),
        worktrees/<id>/gitdir), or sets core.worktree, relative to itself (git-config(1)). Else the folder does that it
        was found through, by a file ``.git``.
        """
        if self._repo.bare:
            return None
        with self._repo.config_reader("repository") as config:
            named = str(config.get_value("core", "worktree", ""))
        if named:
            return (self.git_dir / named).resolve()
        if self.git_dir.name == ".git":
            return self.git_dir.parent
        linked = self.git_dir / "gitdir"
        if linked.is_file():
            return Path(linked.read_text(encoding="utf-8", errors="surrogateescape").strip()).parent
        through = next((one for one in (self.path, *self.path.absolute().parents) if (one / ".git").is_file()), None)
        return through.absolute() if through else None

    @property
    def index(self) -> Path:
        """The index of its working tree; the file need not exist."""
        return self.git_dir / "index"

    @property
    def is_dirty(self) -> bool:
        """Whether the working tree holds changes, staged or not, or new files that are not ignored.

        Raises:
            SourceError: Git cannot tell.
        """
        if self.work_tree is None:
            return False
        try:
            # A filter of git-lfs keeps a copy of what it reads.
            with scratch.folder() as name:
                asked = self._git(c=f"lfs.storage={name}")
                return bool(asked.status("--porcelain", "--untracked-files=normal").strip())
        except GitCommandError as error:
            raise SourceError(
                f"git cannot tell whether {self.path} has uncommitted work: {_last_word(error)}",
                hint=f"see what `git -C {self.path} status` says",
            ) from error

    def commit(self, ref: str) -> Commit:
        """The commit that a branch, tag, id or any other commit-ish stands for.

        Raises:
            SourceError: It does not resolve.
        """
        try:
            # `--end-of-options`: a ref that starts with a dash is a ref.
            oid = self._git.rev_parse("--verify", "--quiet", "--end-of-options", ref)
            if not FULL_ID.fullmatch(oid):
                raise self._no_commit(ref, "it is a range" if oid.startswith("^") else "its ids are SHA-256's")
            # Only now: `:/text^{commit}` is another text.
            commit = f"{oid}^{{commit}}"
            shown = self._git.log("-1", "--no-patch", "--no-show-signature", "--format=%H%x00%ct%x00%s", commit, "--")
        except GitCommandError as error:
            if len(found := self._beginning(ref)) > 1:
                raise SourceError(
                    f"{ref!r} is ambiguous in {self.path}: {', '.join(found)}", hint="give more digits"
                ) from error
            raise self._no_commit(ref, _last_word(error)) from error
        full, seconds, subject = shown.split("\0", 2)
        return Commit(id=full, subject=subject, timestamp=_timestamp(seconds))

    def _no_commit(self, ref: str, why: str) -> SourceError:
        return SourceError(
            f"{ref!r} names no commit in {self.path}{why and f': {why}'}",
            hint=f"`git -C {self.path} log --oneline -5` shows some that exist",
        )

    def release(self, commit: Commit) -> Release | None:
        """The newest release in a commit's history, by its tag; None without one."""
        try:
            tag = self._git.describe("--tags", "--abbrev=0", "--match=v[0-9]*", *_NO_RELEASES, commit.id)
        except GitCommandError:
            return None
        return Release(version=tag.removeprefix("v"), commit=self.commit(f"refs/tags/{tag}"))

    def parents(self, oid: str) -> list[str]:
        """Ids of a commit's parents, those of a shallow clone's oldest commits too."""
        raw: str = self._git.cat_file("commit", oid)
        head = raw.partition("\n\n")[0].splitlines()
        return [line.removeprefix("parent ") for line in head if line.startswith("parent ")]

    def published(self, oid: str) -> list[Listing]:
        """Trees of the newest commits in a commit's history that a remote or a tag is known to have."""
        rows = self._git.rev_list("--boundary", oid, "--not", "--remotes", "--tags").split()
        found = [row.removeprefix("-") for row in rows if row.startswith("-")] if rows else [oid]
        return [self.listing(self.commit(one)) for one in found]

    def _beginning(self, digits: str) -> list[str]:
        """Ids of the commits that begin with these digits."""
        if not _SHORT_ID.fullmatch(digits):
            return []
        found = self._git.rev_parse(f"--disambiguate={digits}").split()
        return [oid for oid in found if self._git.cat_file("-t", oid) == "commit"]

    def listing(self, commit: Commit) -> Listing:
        """All files and trees of a commit.

        Raises:
            SourceError: The repository was cloned without trees.
        """
        try:
            text = self._git.ls_tree(
                "-r", "-t", "-z", "--full-tree", commit.id, stdout_as_string=False, strip_newline_in_stdout=False
            )
        except GitCommandError as error:
            raise self._partial("folders of the commit") from error
        listing = Listing.parse(text)
        root = self._git.rev_parse(f"{commit.id}^{{tree}}")
        return Listing(files=listing.files, trees={"": root, **listing.trees})

    def holds(self, oid: str) -> bool:
        """Whether an object is in the repository."""
        try:
            self._git.cat_file("-e", oid)
        except GitCommandError:
            return False
        return True

    def present(self, oids: Iterable[str]) -> list[str]:
        """Those of some blobs that the repository has, sorted; none of a partial clone, where asking would fetch."""
        asked = sorted(oids)
        try:
            self.sizes(asked)
        except SourceError:
            return []
        return asked

    def sizes(self, oids: Iterable[str]) -> list[int]:
        """Bytes of some objects, in their order.

        Raises:
            SourceError: The repository does not have one of them: it was cloned without blobs.
        """
        with tempfile.TemporaryFile() as asked:
            asked.write("".join(f"{oid}\n" for oid in oids).encode("ascii"))
            asked.seek(0)
            try:
                rows = self._git.cat_file("--batch-check=%(objectsize)", "--buffer", istream=asked)
                return [int(row) for row in rows.split()]
            except (GitCommandError, ValueError) as error:
                raise self._partial("file contents of the commit") from error

    @contextlib.contextmanager
    def blob(self, oid: str) -> Iterator[tuple[int, IO[bytes]]]:
        """Size in bytes and content of a blob, streamed; all of it is read or skipped when the block ends.

        Raises:
            SourceError: The repository does not have it: it was cloned without blobs.
        """
        try:
            _, _, size, stream = self._git.stream_object_data(oid)
        except ValueError as error:
            raise self._partial(f"file contents of the commit (blob {oid[:SHORT_DIGITS]})") from error
        # GitPython calls its reader of one object a stream without saying that it is one.
        try:
            yield size, cast("IO[bytes]", stream)
        finally:
            stream.read()

    def _partial(self, what: str) -> SourceError:
        return SourceError(
            f"{self.path} lacks {what}: it is a partial clone",
            hint=f"check the commit out in {self.path} once, which fetches them; then run this again",
        )


def quoted(path: Path) -> str:
    """A path for a variable of git's that lists several (git(1), GIT_ALTERNATE_OBJECT_DIRECTORIES)."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _last_word(error: GitCommandError) -> str:
    """The last line that git said; GitPython puts it all in quotes."""
    lines = str(error.stderr).strip().removeprefix("stderr: ").strip("'").splitlines()
    return lines[-1] if lines else ""


def _timestamp(seconds: str) -> int:
    """A committer's date; what no clock or archive can show becomes one that they can."""
    return min(max(int(seconds), 0), _LAST_SECOND) if re.fullmatch(r"-?[0-9]+", seconds) else 0


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise SourceError(f"there is no {path}: {error}", hint="give the path of a vLLM clone") from error


def _broken_link(path: Path) -> str:
    """What a file ``.git`` points to that is not there, in words."""
    try:
        text = (path / ".git").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f": its .git points to {text.removeprefix('gitdir:').strip()}"


def without_git_variables() -> None:
    """Forget ``GIT_DIR`` and its like, which a hook or alias sets and which would redirect every git call."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        os.environ.pop(name, None)
