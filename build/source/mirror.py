"""Commits from GitHub, in a cached repository that fetches only what is needed.

A commit is fetched with its trees, but without history and file contents. A delta fetches the contents that it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from build import errors
from build.errors import DiskError, SourceError, UsageError
from build.host import turn
from build.source.damage import mended
from build.source.git import Git, GitError
from build.source.remotes import REMOTES
from build.source.repository import FULL_ID, Commit, Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from build.console import Console

_SHORT_ID = re.compile(r"[0-9a-fA-F]{7,39}")
_PULL = re.compile(r"(?:pull|pr)/([0-9]+)")
# Addresses of git's own transports. A leading dash would be an option, `ext::` a command (gitremote-helpers(7)).
_ADDRESS = re.compile(r"(?:(?:https?|ssh|git|file)://|[\w.][\w.-]*@[\w.-]+:|/).+")
_PASSWORD = re.compile(r"[a-z+]+://[^/@]*:[^/@]*@|https?://[^/@]+@")

# Messages of curl and ssh about the connection, not about the request.
_TRANSIENT = re.compile(
    r"Could not resolve host|Connection (?:timed out|refused|reset)|Operation (?:timed out|too slow)|early EOF"
    r"|unexpected disconnect|Empty reply from server|The requested URL returned error: (?:429|5\d\d)|RPC failed"
    r"|hung up unexpectedly|Failed to connect|TLS|SSL_"
)


_PATIENCE = ("http.lowSpeedLimit=1000", "http.lowSpeedTime=60")
"""Settings that end a transfer of less than a kilobyte a second for a minute."""


class _TransientGitError(Exception):
    """A failure of git that is worth a retry."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A remote repository.

    Attributes:
        name: Name in messages.
        address: Address for git.
    """

    name: str
    address: str

    @classmethod
    def named(cls, text: str) -> Remote:
        """Return the remote for a known name or an address.

        Raises:
            SourceError: The text is neither.
            UsageError: The address has a password or token, which process lists would show.
        """
        if text in REMOTES:
            return cls(name=text, address=REMOTES[text])
        if _PASSWORD.match(text):
            raise UsageError(
                "--remote is an address with a password or token",
                hint="remove it from the address; git asks its credential helper (gitcredentials(7))",
            )
        if _ADDRESS.fullmatch(text):
            return cls(name=text, address=text)
        raise SourceError(
            f"{text!r} is not a remote", hint=f"give one of {', '.join(REMOTES)}, or the address of a repository"
        )


class Mirror:
    """The cached repository of remote commits.

    Args:
        path: Folder of the repository, created at first use.
        console: Console for progress.
    """

    def __init__(self, path: Path, *, console: Console) -> None:
        self.path = path
        self._console = console
        self._held: set[str] | None = None

    def commit(self, remote: Remote, wanted: str) -> Commit:
        """Return a commit of a remote, fetched if necessary. A damaged cache is fetched again.

        Args:
            remote: Remote of the commit.
            wanted: Full or short id, branch, tag, or ``pull/123``.

        Raises:
            SourceError: The commit does not exist or is ambiguous, or the remote is not reachable.
        """
        return mended(self.path, lambda: self._commit(remote, wanted), alone=self._turn, console=self._console)

    def _commit(self, remote: Remote, wanted: str) -> Commit:
        self._held = None
        with self._alone():
            if FULL_ID.fullmatch(wanted) and (known := self._known(wanted)):
                return known
            with self._console.step(f"fetch {wanted} from {remote.name}"):
                oid = self._resolve(remote, wanted)
                if known := self._known(oid):
                    return known
                self._fetch(remote, oid)
                if known := self._known(oid):
                    return known
        raise SourceError(
            f"{wanted!r} of {remote.name} ({remote.address}) is not a commit", hint="give a commit, branch or tag"
        )

    def tip(self, remote: Remote, branch: str) -> str:
        """Return the full id of a branch's newest commit, without fetching it.

        Raises:
            SourceError: The branch does not exist, or the remote is not reachable.
        """
        with self._alone():
            row = self._git("ls-remote", "--quiet", "--", remote.address, f"refs/heads/{branch}")
        if not row:
            raise SourceError(f"{remote.name} ({remote.address}) has no branch {branch!r}", hint="give a commit")
        return row.partition("\t")[0]

    def ancestors(self, remote: Remote, oid: str, *, count: int) -> list[str]:
        """Return the first-parent ancestors of a commit, the newest first. They are fetched without trees.

        Raises:
            SourceError: The remote does not have the commit, or is not reachable.
        """
        # A separate folder: a shallow fetch does not add history to a commit that is already here.
        history = Mirror(self.path.with_name(f"{self.path.stem}-ancestors.git"), console=self._console)
        options = ("--quiet", f"--depth={count + 1}", "--filter=tree:0", "--no-tags", "--no-write-fetch-head")
        with history._alone():
            history._git("fetch", *options, "--", remote.address, oid)
            return history._git("rev-list", "--first-parent", f"--max-count={count + 1}", oid).split()[1:]

    def fetch_blobs(self, remote: Remote, oids: Iterable[str]) -> None:
        """Fetch the missing ones of some blobs, all at once.

        Raises:
            SourceError: The remote does not have them, or is not reachable.
        """
        wanted = set(oids)
        if wanted <= self._objects():
            return
        with self._alone():
            # Another run may have fetched them meanwhile.
            self._held = None
            missing = sorted(wanted - self._objects())
            if not missing:
                return
            with self._console.step(f"fetch {len(missing)} files from {remote.name}"):
                options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--stdin")
                self._git("fetch", *options, "--", remote.address, lines=missing)
            self._held = None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock and prepare the repository: git does not allow two fetches into one shallow repository.

        Raises:
            BusyError: Another run holds the lock for too long.
            SourceError: Creating the repository failed.
        """
        with self._turn():
            self._prepare()
            yield

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(
                    turn.taken(self.path.parent, self.path.name, doing="fetching commits", console=self._console)
                )
            except OSError as error:
                if isinstance(full := errors.as_ours(error), DiskError):
                    raise full from error
                raise SourceError(
                    f"the mirror is not writable: {error}",
                    hint="give another folder with --cache or LLM_D_DEV_CACHE",
                ) from error
            yield

    def _prepare(self) -> None:
        # The parts that make a folder a git directory (gitrepository-layout(5)). The folder is always given as GIT_DIR:
        # otherwise git would look for a repository around it.
        if not all((self.path / name).exists() for name in ("HEAD", "objects", "refs")):
            self._git_here("init", "--quiet", "--bare", "--initial-branch=none", "--object-format=sha1")
        # Left by a killed run: this run holds the lock.
        for left in (*self.path.glob("*.lock"), *self.path.glob("objects/**/*.lock")):
            left.unlink()
        # Git then accepts missing objects as promised. Each fetch gives the address.
        for key, value in (("core.repositoryFormatVersion", "1"), ("extensions.partialClone", "vllm")):
            self._git_here("config", key, value)

    def _git_here(self, *words: str) -> None:
        try:
            Git.sealed(self.path).output(*words)
        except GitError as error:
            raise SourceError(
                f"the mirror is not usable: {error.text}", hint=f"delete {self.path}, then run this again"
            ) from error

    def _objects(self) -> set[str]:
        """Return the ids of all local objects. Asking git for a missing one would fetch it."""
        if self._held is None:
            words = ("cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)")
            here = (self.path / "HEAD").is_file()
            self._held = set(self._git(*words).split()) if here else set()
        return self._held

    def _known(self, oid: str) -> Commit | None:
        with contextlib.closing(Repository(self.path)) as repository:
            return repository.commit(oid) if repository.holds(f"{oid}^{{commit}}^{{tree}}") else None

    def _resolve(self, remote: Remote, wanted: str) -> str:
        """Return the full id for a name."""
        if FULL_ID.fullmatch(wanted):
            return wanted
        refs = self._refs(remote)
        pull = _PULL.fullmatch(wanted)
        names = [f"refs/pull/{pull[1]}/head"] if pull else []
        # `^{}` is the commit of an annotated tag.
        names += [f"refs/heads/{wanted}", f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}", wanted]
        if oid := next((refs[name] for name in names if name in refs), None):
            return oid
        if _SHORT_ID.fullmatch(wanted):
            return self._complete(remote, wanted.lower(), refs)
        raise SourceError(
            f"{remote.name} ({remote.address}) has no branch, tag or pull request {wanted!r}",
            hint="give a commit id, or another --remote",
        )

    def _refs(self, remote: Remote) -> dict[str, str]:
        rows = self._git("ls-remote", "--quiet", "--", remote.address).splitlines()
        return {name: oid for oid, _, name in (row.partition("\t") for row in rows)}

    def _complete(self, remote: Remote, digits: str, refs: dict[str, str]) -> str:
        """Return the only commit whose id begins with these digits: a tip of the remote, or in its history."""
        found = {oid for oid in refs.values() if oid.startswith(digits)}
        if not found:
            self._console.note(f"{digits} is not a tip: fetching the commits of the history, without files")
            # A separate folder, because the mirror's commits must stay shallow.
            history = Mirror(self.path.with_name(f"{self.path.stem}-history.git"), console=self._console)
            # One namespace for each remote: branch names of different remotes may conflict.
            place = f"refs/remotes/{hashlib.sha256(remote.address.encode()).hexdigest()[:16]}"
            options = ("--quiet", "--filter=tree:0", "--no-tags", "--prune")
            with history._alone():
                history._git("fetch", *options, "--", remote.address, f"+refs/heads/*:{place}/*")
                shown = history._git("rev-list", f"--glob={place}")
            found = {oid for oid in shown.split() if oid.startswith(digits)}
        if len(found) > 1:
            raise SourceError(
                f"{digits} is ambiguous in {remote.name}: {', '.join(sorted(found)[:5])}", hint="give more digits"
            )
        if not found:
            raise SourceError(
                f"no commit of {remote.name} ({remote.address}) begins with {digits}: searched its "
                f"{len(refs)} refs and the history of its branches",
                hint="give the full id, which also works for pull requests and forks, or another --remote",
            )
        return found.pop()

    def _fetch(self, remote: Remote, oid: str) -> None:
        options = ("--quiet", "--depth=1", "--filter=blob:none", "--no-tags", "--no-write-fetch-head")
        self._git("fetch", *options, "--", remote.address, oid)
        self._held = None

    @retry(
        retry=retry_if_exception_type(_TransientGitError),
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=1, max=8),
        retry_error_callback=lambda state: _give_up(state.outcome.exception() if state.outcome else None),
    )
    def _git(self, *words: str, lines: Iterable[str] = ()) -> str:
        # There is no password prompt: a private repository needs a credential helper.
        settings = [word for one in _PATIENCE for word in ("-c", one)]
        given = "".join(f"{line}\n" for line in lines).encode("ascii")
        try:
            # No limit: a history lists 41 bytes for each commit.
            return (
                Git.reaching(self.path)
                .output(*settings, *words, stdin=given, limit=math.inf)
                .decode(errors="replace")
                .strip()
            )
        except GitError as error:
            said = error.text.splitlines()
            # The first line has the cause; consequences and advice follow.
            named = [line for line in said if line.startswith(("fatal: ", "error: ", "ssh: "))]
            what = next(iter((*named, *said)), "it printed no error")
            if any(_TRANSIENT.search(line) for line in said):
                raise _TransientGitError(what) from error
            raise SourceError(
                f"git {words[0]} failed: {what}", hint="check the commit and the --remote's address"
            ) from error


def _give_up(error: BaseException | None) -> str:
    raise SourceError(
        f"the remote is not reachable: {error}", hint="check the network and proxies; `dev` needs neither"
    ) from error
