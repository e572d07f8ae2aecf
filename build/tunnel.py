"""An engine on another machine, reached through ssh, as a socket on this one.

``docker`` speaks ``ssh://`` by itself: ``docker system dial-stdio`` is its own way through. The Python SDK would need
paramiko, which takes longer to load than most verbs take to run, and knows less of the user's ssh configuration.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

log = logging.getLogger(__name__)

_GRACE_S = 5.0


class Tunnel:
    """Listens on a Unix socket, and hands each connection to a ``docker`` that reaches the engine.

    Args:
        host: The engine's address, ``ssh://[user@]host[:port]``.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        # Private: whoever connects to the socket commands the engine.
        self._folder = Path(tempfile.mkdtemp(prefix="llm-d-dev-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / "docker.sock"))
        self._listener.listen()
        self._running: list[subprocess.Popen[bytes]] = []
        threading.Thread(target=self._serve, daemon=True).start()
        # Whoever has the engine has it to the end of the run.
        atexit.register(self.close)

    @property
    def address(self) -> str:
        """As ``DOCKER_HOST`` has it."""
        return f"unix://{self._folder}/docker.sock"

    def close(self) -> None:
        """End every connection."""
        atexit.unregister(self.close)
        # A thread that waits for a connection wakes up from this, not from close().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for process in self._running:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_GRACE_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._running = [process for process in self._running if process.poll() is None]
                    self._running.append(self._dial(connection))

    def _dial(self, connection: socket.socket) -> subprocess.Popen[bytes]:
        """A program whose standard input and output are the connection; it ends when its other end is closed."""
        log.debug("a connection to %s", self._host)
        return subprocess.Popen(
            ["docker", "system", "dial-stdio"],
            env={**os.environ, "DOCKER_HOST": self._host},
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
            # Ctrl-C is for us: what we then clean up goes through here.
            start_new_session=True,
        )
