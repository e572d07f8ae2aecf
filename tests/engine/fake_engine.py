"""An engine that answers just enough to be found lacking."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_VERSION = {"Version": "22.0.1", "ApiVersion": "1.45", "MinAPIVersion": "1.24"}
_INFO = {"Driver": "overlay2", "NCPU": 1, "MemTotal": 1, "Runtimes": {}, "CDISpecDirs": []}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    answers: Mapping[str, Any]
    buildkit: bool


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # /v1.45/info and /info are the same.
        path = "/" + self.path.partition("?")[0].removeprefix("/v1.45").lstrip("/")
        self._send(self.server.answers.get(path))

    do_HEAD = do_GET  # noqa: N815 - http.server's name for it

    def _send(self, answer: Any) -> None:  # noqa: ANN401 - any JSON value
        missing = {"message": f"no such thing: {self.path}"}
        body = json.dumps(missing if answer is None else answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Api-Version", _VERSION["ApiVersion"])
        if self.server.buildkit:
            self.send_header("Builder-Version", "2")
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
        """Say nothing."""


@contextlib.contextmanager
def answering(path: Path, *, root: str = "/", buildkit: bool = True) -> Iterator[str]:
    """An engine without images and containers, while the block runs.

    Args:
        path: Its socket.
        root: Folder of its data, as it reports it.
        buildkit: Whether it says that it has BuildKit.

    Yields:
        Its address.
    """
    with _Server(str(path), _Handler) as server:
        server.buildkit = buildkit
        server.answers = {
            "/_ping": "OK",
            "/version": _VERSION,
            "/info": {**_INFO, "DockerRootDir": root},
            "/containers/json": [],
            "/images/json": [],
        }
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join()
