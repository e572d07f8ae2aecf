"""Commits from GitHub, in one cached repository that fetches no more than is asked for.

A commit arrives with its trees and without history or file contents; contents follow when a delta names them.
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
# Addresses of git's own transports; what starts with a dash is an option, and `ext::` a command (gitremote-helpers(7)).
_ADDRESS = re.compile(r"(?:(?:https?|ssh|git|file)://|[\w.][\w.-]*@[\w.-]+:|/).+")
_PASSWORD = re.compile(r"[a-z+]+://[^/@]*:[^/@]*@|https?://[^/@]+@")

# What curl and ssh say when the way to the server is broken, not what is asked for.
_TRANSIENT = re.compile(
    r"Could not resolve host|Connection (?:timed out|refused|reset)|Operation (?:timed out|too slow)|early EOF"
    r"|unexpected disconnect|Empty reply from server|The requested URL returned error: (?:429|5\d\d)|RPC failed"
    r"|hung up unexpectedly|Failed to connect|TLS|SSL_"
)


_PATIENCE = ("http.lowSpeedLimit=1000", "http.lowSpeedTime=60")
"""A server that sends less than a kilobyte a second for a minute has failed."""


class _TransientGitError(Exception):
    """Git failed in a way that may be better next time."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A repository elsewhere.

    Attributes:
        name: For people.
        address: As git takes it.
    """

    name: str
    address: str

    @classmethod
    def named(cls, text: str) -> Remote:
        """One of the known names, or an address.

        Raises:
            SourceError: It is neither.
            UsageError: It carries a password or token, which would show in lists of processes.
        """
        if text in REMOTES:
            return cls(name=text, address=REMOTES[text])
        if _PASSWORD.match(text):
            raise UsageError(
                "--remote is an address with a password or token",
                hint="leave it out of the address: git asks its credential helper (gitcredentials(7))",
            )
        if _ADDRESS.fullmatch(text):
            return cls(name=text, address=text)
        raise SourceError(f"{text!r} is no remote", hint=f"one of {', '.join(REMOTES)}, or a repository's address")


class Mirror:
    """The cached repository.

    Args:
        path: Its folder; made when it is first used.
        console: For progress.
    """

    def __init__(self, path: Path, *, console: Console) -> None:
        self.path = path
        self._console = console
        self._held: set[str] | None = None

    def commit(self, remote: Remote, wanted: str) -> Commit:
        """A commit of a remote, fetched if it is not here; everything is fetched anew where what is here is damaged.

        Args:
            remote: Where from.
            wanted: Full or short id, branch, tag, or ``pull/123``.

        Raises:
            SourceError: It cannot be found, is ambiguous, or the remote cannot be reached.
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
            f"{wanted!r} of {remote.name} ({remote.address}) is no commit", hint="give a commit, branch or tag"
        )

    def tip(self, remote: Remote, branch: str) -> str:
        """Full id of a branch's newest commit; asks for this one ref, fetches nothing.

        Raises:
            SourceError: There is no such branch, or the remote cannot be reached.
        """
        with self._alone():
            row = self._git("ls-remote", "--quiet", "--", remote.address, f"refs/heads/{branch}")
        if not row:
            raise SourceError(f"{remote.name} ({remote.address}) has no branch {branch!r}", hint="name a commit")
        return row.partition("\t")[0]

    def ancestors(self, remote: Remote, oid: str, *, count: int) -> list[str]:
        """First-parent ancestors of a commit, the newest first; they are fetched without trees.

        Raises:
            SourceError: The remote does not have the commit, or cannot be reached.
        """
        # Another folder: a commit that is here without its history cannot be given one by a shallow fetch.
        history = Mirror(self.path.with_name(f"{self.path.stem}-ancestors.git"), console=self._console)
        options = ("--quiet", f"--depth={count + 1}", "--filter=tree:0", "--no-tags", "--no-write-fetch-head")
        with history._alone():
            history._git("fetch", *options, "--", remote.address, oid)
            return history._git("rev-list", "--first-parent", f"--max-count={count + 1}", oid).split()[1:]

    def fetch_blobs(self, remote: Remote, oids: Iterable[str]) -> None:
        """Fetch those of some blobs that are not here, all at once.

        Raises:
            SourceError: The remote does not have them, or cannot be reached.
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
        """One run at a time, others wait: git does not let two fetch into one shallow repository.

        Raises:
            BusyError: Another run has had it for too long.
            SourceError: The repository cannot be made.
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
                    f"the mirror cannot be written: {error}",
                    hint="name another folder with --cache or LLM_D_DEV_CACHE",
                ) from error
            yield

    def _prepare(self) -> None:
        # What makes a folder a git directory (gitrepository-layout(5)). It is named outright, here and below: from a
        # folder that is none git would go up to whatever repository is around it.
        if not all((self.path / name).exists() for name in ("HEAD", "objects", "refs")):
            self._git_here("init", "--quiet", "--bare", "--initial-branch=none", "--object-format=sha1")
        # Of a run that was killed: nobody else writes here.
        for left in (*self.path.glob("*.lock"), *self.path.glob("objects/**/*.lock")):
            left.unlink()
        # Makes git take missing objects for promised; the address is given with each fetch.
        for key, value in (("core.repositoryFormatVersion", "1"), ("extensions.partialClone", "vllm")):
            self._git_here("config", key, value)

    def _git_here(self, *words: str) -> None:
        try:
            Git.sealed(self.path).output(*words)
        except GitError as error:
            raise SourceError(
                f"the mirror cannot be used: {error.text}", hint=f"remove {self.path}: it is fetched anew"
            ) from error

    def _objects(self) -> set[str]:
        """Ids of all objects that are here; asking for one that is not would have git fetch it."""
        if self._held is None:
            words = ("cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)")
            here = (self.path / "HEAD").is_file()
            self._held = set(self._git(*words).split()) if here else set()
        return self._held

    def _known(self, oid: str) -> Commit | None:
        with contextlib.closing(Repository(self.path)) as repository:
            return repository.commit(oid) if repository.holds(f"{oid}^{{commit}}^{{tree}}") else None

    def _resolve(self, remote: Remote, wanted: str) -> str:
        """The full id of what a name stands for."""
        if FULL_ID.fullmatch(wanted):
            return wanted
        refs = self._refs(remote)
        pull = _PULL.fullmatch(wanted)
        names = [f"refs/pull/{pull[1]}/head"] if pull else []
        # A tag that has an object of its own: the commit that it points to.
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
        """The one commit whose id begins with these digits: a tip of the remote, else anything in its history."""
        found = {oid for oid in refs.values() if oid.startswith(digits)}
        if not found:
            self._console.note(f"{digits} is no tip: fetching the history's commits, without files")
            # Another folder: a commit whose history is here cannot be cut off from it again.
            history = Mirror(self.path.with_name(f"{self.path.stem}-history.git"), console=self._console)
            # Of this remote alone, and as it is now: others' branches may have names that exclude each other.
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
                f"no commit of {remote.name} ({remote.address}) begins with {digits}: looked at its "
                f"{len(refs)} refs and the history of its branches",
                hint="give the full id, which is found in pull requests and forks too, or another --remote",
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
        # No password prompt: a private repository needs a credential helper, as for git itself.
        settings = [word for one in _PATIENCE for word in ("-c", one)]
        given = "".join(f"{line}\n" for line in lines).encode("ascii")
        try:
            # A history's ids are 41 bytes each, however many there are.
            return (
                Git.reaching(self.path)
                .output(*settings, *words, stdin=given, limit=math.inf)
                .decode(errors="replace")
                .strip()
            )
        except GitError as error:
            said = error.text.splitlines()
            # What went wrong comes before what it made go wrong, and before advice.
            named = [line for line in said if line.startswith(("fatal: ", "error: ", "ssh: "))]
            what = next(iter((*named, *said)), "it said nothing")
            if any(_TRANSIENT.search(line) for line in said):
                raise _TransientGitError(what) from error
            raise SourceError(
                f"git {words[0]} failed: {what}", hint="check the commit and the --remote's address"
            ) from error


def _give_up(error: BaseException | None) -> str:
    raise SourceError(
        f"the remote cannot be reached: {error}", hint="check the network and proxies; `dev` needs neither"
    ) from error
