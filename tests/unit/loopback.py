"""A small HTTP server on a loopback port, for what speaks to services."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What arrived: the method, the path with its query, the headers, and what was posted."""

    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    method: str = "GET"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back. ``cut`` bytes of the body are promised and not sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0


Service = Callable[[Asked], Answer]


class _Server(ThreadingHTTPServer):
    service: Service


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self._body()
        answer = cast("_Server", self.server).service(
            Asked(method=self.command, path=self.path, headers=dict(self.headers), body=body)
        )
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) - answer.cut])

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_POST = do_PUT = do_PATCH = do_HEAD = do_DELETE = do_GET  # noqa: N815 - http.server's names for them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
        """Say nothing."""


@contextlib.contextmanager
def serving(service: Service, *, certificates: Path | None = None) -> Iterator[str]:
    """A server while the block runs.

    Args:
        service: What answers.
        certificates: Folder of :func:`tests.standin.tls.make_certificates`, for a server with TLS.

    Yields:
        Its ``host:port``.
    """
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.service = service
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
