"""An engine on another machine and its ports, reached through ssh as sockets on this machine.

``docker`` supports ``ssh://`` through ``docker system dial-stdio``. The Python SDK would need paramiko, which takes
longer to load than most verbs take to run, and supports less of the user's ssh configuration.
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
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from build.errors import EngineError
from build.host.process import mortal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

_GRACE_S = 5.0
_CONNECT_S = 20
_POLL_S = 0.05
_CHUNK_BYTES = 1 << 16

# ssh's message where the server's sshd_config has AllowTcpForwarding off (channels.c, RFC 4254 section 5.1).
_PROHIBITED = "administratively prohibited"

_PREFIX = "llm-d-dev-"
# unix(7): sun_path has 108 bytes, the last of them is 0.
_SOCKET_PATH_BYTES = 107


class Tunnel:
    """A Unix socket whose connections are passed to a ``docker`` that reaches the engine.

    Args:
        host: Address of the engine, ``ssh://[user@]host[:port]``.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        # Private: anyone who can connect to the socket commands the engine.
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place_of_sockets()))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / "docker.sock"))
        self._listener.listen()
        self._running: list[subprocess.Popen[bytes]] = []
        threading.Thread(target=self._serve, daemon=True).start()
        # The tunnel stays open to the end of the run.
        atexit.register(self.close)

    @property
    def address(self) -> str:
        """The socket's address in the form of ``DOCKER_HOST``."""
        return f"unix://{self._folder}/docker.sock"

    def close(self) -> None:
        """End every connection."""
        atexit.unregister(self.close)
        # This wakes a thread that waits for a connection; close() does not.
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
        """Start a program with the connection as standard input and output. It ends when the other end is closed."""
        log.debug("a connection to %s", self._host)
        return subprocess.Popen(
            ["docker", "system", "dial-stdio"],
            # TLS is for other addresses.
            env={**os.environ, "DOCKER_HOST": self._host, "DOCKER_TLS": "", "DOCKER_TLS_VERIFY": ""},
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
            # Only this process takes Ctrl-C: its clean-up uses this connection.
            start_new_session=True,
        )


@contextlib.contextmanager
def forwarded(host: str, port: int) -> Iterator[int]:
    """Forward a port of this machine's loopback interface to another machine's while the block runs.

    ssh listens on a socket in a private folder, which no other program can replace. This process listens on the port.

    Args:
        host: Address of the other machine, ``ssh://[user@]host[:port]``.
        port: Port on that machine's loopback interface.

    Yields:
        The port on this machine.

    Raises:
        EngineError: ssh cannot connect, or the server does not forward ports.
    """
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_place_of_sockets(), ignore_cleanup_errors=True) as name,
        contextlib.ExitStack() as stack,
    ):
        path, said = Path(name, "port"), Path(name, "said")
        process = stack.enter_context(_ssh(host, _forwarding(host, port, path), said))
        _await_socket(host, process, path, said)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=_relay_all, args=(listener, path), daemon=True).start()
        # This wakes a thread that waits for a connection; close() does not.
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield listener.getsockname()[1]


def _place_of_sockets() -> str:
    """Return the folder for temporary folders with a socket: ``/tmp`` where ``TMPDIR`` is too long a path."""
    found = tempfile.gettempdir()
    longest = _SOCKET_PATH_BYTES - len(f"/{_PREFIX}12345678/docker.sock")
    return found if len(os.fsencode(found)) <= longest else "/tmp"  # noqa: S108 - a private folder is made in it


def _forwarding(host: str, port: int, path: Path) -> list[str]:
    """Return ssh's command line, with the options that ``docker`` uses for ``ssh://``."""
    address = urlsplit(host)
    words = ["ssh", "-N", "-T", "-o", f"ConnectTimeout={_CONNECT_S}"]
    # A shared connection would keep the forwarding alive after this process.
    words += ["-o", "ControlPath=none", "-L", f"{path}:127.0.0.1:{port}"]
    # At a lower log level, ssh does not print a refusal.
    words += ["-o", "LogLevel=INFO"]
    words += ["-l", address.username] if address.username else []
    words += ["-p", str(address.port)] if address.port else []
    return [*words, "--", address.hostname or ""]


@contextlib.contextmanager
def _ssh(host: str, words: Sequence[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    log.debug("a forwarded port of %s", host)
    if not shutil.which(words[0]):
        raise EngineError("ssh is not installed on this machine", hint="install the package openssh-client")
    with said.open("wb") as errors:
        process = subprocess.Popen(
            mortal(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            # Only this process takes Ctrl-C: its clean-up uses this connection.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_socket(host: str, process: subprocess.Popen[bytes], path: Path, said: Path) -> None:
    """Wait until the socket accepts connections. Stop waiting if ssh ends."""
    deadline = time.monotonic() + _CONNECT_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() >= deadline:
            raise EngineError(
                f"ssh forwards no port of {host}: {_last_line(said)}",
                hint="`ssh` to that machine must work without a password; ssh's configuration may name the key",
            )
        time.sleep(_POLL_S)
    _try(path)
    if _PROHIBITED in said.read_text(errors="replace"):
        raise EngineError(
            f"the ssh server of {host} does not forward ports",
            hint="set `AllowTcpForwarding local` in its sshd_config: tests reach the server through it",
        )


def _try(path: Path) -> None:
    """Connect without a request: once the connection has ended, ssh has printed why."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(_GRACE_S)
        probe.connect(str(path))
        probe.shutdown(socket.SHUT_WR)
        probe.recv(1)


def _last_line(said: Path) -> str:
    lines = said.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it did not connect in time"


def _relay_all(listener: socket.socket, path: Path) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_relay, args=(connection, path), daemon=True).start()


def _relay(connection: socket.socket, path: Path) -> None:
    with connection, socket.socket(socket.AF_UNIX) as other, contextlib.suppress(OSError):
        other.connect(str(path))
        back = threading.Thread(target=_pump, args=(other, connection), daemon=True)
        back.start()
        _pump(connection, other)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until the source ends, then end the target."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
