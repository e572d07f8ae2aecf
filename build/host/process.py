"""The one way to run another program."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

OnLine = Callable[[str], None]
"""A function that takes one line of output, without its line end."""

# The kernel interrupts the child when this process is killed, so that it can clean up (PR_SET_PDEATHSIG, prctl(2)).
_OUTLIVED_BY_US = ("setpriv", "--pdeathsig", "INT", "--")

_TAIL_LINES = 200
_GRACE_S = 30.0
_LOOK_S = 0.2
_CHUNK_BYTES = 1 << 16
_LINE_BYTES = 1 << 16
"""Bytes after which a line is split: a program may never end its line."""
_HEED_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The result of a program.

    Attributes:
        returncode: Exit code; negative for a signal.
        tail: Last lines of its standard output and errors together.
    """

    returncode: int
    tail: tuple[str, ...]

    @property
    def text(self) -> str:
        """The kept lines, joined."""
        return "\n".join(self.tail)


def mortal(words: Sequence[str]) -> list[str]:
    """Return the command line that ends the program when this process is killed."""
    return [*(_OUTLIVED_BY_US if shutil.which(_OUTLIVED_BY_US[0]) else ()), *words]


class LimitError(Exception):
    """A program exceeded its output limit or deadline and was ended."""


@contextlib.contextmanager
def started(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: int | IO[bytes] | None,
    stderr: int,
    without: tuple[str, ...] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running program, which ends with the block.

    Args:
        argv: Program and arguments.
        env: Variables added to this process's own.
        cwd: Working directory.
        stdin: Standard input; empty by default. The block closes a pipe.
        stderr: Target of its standard error.
        without: Prefixes of variables to leave out of its environment.

    The program runs in a session of its own: Ctrl-C at the terminal reaches only this process, which passes on exactly
    one SIGINT. A second SIGINT would cut short the clean-up of docker and pytest after the first.
    """
    words = [str(word) for word in argv]
    log.info("$ %s", shlex.join(words))
    process = subprocess.Popen(
        mortal(words),
        env={name: value for name, value in os.environ.items() if not name.startswith(without)} | dict(env or {}),
        cwd=cwd,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        _end(process)
        raise
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
    process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt, terminate or kill a program, in this order until it ends. A further Ctrl-C skips to the next."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        with contextlib.suppress(KeyboardInterrupt):
            _await_end(process)
        if process.poll() is not None:
            break
    # Helper processes of the program, which may wait for a server and hold its pipes.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _GRACE_S
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with selectors.DefaultSelector() as selector:
        for pipe in filter(None, (process.stdout, process.stderr)):
            selector.register(pipe, selectors.EVENT_READ)
        while process.poll() is None and time.monotonic() < deadline:
            # Its output is still read, but not kept: a full pipe would keep it from ending.
            for key, _ in selector.select(timeout=_LOOK_S):
                if not os.read(key.fd, _CHUNK_BYTES):
                    selector.unregister(key.fileobj)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
    on_line: OnLine | None = None,
    without: tuple[str, ...] = (),
) -> Completed:
    """Run a program to its end and log its output line by line.

    Args:
        argv: Program and arguments, without a shell. They are logged, so they must not hold a secret.
        env: Variables added to this process's own.
        cwd: Working directory.
        stdin: An open file for standard input; empty by default.
        on_line: Called with each line of output, for progress.
        without: Prefixes of variables to leave out of its environment.

    Returns:
        Exit code and last lines. The caller judges a non-zero exit code.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with started(argv, env=env, cwd=cwd, stdin=stdin, stderr=subprocess.STDOUT, without=without) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker: PIPE was asked for
        for raw in _lines(process.stdout):
            line = raw.decode(errors="replace").rstrip()
            log.debug("| %s", line)
            tail.append(line)
            if on_line:
                on_line(line)
    return Completed(returncode=process.returncode, tail=tuple(tail))


def interactive(argv: Sequence[str], *, env: Mapping[str, str]) -> int:
    """Run an interactive program on this process's terminal. Only the program receives Ctrl-C.

    Args:
        argv: Program and arguments. They are logged, so they must not hold a secret.
        env: Variables added to this process's own.

    Returns:
        The exit code.
    """
    log.info("$ %s", shlex.join(argv))
    # A handler, because the program would inherit an ignored signal.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call([*argv], env={**os.environ, **env})
    finally:
        signal.signal(signal.SIGINT, before)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a pipe as they arrive; split lines longer than 64 KiB.

    The stream itself would block for a whole line. It would notice an interrupt during a partial line only with the
    next output, possibly minutes later.
    """
    rest = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=_HEED_S):
                continue
            chunk = os.read(stream.fileno(), _CHUNK_BYTES)
            if not chunk:
                break
            rest += chunk
            if b"\n" in chunk:
                *lines, rest = rest.split(b"\n")
                yield from map(bytes, lines)
            while len(rest) > _LINE_BYTES:
                yield bytes(rest[:_LINE_BYTES])
                del rest[:_LINE_BYTES]
    if rest:
        yield bytes(rest)


def output(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
    limit: float = math.inf,
    seconds: float = math.inf,
) -> bytes:
    """Run a program and return all of its standard output.

    Args:
        argv: As for :func:`run`.
        env: As for :func:`run`.
        cwd: As for :func:`run`.
        stdin: As for :func:`run`.
        limit: Bytes of output after which the program is ended.
        seconds: Time after which the program is ended.

    Raises:
        subprocess.CalledProcessError: The exit code was not 0. ``stderr`` holds its errors.
        LimitError: The program exceeded a limit and was ended with all its children.
        OSError: The disk is full.
    """
    with started(argv, env=env, cwd=cwd, stdin=stdin, stderr=subprocess.PIPE) as process:
        try:
            out, err = _bounded(process, limit, seconds)
        except LimitError:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode and os.strerror(errno.ENOSPC).encode() in err:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), err.decode(errors="replace").strip().splitlines()[-1])
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, [str(word) for word in argv], output=out, stderr=err)
    return out


def _bounded(process: subprocess.Popen[bytes], limit: float, seconds: float) -> tuple[bytes, bytes]:
    """Read a program's output and errors to their ends. Errors are kept only up to the limit.

    When the program has ended, its output is complete. Its children may hold its pipes for any time.
    """
    assert process.stdout is not None  # noqa: S101 - for the type checker: PIPE was asked for
    assert process.stderr is not None  # noqa: S101 - the same
    kept = {process.stdout: bytearray(), process.stderr: bytearray()}
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for pipe in kept:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ended = process.poll() is not None
            ready = selector.select(timeout=0 if ended else _HEED_S)
            if ended and not ready:
                break
            for key, _ in ready:
                pipe = cast("IO[bytes]", key.fileobj)
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(pipe)
                elif len(kept[pipe]) <= limit:
                    kept[pipe] += chunk
            if len(kept[process.stdout]) > limit:
                raise LimitError(f"it printed more than {limit} bytes")
            if time.monotonic() > deadline:
                raise LimitError(f"it took longer than {seconds:g} s")
    return bytes(kept[process.stdout]), bytes(kept[process.stderr])
