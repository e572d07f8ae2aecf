"""Requests to a server that is not trusted."""

from __future__ import annotations

import socketserver
import threading

from build.registry.exchange import Exchange


class _ClosesWhenUsedAgain(socketserver.StreamRequestHandler):
    """Answer the first request of a connection and promise to keep it; close it at the next request."""

    def handle(self) -> None:
        while line := self.rfile.readline().strip():
            del line
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.rfile.readline()


def test_a_server_that_closes_a_kept_connection_at_the_next_request_answers_each() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _ClosesWhenUsedAgain) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        exchange = Exchange(seconds=10, is_untrusted=True)
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        answers = [exchange.send("GET", address, limit=10, headers={}).content for _ in range(3)]
        exchange.close()
        server.shutdown()
    assert answers == [b"ok"] * 3
