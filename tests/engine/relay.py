"""A relay between clients and a server: it can hold a request at the moment that a test is about."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHUNK = 1 << 16
_REQUEST = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE) \S+ HTTP/1\.[01]\r\n")

Moment = Literal["asked", "done"]
"""When a request is held: before the server has it, or when its answer is on the way back."""


class Relay:
    """Passes bytes on between a Unix socket of its own and another one.

    Args:
        path: The socket that it makes.
        target: The socket that it connects to.
    """

    def __init__(self, path: Path, target: str) -> None:
        self.host = f"unix://{path}"
        self.seen: list[str] = []
        """Method and path of each request so far."""
        self._target = target
        self._hold: tuple[re.Pattern[str], Moment] | None = None
        self._held = threading.Event()
        self._released = threading.Event()
        self._over = False
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._released.set()
        # close() alone does not wake up accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def hold(self, pattern: str, moment: Moment) -> None:
        """Hold the first request from now on whose method and path match, until it is released."""
        self._hold = (re.compile(pattern), moment)

    def wait(self, *, seconds: float) -> bool:
        """Whether a request is held, within so many seconds."""
        return self._held.wait(seconds)

    def release(self) -> None:
        """Let what is held go on."""
        self._released.set()

    def _wait(self) -> bool:
        """Hold; whether to go on after that."""
        self._held.set()
        self._released.wait()
        return not self._over

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                answers_held = threading.Event()
                self._start(lambda c=client, s=server, h=answers_held: self._requests(c, s, h))  # type: ignore[misc]
                self._start(lambda c=client, s=server, h=answers_held: self._answers(c, s, h))  # type: ignore[misc]

    def _requests(self, client: socket.socket, server: socket.socket, answers_held: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                moment = self._moment(data)
                if moment == "asked" and not self._wait():
                    break
                if moment == "done":
                    answers_held.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answers(self, client: socket.socket, server: socket.socket, held: threading.Event) -> None:
        with contextlib.suppress(OSError), client, server:
            while data := server.recv(_CHUNK):
                if held.is_set() and not self._wait():
                    return
                client.sendall(data)

    def _moment(self, data: bytes) -> Moment | None:
        """When to hold what a client just sent; nothing else begins like a request."""
        if not _REQUEST.match(data):
            return None
        request = data.partition(b" HTTP/")[0].decode()
        self.seen.append(request)
        if self._hold is None or not self._hold[0].search(request):
            return None
        moment, self._hold = self._hold[1], None
        return moment
