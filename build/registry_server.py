"""The embedded image registry: Debian's ``docker-registry`` (distribution 2.8) on a loopback port.

Its port is chosen once and kept, because it is part of the names of the images that are pushed there.
"""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from build import command, daemon, packages, turn
from build.daemon import Daemon
from build.errors import EngineError
from build.folders import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from build.console import Console
    from build.folders import Folders

PACKAGES = ("docker-registry",)

_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 5


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the embedded registry does.

    Attributes:
        running: Whether its process is there.
        pid: Its process; None when it does not run.
        address: ``host:port`` that it has or had last; None if it never ran.
        data: Folder of what was pushed.
        data_bytes: Its size on disk.
        log: What it printed since its last start.
    """

    running: bool
    pid: int | None
    address: str | None
    data: Path
    data_bytes: int
    log: Path


def _server(folders: Folders) -> Daemon:
    return Daemon(
        argv=("docker-registry", "serve", str(folders.registry / "config.yml")),
        log=folders.registry / "registry.log",
        # Each of its settings can come from such a variable, and REGISTRY_AUTH_FILE is a variable of others.
        shields=("REGISTRY_",),
    )


def up(folders: Folders, *, port: int | None, install: bool, console: Console) -> str:
    """Start the registry if it does not run.

    Args:
        folders: Where it keeps its data.
        port: The port that the user wants; None for the one it had last, or a free one.
        install: Whether packages of the distribution may be installed.
        console: Where to say what is done.

    Returns:
        ``host:port``, the beginning of its images' names.

    Raises:
        EngineError: The wanted port is taken, or it cannot be installed or started; says why.
        BusyError: Another run is busy with it for 10 minutes.
    """
    if address := running(folders, port):
        return address
    with turn.taken(folders.locks, "registry", doing="starting the registry", console=console):
        if address := running(folders, port):
            return address
        packages.ensure(PACKAGES, allowed=install, console=console)
        with console.step("image registry"):
            return _start(folders, port)


def running(folders: Folders, port: int | None = None) -> str | None:
    """Address of the registry if it runs, answers, and has the wanted port."""
    remembered = _remembered(folders)
    if remembered is None or port not in (None, remembered) or _server(folders).pid() is None:
        return None
    return _address(remembered) if _answers(remembered) else None


def _start(folders: Folders, port: int | None) -> str:
    server = _server(folders)
    remembered = _remembered(folders)
    if remembered is not None and port in (None, remembered) and server.pid() is not None:
        # It is busy, perhaps with somebody's push.
        daemon.wait(server, ready=lambda: _answers(remembered), timeout_s=_START_TIMEOUT_S)
        return _address(remembered)
    if port is not None and not _free(port):
        raise EngineError(
            f"port {port} of {_LOOPBACK} is taken by something that is not this registry",
            hint="set another --registry-port (LLM_D_DEV_REGISTRY_PORT), or none to have a free one chosen",
        )
    # One that runs has another port than the wanted one.
    daemon.stop(server, grace_s=_STOP_TIMEOUT_S)
    chosen = port or _choose(folders)
    _write_configuration(folders, chosen)
    daemon.start(server, ready=lambda: _answers(chosen), timeout_s=_START_TIMEOUT_S)
    write_json(_memory(folders), {"port": chosen})
    return _address(chosen)


def _choose(folders: Folders) -> int:
    """The port it had last if nobody else took it, else one that is free."""
    remembered = _remembered(folders)
    if remembered is not None and _free(remembered):
        return remembered
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections of a registry that just ended linger, and do not keep the port from the next.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((_LOOPBACK, port))
            return True
    return False


def _write_configuration(folders: Folders, port: int) -> None:
    """Its configuration, JSON being YAML: https://distribution.github.io/distribution/about/configuration/.

    No ``http.debug``: that would be a second port.
    """
    write_json(
        folders.registry / "config.yml",
        {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(_data(folders))},
                "delete": {"enabled": True},
            },
            "http": {"addr": _address(port)},
        },
    )


def _memory(folders: Folders) -> Path:
    return folders.registry / "registry.json"


def _data(folders: Folders) -> Path:
    return folders.registry / "data"


def _address(port: int) -> str:
    return f"{_LOOPBACK}:{port}"


def _remembered(folders: Folders) -> int | None:
    try:
        port = json.loads(_memory(folders).read_text(encoding="utf-8"))["port"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return port if isinstance(port, int) else None


def _answers(port: int) -> bool:
    """Whether a registry answers there (distribution-spec, end-1), past any proxy."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.get(f"http://{_address(port)}/v2/", timeout=_ANSWER_TIMEOUT_S)
        except requests.RequestException:
            return False
    return bool(answer.status_code == requests.codes.ok)


def down(folders: Folders) -> bool:
    """Stop the registry; what was pushed stays.

    Returns:
        Whether it was running.
    """
    return daemon.stop(_server(folders), grace_s=_STOP_TIMEOUT_S)


def last_address(folders: Folders) -> str | None:
    """``host:port`` that it has or had last; None if it never ran."""
    port = _remembered(folders)
    return _address(port) if port is not None else None


def collect(folders: Folders, *, console: Console) -> int:
    """Remove layers that no manifest needs, and manifests without a tag.

    It is stopped meanwhile: layers that somebody uploads just then would count as garbage
    (https://distribution.github.io/distribution/about/garbage-collection/). Uploads are tried again.

    Returns:
        Bytes that were freed.

    Raises:
        EngineError: It could not be started again.
        BusyError: Another run is busy with it for 10 minutes.
    """
    words = [packages.program(PACKAGES[0]) or PACKAGES[0], "garbage-collect", "--delete-untagged"]
    with turn.taken(folders.locks, "registry", doing="collecting garbage", console=console):
        before = daemon.disk_usage(_data(folders))
        daemon.stop(_server(folders), grace_s=_STOP_TIMEOUT_S)
        try:
            command.run([*words, folders.registry / "config.yml"])
        finally:
            _start(folders, None)
        return max(0, before - daemon.disk_usage(_data(folders)))


def status(folders: Folders) -> Status:
    """What the registry does; starts and changes nothing."""
    pid = _server(folders).pid()
    return Status(
        running=pid is not None,
        pid=pid,
        address=last_address(folders),
        data=_data(folders),
        data_bytes=daemon.disk_usage(_data(folders)),
        log=_server(folders).log,
    )
