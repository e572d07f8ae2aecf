"""Programs that are started in a running container, whose output is taken with a limit and a deadline."""

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

# Docker's frames of a process without terminal: which stream, and how many bytes (docs.docker.com, "Attach to a
# container", "Stream format").
_HEAD = struct.Struct("!BxxxI")
STANDARD_OUTPUT = 1
_CHUNK = 1 << 16


class EndlessError(Exception):
    """A program in a container printed more, or took longer, than is allowed."""


class Streams:
    """Standard input, output and errors of a process in a container.

    Args:
        container: The container, running.
        words: The program and its arguments.
        spoken_to: Whether it has a standard input; its errors are left out then.

    Raises:
        docker.errors.APIError: The container does not run, or the engine cannot start the program.
    """

    def __init__(self, container: Container, words: Sequence[str], *, spoken_to: bool) -> None:
        assert container.client is not None  # noqa: S101 - for the type checker
        self._api = container.client.api
        self._id: str = self._api.exec_create(container.id, [*words], stdin=spoken_to, stderr=not spoken_to)["Id"]
        # The SDK gives one of several classes; it holds the response, with which the connection would go.
        self._raw = cast("Any", self._api.exec_start(self._id, socket=True))
        self.socket: socket.socket = getattr(self._raw, "_sock", self._raw)
        self.socket.settimeout(None)

    def frames(self, *, until: float | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield what the process prints as it comes: which stream, and some of it.

        Args:
            until: When the time is up, on the monotonic clock.

        Raises:
            TimeoutError: It is.
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
        """So many bytes of the connection, nothing where it ends before."""
        found = b""
        while len(found) < size:
            chunk = self._received(size - len(found), until)
            if not chunk:
                return b""
            found += chunk
        return found

    def greeting(self, size: int, *, until: float) -> bytes:
        """So many bytes that the process prints first, in one frame of the engine."""
        return self.exactly(_HEAD.size + size, until=until)[_HEAD.size :]

    def _received(self, size: int, until: float | None) -> bytes:
        # 0 would mean not to wait at all.
        self.socket.settimeout(None if until is None else max(until - time.monotonic(), 0.001))
        return self.socket.recv(size)

    def status(self) -> int | None:
        """The exit status of the process; None if it has not ended."""
        found: int | None = self._api.exec_inspect(self._id)["ExitCode"]
        return found

    def close(self) -> None:
        """End the connection, and with it whoever waits for it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.socket.close()
        # A TLS socket is closed only with what reads from it, which the response has.
        for one in (self._raw, getattr(self._raw, "_response", self._raw)):
            with contextlib.suppress(Exception):
                one.close()


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What a program in a container did.

    Attributes:
        status: Its exit status; None if it closed its output and went on.
        output: What it printed.
        errors: Its errors.
    """

    status: int | None
    output: bytes
    errors: bytes


def execute(container: Container, words: Sequence[str], *, limit: int, seconds: float) -> Executed:
    """Run a program in a running container to its end.

    Args:
        container: The container.
        words: The program and its arguments.
        limit: Bytes that it may print.
        seconds: What it may take.

    Raises:
        EndlessError: It printed more, or took longer.
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
        raise EndlessError(f"it was not done after {seconds:g} s") from error
    finally:
        streams.close()
