"""Programs in a running container, with a limit on their output and a deadline."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docker.models.containers import Container

# Docker's frames for a process without terminal: the stream and a number of bytes (docs.docker.com, "Attach to a
# container", "Stream format").
_HEAD = struct.Struct("!BxxxI")
STANDARD_OUTPUT = 1
_CHUNK = 1 << 16


class EndlessError(Exception):
    """A program in a container exceeded its output limit or its deadline."""


class Streams:
    """The standard input, output and errors of a process in a container.

    Args:
        container: The running container.
        words: The program and its arguments.
        spoken_to: Whether the process has a standard input; its errors are then left out.

    Raises:
        docker.errors.APIError: The container does not run, or the engine cannot start the program.
    """

    def __init__(self, container: Container, words: Sequence[str], *, spoken_to: bool) -> None:
        assert container.client is not None  # noqa: S101 - for the type checker
        self._api = container.client.api
        self._id: str = self._api.exec_create(container.id, [*words], stdin=spoken_to, stderr=not spoken_to)["Id"]
        # The SDK returns one of several classes; it keeps the response, which owns the connection.
        self._raw = cast("Any", self._api.exec_start(self._id, socket=True))
        self.socket: socket.socket = getattr(self._raw, "_sock", self._raw)
        self.socket.settimeout(None)

    def frames(self, *, until: float | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield the output of the process as it arrives: the stream and some bytes.

        Args:
            until: Deadline on the monotonic clock.

        Raises:
            TimeoutError: The deadline passed.
        """
        while head := self.exactly(_HEAD.size, until=until):
            which, left = _HEAD.unpack(head)
            while left:
                chunk = self._received(min(left, _CHUNK), until)
                if not chunk:
                    return
                left -= len(chunk)
                yield which, chunk

    def exactly(self, size: int, *, until: float | None = None) -> bytes:
        """Return ``size`` bytes of the connection, or nothing if it ends before."""
        found = b""
        while len(found) < size:
            chunk = self._received(size - len(found), until)
            if not chunk:
                return b""
            found += chunk
        return found

    def greeting(self, size: int, *, until: float) -> bytes:
        """Return the first ``size`` bytes of the process's output, sent in one frame of the engine."""
        return self.exactly(_HEAD.size + size, until=until)[_HEAD.size :]

    def _received(self, size: int, until: float | None) -> bytes:
        # 0 would mean not to wait.
        self.socket.settimeout(None if until is None else max(until - time.monotonic(), 0.001))
        return self.socket.recv(size)

    def status(self) -> int | None:
        """Return the exit status of the process, or None if it has not ended."""
        found: int | None = self._api.exec_inspect(self._id)["ExitCode"]
        return found

    def close(self) -> None:
        """End the connection, and with it every read that waits for it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.socket.close()
        # A TLS socket closes only with its reader, which belongs to the response.
        for one in (self._raw, getattr(self._raw, "_response", self._raw)):
            with contextlib.suppress(Exception):
                one.close()


@dataclass(frozen=True, kw_only=True)
class Executed:
    """The result of a program in a container.

    Attributes:
        status: Exit status; None if the program closed its output and went on.
        output: Standard output.
        errors: Standard error.
    """

    status: int | None
    output: bytes
    errors: bytes


def execute(container: Container, words: Sequence[str], *, limit: int, seconds: float) -> Executed:
    """Run a program in a running container to its end.

    Args:
        container: The running container.
        words: The program and its arguments.
        limit: Most bytes that the program may print.
        seconds: Most seconds that the program may take.

    Raises:
        EndlessError: The program printed or took more.
        docker.errors.APIError: The container does not run, or the engine cannot start the program.
    """
    kept: dict[bool, bytearray] = {True: bytearray(), False: bytearray()}
    streams = Streams(container, words, spoken_to=False)
    try:
        for which, chunk in streams.frames(until=time.monotonic() + seconds):
            kept[which == STANDARD_OUTPUT] += chunk
            if sum(map(len, kept.values())) > limit:
                raise EndlessError(f"it printed more than {limit >> 10} KiB")
        return Executed(status=streams.status(), output=bytes(kept[True]), errors=bytes(kept[False]))
    except TimeoutError as error:
        raise EndlessError(f"it did not end within {seconds:g} s") from error
    finally:
        streams.close()
