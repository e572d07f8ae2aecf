"""The one way to run git.

Git starts programs that configurations and attributes name: filters, a monitor of the file system, hooks, pagers,
credential helpers, transports. So it only runs on git directories of this tool's own making. A foreign repository is
read through such a directory too (:mod:`build.source.view`), and what it configures is never read by a running git.
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
"""What git prints at most: the listing of vLLM's 8,500 files is 1 MB, and a tree may name itself thousands of times."""

OBJECT_BYTES = 256 * 2**20
"""Memory that git takes for one thing at most. A pack of a megabyte can hold an object of many gigabytes."""

# Whatever the configuration: git starts no program for these, and waits for nobody.
_ALWAYS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    # Tidying up goes on after git has ended otherwise, and so after a lock was given back.
    "gc.autoDetach": "false",
    "maintenance.autoDetach": "false",
}
_SEALED = {
    **_ALWAYS,
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "diff.ignoreSubmodules": "all",
    # Larger blobs are streamed, whatever their size; so they are not, and run into the limit of memory.
    "core.bigFileThreshold": "2g",
}
_VARIABLES = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    # Undocumented, in git since 1.7 (wrapper.c, memory_limit_check): one allocation, which is one object.
    "GIT_ALLOC_LIMIT": str(OBJECT_BYTES),
    # A commit's id promises its content; refs/replace would put other content in its place.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TEMPLATE_DIR": "",
    "LC_ALL": "C",
}
_UNKNOWN = re.compile(r"unknown repository extensions? found:\s*(?P<names>.+)", re.DOTALL)
_VERSION = re.compile(r"Expected git repo version <= \d+, found (?P<version>\d+)")


class GitError(Exception):
    """Git ended with an error.

    Attributes:
        text: All that it said.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    @property
    def last_line(self) -> str:
        """The last line of it, empty if it said nothing."""
        return next(reversed(self.text.splitlines()), "")


def _configured(settings: Mapping[str, str]) -> dict[str, str]:
    """Variables that set these, above every file (git-config(1), ENVIRONMENT)."""
    pairs = [
        {f"GIT_CONFIG_KEY_{n}": key, f"GIT_CONFIG_VALUE_{n}": value} for n, (key, value) in enumerate(settings.items())
    ]
    return {name: value for pair in pairs for name, value in pair.items()} | {"GIT_CONFIG_COUNT": str(len(pairs))}


@dataclass(frozen=True, kw_only=True)
class Git:
    """Git, on one git directory of this tool's own making.

    Attributes:
        name: What errors call the directory.
        cwd: Where it runs; None for where this process is.
        variables: What is added to the environment.
        options: Words before the command.
    """

    name: str
    cwd: Path | None
    variables: Mapping[str, str]
    options: tuple[str, ...]

    @classmethod
    def sealed(cls, git_dir: Path | None, *, name: str = "") -> Self:
        """Git that reads no configuration but the directory's own, and reaches no other machine.

        Args:
            git_dir: The directory; None for commands that need none.
            name: What errors call it; its path by default.
        """
        place = {"GIT_DIR": str(git_dir)} if git_dir else {}
        # Twice, because only git 2.45 knows the first: no transport is allowed, so that nothing is fetched.
        alone = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
        alone |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
        variables = {**_VARIABLES, **_configured(_SEALED), **alone, "GIT_CONFIG_PARAMETERS": "", **place}
        return cls(name=name or str(git_dir), cwd=None, variables=variables, options=())

    @classmethod
    def reaching(cls, git_dir: Path | None, *, name: str = "") -> Self:
        """Git that fetches with the user's own configuration: proxies, credential helpers, ssh."""
        place = {"GIT_DIR": str(git_dir)} if git_dir else {}
        # As options: the user may have set others in the environment.
        options = tuple(word for key, value in _ALWAYS.items() for word in ("-c", f"{key}={value}"))
        return cls(name=name or str(git_dir), cwd=None, variables={**_VARIABLES, **place}, options=options)

    def given(self, variables: Mapping[str, str], *, cwd: Path | None = None) -> Self:
        """The same with more variables, and in a folder."""
        return replace(self, cwd=cwd or self.cwd, variables={**self.variables, **variables})

    def output(
        self,
        *words: str | Path,
        stdin: bytes | IO[bytes] = b"",
        limit: float = LIMIT_BYTES,
        seconds: float = math.inf,
    ) -> bytes:
        """Run a command and return what it prints.

        Args:
            words: Its words after ``git``.
            stdin: What it reads: bytes, or an open file.
            limit: Bytes that it may print.
            seconds: Time that it may take.

        Raises:
            GitError: It failed.
            SourceError: It printed more or took longer than it may, met an object of absurd size, or does not know the
                format of the repository.
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
        """What a command prints, without white space around it."""
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
            f"this git ({installed()}) is too old for {self.name}: it does not know the repository's {what}",
            hint="install a newer git: 2.45 knows refstorage, 2.48 relativeworktrees",
        )

    def _too_large(self, what: str) -> SourceError:
        return SourceError(
            f"{self.name} holds something too large to read: {what}",
            hint="vLLM's largest file is a few megabytes: check where the repository came from",
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
    """The version of git on this machine."""
    words = process.output(["git", "version"]).decode().split()
    return words[2] if len(words) > 2 else "of unknown version"  # noqa: PLR2004 - "git version 2.39.5"


class Batch:
    """A ``git cat-file --batch`` that is kept running, for contents of any size.

    Args:
        git: On which directory.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._held = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End it."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process = None
        self._held.close()

    def open(self, oid: str) -> tuple[int, Piece]:
        """Size and content of an object.

        Raises:
            LookupError: It is not there, or cannot be read.
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
        """Why an object is not read."""
        return SourceError(
            f"object {oid} of {self._git.name} cannot be read: it is damaged, or takes more than "
            f"{OBJECT_BYTES >> 20} MiB",
            hint="vLLM's largest file is a few megabytes: see whether `git fsck` finds something",
        )

    def skip(self, piece: Piece) -> None:
        """Make it ready for the next object."""
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
    """The next bytes of a stream, as a stream that ends after them."""

    def __init__(self, stream: IO[bytes], size: int, *, broken: SourceError) -> None:
        self._stream = stream
        self._broken = broken
        self.left = size

    def read(self, size: int = -1) -> bytes:
        """Up to this many bytes; all that are left by default.

        Raises:
            SourceError: The stream ended before.
        """
        wanted = self.left if size < 0 else min(size, self.left)
        found = self._stream.read(wanted)
        self.left -= len(found)
        if len(found) < wanted:
            self.left = 0
            raise self._broken
        return found
