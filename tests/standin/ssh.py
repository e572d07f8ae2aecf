"""In ssh's place: the way to the engine, and to ports of the engine's machine, ends up on this machine.

Arguments: the engine's address, then what ssh is given.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on to the end."""
    while data := source.recv(1 << 16):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def forward(path: str, host: str, port: str) -> None:
    """As ``-L path:host:port``."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        client, _ = listener.accept()
        server = socket.create_connection((host, int(port)))
        threading.Thread(target=pump, args=(client, server), daemon=True).start()
        threading.Thread(target=pump, args=(server, client), daemon=True).start()


if __name__ == "__main__":
    engine, *words = sys.argv[1:]
    if "-L" in words:
        forward(*words[words.index("-L") + 1].rsplit(":", 2))
    if "docker system dial-stdio" in " ".join(words):
        os.environ["DOCKER_HOST"] = engine
        os.execvp("docker", ["docker", "system", "dial-stdio"])  # noqa: S606 - as ssh does
    sys.exit(1)
