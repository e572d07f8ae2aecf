"""The only way to run git.

Git starts programs named in configuration and attributes: filters, file system monitors, hooks, pagers, credential
helpers, transports. So it runs only on git directories that this tool made. A foreign repository is read through such a
directory too (:mod:`build.source.view`), so git never reads its configuration.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Self

from build.errors import SourceError
from build.host import process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LIMIT_BYTES = 64 * 2**20
"""Maximum output of git. The listing of vLLM's 8,500 files has 1 MB, but a tree may repeat a subtree many times."""

OBJECT_BYTES = 256 * 2**20
"""Maximum memory of git for one object. A pack of a megabyte can hold an object of many gigabytes."""

# These override the configuration: git starts no program for them and does not wait.
_ALWAYS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    # Otherwise maintenance continues after git ends, and so after a lock is released.
    "gc.autoDetach": "false",
    "maintenance.autoDetach": "false",
}
_SEALED = {
    **_ALWAYS,
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "diff.ignoreSubmodules": "all",
    # Blobs above the threshold are streamed without a size limit; those below hit the memory limit.
    "core.bigFileThreshold": "2g",
}
_VARIABLES = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    # Undocumented, since git 1.7 (wrapper.c, memory_limit_check). It limits one allocation, so one object.
    "GIT_ALLOC_LIMIT": str(OBJECT_BYTES),
    # refs/replace would substitute other content for a commit id.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TEMPLATE_DIR": "",
    "LC_ALL": "C",
}
_UNKNOWN = re.compile(r"unknown repository extensions? found:\s*(?P<names>.+)", re.DOTALL)
_VERSION = re.compile(r"Expected git repo version <= \d+, found (?P<version>\d+)")


class GitError(Exception):
    """An error exit of git.

    Attributes:
        text: Error output.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    @property
    def last_line(self) -> str:
        """The last line of the error output, or an empty text."""
        return next(reversed(self.text.splitlines()), "")


def _configured(settings: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables with settings, which override all files (git-config(1), ENVIRONMENT)."""
    pairs = [
        {f"GIT_CONFIG_KEY_{n}": key, f"GIT_CONFIG_VALUE_{n}": value} for n, (key, value) in enumerate(settings.items())
    ]
    return {name: value for pair in pairs for name, value in pair.items()} | {"GIT_CONFIG_COUNT": str(len(pairs))}


@dataclass(frozen=True, kw_only=True)
class Git:
    """Git on one git directory that this tool made.

    Attributes:
        name: Name of the directory in errors.
        cwd: Working folder; None for that of this process.
        variables: Additional environment variables.
        options: Options before the command.
    """

    name: str
    cwd: Path | None
    variables: Mapping[str, str]
    options: tuple[str, ...]

    @classmethod
    def sealed(cls, git_dir: Path | None, *, name: str = "") -> Self:
        """Return git that reads only the directory's configuration and contacts no other machine.

        Args:
            git_dir: Git directory; None for commands without one.
            name: Name in errors; the path by default.
        """
        place = {"GIT_DIR": str(git_dir)} if git_dir else {}
        # Both prevent fetching: the first needs git 2.45, the second forbids all transports.
        alone = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
        alone |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
        variables = {**_VARIABLES, **_configured(_SEALED), **alone, "GIT_CONFIG_PARAMETERS": "", **place}
        return cls(name=name or str(git_dir), cwd=None, variables=variables, options=())

    @classmethod
    def reaching(cls, git_dir: Path | None, *, name: str = "") -> Self:
        """Return git that fetches with the user's configuration: proxies, credential helpers, ssh."""
        place = {"GIT_DIR": str(git_dir)} if git_dir else {}
        # Options, because the environment may hold the user's own settings.
        options = tuple(word for key, value in _ALWAYS.items() for word in ("-c", f"{key}={value}"))
        return cls(name=name or str(git_dir), cwd=None, variables={**_VARIABLES, **place}, options=options)

    def given(self, variables: Mapping[str, str], *, cwd: Path | None = None) -> Self:
        """Return a copy with more variables, and optionally another folder."""
        return replace(self, cwd=cwd or self.cwd, variables={**self.variables, **variables})

    def output(
        self,
        *words: str | Path,
        stdin: bytes | IO[bytes] = b"",
        limit: float = LIMIT_BYTES,
        seconds: float = math.inf,
    ) -> bytes:
        """Run a command and return its output.

        Args:
            words: Arguments after ``git``.
            stdin: Standard input: bytes, or an open file.
            limit: Maximum bytes of output.
            seconds: Time limit.

        Raises:
            GitError: The command failed.
            SourceError: It exceeded a limit, met an object that is too large, or does not know the repository's format.
        """
        argv = ["git", *self.options, *words]
        with _opened(stdin) as given:
            try:
                return process.output(argv, env=self.variables, cwd=self.cwd, stdin=given, limit=limit, seconds=seconds)
            except process.LimitError as error:
                raise self._too_large(f"`git {words[0]}`: {error}") from error
            except subprocess.CalledProcessError as error:
                raise self._failed(error.stderr.decode(errors="replace").strip()) from error

    def text(self, *words: str | Path, stdin: bytes = b"") -> str:
        """Run a command and return its output without surrounding white space."""
        return self.output(*words, stdin=stdin).decode(errors="surrogateescape").strip()

    def _failed(self, said: str) -> Exception:
        if "attempting to allocate" in said or "memory exhausted" in said or "Out of memory" in said:
            return self._too_large(f"an object needs more than {OBJECT_BYTES >> 20} MiB of memory")
        unknown, newer = _UNKNOWN.search(said), _VERSION.search(said)
        if unknown:
            return self._too_old(f"extension {', '.join(unknown['names'].split())}")
        if newer:
            return self._too_old(f"format {newer['version']}")
        return GitError(said)

    def _too_old(self, what: str) -> SourceError:
        return SourceError(
            f"git {installed()} is too old for {self.name}: it does not know the repository's {what}",
            hint="install a newer git: 2.45 knows refstorage, 2.48 relativeworktrees",
        )

    def _too_large(self, what: str) -> SourceError:
        return SourceError(
            f"{self.name} holds something too large to read: {what}",
            hint="check the origin of the repository: vLLM's largest file is a few megabytes",
        )


@contextlib.contextmanager
def _opened(content: bytes | IO[bytes]) -> Iterator[IO[bytes]]:
    if not isinstance(content, bytes):
        yield content
        return
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


def installed() -> str:
    """Return the version of git on this machine."""
    words = process.output(["git", "version"]).decode().split()
    return words[2] if len(words) > 2 else "of unknown version"  # noqa: PLR2004 - "git version 2.39.5"


class Batch:
    """A running ``git cat-file --batch``, for contents of any size.

    Args:
        git: Git on the directory to read.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._held = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the process."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process = None
        self._held.close()

    def open(self, oid: str) -> tuple[int, Piece]:
        """Return size and content of an object.

        Raises:
            LookupError: The object is missing or unreadable.
        """
        process = self._running()
        assert process.stdin is not None  # noqa: S101 - for the type checker: PIPE was asked for
        assert process.stdout is not None  # noqa: S101 - the same
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{oid}\n".encode("ascii"))
            process.stdin.flush()
        facts = process.stdout.readline(_HEADER_BYTES).split()
        if len(facts) != len(("id", "type", "size")):
            if not facts:
                self.close()
            raise LookupError(oid)
        return int(facts[2]), Piece(process.stdout, int(facts[2]), broken=self.unreadable(oid))

    def unreadable(self, oid: str) -> SourceError:
        """Return the error for an unreadable object."""
        return SourceError(
            f"object {oid} of {self._git.name} cannot be read: it is damaged, or takes more than "
            f"{OBJECT_BYTES >> 20} MiB",
            hint="run `git fsck` there; vLLM's largest file is a few megabytes",
        )

    def skip(self, piece: Piece) -> None:
        """Skip the rest of an object, to be ready for the next one."""
        if piece.left > _SKIPPED_BYTES:
            self._abandon()
            return
        with contextlib.suppress(SourceError):
            piece.read()
        if self._process and self._process.stdout and self._process.stdout.read(1) != b"\n":
            self._abandon()

    def _abandon(self) -> None:
        if self._process:
            self._process.kill()
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            argv = ["git", *self._git.options, "cat-file", "--batch"]
            self._process = self._held.enter_context(
                process.started(
                    argv, env=self._git.variables, cwd=None, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            )
        return self._process


_HEADER_BYTES = 4096
_SKIPPED_BYTES = 2**20


class Piece:
    """The next bytes of a stream, as a stream of their own."""

    def __init__(self, stream: IO[bytes], size: int, *, broken: SourceError) -> None:
        self._stream = stream
        self._broken = broken
        self.left = size

    def read(self, size: int = -1) -> bytes:
        """Read up to this many bytes, by default all that are left.

        Raises:
            SourceError: The stream ended early.
        """
        wanted = self.left if size < 0 else min(size, self.left)
        found = self._stream.read(wanted)
        self.left -= len(found)
        if len(found) < wanted:
            self.left = 0
            raise self._broken
        return found
