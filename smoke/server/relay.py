"""A way to a port of a container that has no network: through the engine's API.

One process inside, ``smoke/inside/relay.py``, run by the image's own Python, carries all connections over its standard
input and output. It works wherever the engine is, and nothing listens on the engine's machine. What comes out of the
container is untrusted: numbers of connections that are not open are ignored, and lengths are only read as far as they
are used.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import docker.errors

from build.config.folders import REPOSITORY
from build.engine.executed import Streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docker.models.containers import Container

SCRIPT = REPOSITORY / "smoke" / "inside" / "relay.py"

HELLO, OPEN, DATA, END, GONE = range(5)
"""What a frame is, as the script has it."""

_WAITING = 16384
"""Pieces of an answer that wait for a client which does not read; a connection with more is dropped."""

_HEAD = struct.Struct("!BII")
_CHUNK = 1 << 16
_LOOPBACK = "127.0.0.1"
_READY_S = 60.0
_LOOK_S = 0.2


class NoRelayError(Exception):
    """None of the image's programs could be the relay."""


class _Stream:
    """Standard input and output of the process inside.

    Args:
        streams: The process.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._sending = threading.Lock()

    def send(self, kind: int, number: int, content: bytes = b"") -> None:
        """Send a frame.

        Raises:
            OSError: The process is gone.
        """
        with self._sending:
            self._streams.socket.sendall(_HEAD.pack(kind, number, len(content)) + content)

    def ready_within(self, seconds: float) -> bool:
        """Whether there is something to read in time."""
        return bool(select.select([self._streams.socket], [], [], seconds)[0])

    def answers(self) -> bool:
        """Whether what is read first is the answer to a greeting.

        Raises:
            OSError: It does not come to its end.
        """
        said = self._streams.greeting(_HEAD.size, until=time.monotonic() + _READY_S)
        self._streams.socket.settimeout(None)
        return said == _HEAD.pack(HELLO, 0, 0)

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield what the process says: kind, number and content of a frame, a large one in pieces."""
        buffer = bytearray()
        left, kind, number = 0, 0, 0
        for _, chunk in self._streams.frames():
            buffer += chunk
            while buffer:
                if not left:
                    if len(buffer) < _HEAD.size:
                        break
                    kind, number, left = _HEAD.unpack_from(buffer)
                    del buffer[: _HEAD.size]
                    if not left:
                        yield kind, number, b""
                    continue
                content = bytes(buffer[:left])
                del buffer[: len(content)]
                left -= len(content)
                yield kind, number, content

    def close(self) -> None:
        """End it, and with it whoever waits for it."""
        self._streams.close()


class Relay:
    """Listens on the loopback interface here and carries each connection into a container, while the block runs.

    Args:
        stream: The process inside, which has answered.
    """

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._frames = stream.frames()
        self._numbers = itertools.count(1)
        self._open: dict[int, socket.socket] = {}
        self._said: dict[int, queue.Queue[tuple[int, bytes]]] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server((_LOOPBACK, 0), backlog=256)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        """Host and port here."""

    def start(self) -> None:
        """Begin to carry."""
        for work in (self._accept, self._follow):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """End every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._stream.close()
        self._drop_all()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                number = next(self._numbers)
                said: queue.Queue[tuple[int, bytes]] = queue.Queue()
                with self._lock:
                    self._open[number], self._said[number] = connection, said
                threading.Thread(target=self._ask, args=(number, connection), daemon=True).start()
                threading.Thread(target=self._tell, args=(number, connection, said), daemon=True).start()

    def _ask(self, number: int, connection: socket.socket) -> None:
        """Pass on what a client says, until it ends or its connection does."""
        try:
            self._stream.send(OPEN, number)
            while content := connection.recv(_CHUNK):
                self._stream.send(DATA, number, content)
            # Clients of HTTP close a connection as a whole: the server is to notice that its client has gone.
            self._stream.send(GONE, number)
        except OSError:
            with contextlib.suppress(OSError):
                self._stream.send(GONE, number)
        self._drop(number)

    def _follow(self) -> None:
        """Pass on what the server says, until the process inside is gone."""
        with contextlib.suppress(OSError, ValueError):
            for kind, number, content in self._frames:
                self._hand(kind, number, content)
        self._drop_all()

    def _hand(self, kind: int, number: int, content: bytes) -> None:
        """Put down what the server says to a client: one that does not read holds up no other one."""
        with self._lock:
            said = self._said.get(number)
        if said is None:
            return
        if said.qsize() > _WAITING:
            self._drop(number)
            return
        said.put((kind, content))

    def _tell(self, number: int, connection: socket.socket, said: queue.Queue[tuple[int, bytes]]) -> None:
        """Tell a client what the server says, as fast as it reads, until its connection ends."""
        with contextlib.suppress(OSError):
            while True:
                kind, content = said.get()
                if kind == DATA:
                    connection.sendall(content)
                elif kind == END:
                    connection.shutdown(socket.SHUT_WR)
                else:
                    break
        self._drop(number)

    def _drop(self, number: int) -> None:
        with self._lock:
            connection, said = self._open.pop(number, None), self._said.pop(number, None)
        if said:
            said.put((GONE, b""))
        if connection:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _drop_all(self) -> None:
        with self._lock:
            numbers = list(self._open)
        for number in numbers:
            self._drop(number)


@contextlib.contextmanager
def carrying(container: Container, port: int, *, pythons: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Where this machine reaches a port of a running container's loopback interface, while the block runs.

    Args:
        container: The container.
        port: Its port.
        pythons: Programs to try as the relay's Python, by name or path inside; then what the container itself runs, if
            that is one.

    Yields:
        Host and port to connect to, from this machine only.

    Raises:
        NoRelayError: None of them is one.
        docker.errors.APIError: The container does not run.
    """
    stream = _started(container, port, pythons)
    relay = Relay(stream)
    relay.start()
    try:
        yield relay.address
    finally:
        relay.close()


def _started(container: Container, port: int, pythons: Sequence[str]) -> _Stream:
    """The process inside, once it has answered."""
    deadline = time.monotonic() + _READY_S
    for python in dict.fromkeys((*pythons, *_running(container))):
        words = [python, "-I", "-S", "-c", SCRIPT.read_text(encoding="utf-8"), str(port)]
        stream = _Stream(Streams(container, words, spoken_to=True))
        # The process inside is the first to be spoken to: what it said before, the SDK may have read already.
        with contextlib.suppress(OSError):
            stream.send(HELLO, 0)
            if stream.ready_within(max(deadline - time.monotonic(), _LOOK_S)) and stream.answers():
                return stream
        stream.close()
    raise NoRelayError("the image has no Python that can be started")


def _running(container: Container) -> list[str]:
    """The program that the container runs, if it is called as Pythons are: a server's own."""
    try:
        listed = container.top(ps_args="-o pid,args")
        first = str(listed["Processes"][0][-1]).split()
    except (docker.errors.APIError, KeyError, IndexError, TypeError):
        return []
    return first[:1] if first and first[0].rpartition("/")[2].startswith("python") else []
