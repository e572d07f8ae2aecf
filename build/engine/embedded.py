"""The embedded Docker Engine: a private dockerd for machines where no engine answers.

Its data is in the state folder. It listens only on a socket in a folder under ``/run`` that only root can enter. An
engine that already answers is used as it is, and never changed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import docker.errors
import requests

from build.engine.client import answering, find
from build.errors import EngineError
from build.host import apt, background, mounts, process, turn
from build.host.background import Daemon
from build.host.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from build.config.folders import Folders
    from build.console import Console
    from build.engine.client import Engine

T = TypeVar("T")

PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "iptables")

_OLDEST = 25
"""First release of dockerd that can hand CDI devices to containers (moby/moby, 25.0)."""
_BUILD_CACHE = "20GB"
_START_TIMEOUT_S = 120.0
_SHUTDOWN_S = 15
_STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class EngineStatus:
    """The state of the embedded engine.

    Attributes:
        running: Whether its process runs.
        pid: Process ID; None when it does not run.
        socket: Path of its socket, whether it runs or not.
        version: Release of the engine; None when it does not answer.
        data: Folder of its images.
        data_bytes: Size of its images and build cache on disk; None when it does not answer.
        log: Log file with the output since its last start.
    """

    running: bool
    pid: int | None
    socket: Path
    version: str | None
    data: Path
    data_bytes: int | None
    log: Path


def socket(folders: Folders) -> Path:
    """Path of the embedded engine's socket; it exists only while the engine runs."""
    return folders.runtime / "docker.sock"


def cdi_specs(folders: Folders) -> Path:
    """Folder of CDI specifications that the embedded engine reads besides the machine's own."""
    return folders.engine / "cdi"


def _host(folders: Folders) -> str:
    return f"unix://{socket(folders)}"


def _exec_root(folders: Folders) -> Path:
    return folders.runtime / "exec"


def _data_root(folders: Folders) -> Path:
    return folders.engine / "data"


def _namespace(folders: Folders) -> str:
    """Return the namespace in containerd: dockerd uses the machine's containerd, shared with others, where one runs."""
    return f"llm-d-dev-{folders.runtime.name}"


def _dockerd(folders: Folders) -> Daemon:
    return Daemon(
        argv=("dockerd", "--config-file", str(folders.engine / "daemon.json")),
        log=folders.engine / "dockerd.log",
        # DOCKER_TLS_VERIFY and similar variables are meant for clients, but dockerd reads them too.
        shields=("DOCKER_",),
    )


def up(folders: Folders, *, install: bool, console: Console) -> Engine:
    """Return an engine that answers: a running one, else the embedded engine, installed and started.

    Args:
        folders: Where the embedded engine keeps its data and socket.
        install: Whether packages of the distribution may be installed.
        console: Console for progress.

    Raises:
        EngineError: No engine answers and the embedded one cannot be started. The message says why.
        BusyError: Another run is busy with the engine for 10 minutes.
    """
    if engine := _find(folders):
        return engine
    with turn.taken(folders.locks, "engine", doing="starting the engine", console=console):
        # The run that held the lock may have started it.
        if engine := _find(folders):
            return engine
        apt.ensure(PACKAGES, allowed=install, console=console)
        _check_startable()
        with console.step("Docker Engine"):
            return _start(folders)


def _find(folders: Folders) -> Engine | None:
    """Find an engine like :func:`build.engine.client.find`; an embedded one in ``DOCKER_HOST`` need not answer yet."""
    if os.environ.get("DOCKER_HOST") == _host(folders):
        return _answering(folders)
    return find(embedded_socket=str(socket(folders)))


def in_use(folders: Folders) -> Engine | None:
    """Return the engine that the verbs use, or None if it does not answer. Starts and changes nothing."""
    with contextlib.suppress(EngineError):
        return _find(folders)
    return None


def _answering(folders: Folders) -> Engine | None:
    """Return the embedded engine, or None if it does not answer."""
    return answering(_host(folders), origin="embedded")


def _check_startable() -> None:
    if os.geteuid() != 0:
        raise EngineError(
            "no Docker Engine answers, and only root can start one",
            hint="start Docker, or set DOCKER_HOST to an engine that runs, or run this as root",
        )
    version = process.run([apt.program("dockerd") or "dockerd", "--version"]).text
    match = re.search(r"version (\d+)\.", version)
    if match and int(match[1]) < _OLDEST:
        raise EngineError(
            f"the installed dockerd is older than {_OLDEST}: {version}",
            hint="upgrade it, or remove it so that this tool installs one, and run this again",
        )


def _start(folders: Folders) -> Engine:
    server = _dockerd(folders)
    if server.pid() is not None:
        # It is busy: a run that cannot wait must not disturb its builds and containers.
        background.wait(server, ready=lambda: _asked(folders, _version) is not None, timeout_s=_START_TIMEOUT_S)
        return _started(folders)
    _clear(folders)
    _write_configuration(folders)
    try:
        background.start(server, ready=lambda: _asked(folders, _version) is not None, timeout_s=_START_TIMEOUT_S)
        return _started(folders)
    except BaseException:
        background.stop(server, grace_s=_STOP_TIMEOUT_S)
        _clear(folders)
        raise


def _started(folders: Folders) -> Engine:
    engine = _answering(folders)
    if engine is None:
        raise EngineError(
            "dockerd stopped answering right after its start", hint=f"read its log: {_dockerd(folders).log}"
        )
    return engine


def _write_configuration(folders: Folders) -> None:
    """Write dockerd's configuration: https://docs.docker.com/reference/cli/dockerd/, "Daemon configuration file"."""
    specs = cdi_specs(folders)
    specs.mkdir(parents=True, exist_ok=True)
    folders.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders.runtime.chmod(0o700)
    write_json(
        folders.engine / "daemon.json",
        {
            "data-root": str(_data_root(folders)),
            "exec-root": str(_exec_root(folders)),
            "pidfile": str(folders.runtime / "docker.pid"),
            "hosts": [_host(folders)],
            "group": "root",
            "containerd-namespace": _namespace(folders),
            # The classic image store in every release: there, the image ID is the registry's config digest.
            "features": {"cdi": True, "containerd-snapshotter": False},
            "cdi-spec-dirs": [str(specs), "/etc/cdi", "/var/run/cdi"],
            "builder": {"gc": {"enabled": True, "defaultKeepStorage": _BUILD_CACHE}},
            "shutdown-timeout": _SHUTDOWN_S,
        },
    )


def down(folders: Folders, *, console: Console) -> bool:
    """Stop the embedded engine, and remove its processes and mounts. Its data stays. Other engines keep running.

    Args:
        folders: Where it keeps its data and socket.
        console: Console for progress.

    Returns:
        Whether the engine was running.

    Raises:
        EngineError: A process cannot be stopped.
        BusyError: Another run is busy with the engine for 10 minutes.
    """
    with turn.taken(folders.locks, "engine", doing="stopping the engine", console=console):
        stopped = background.stop(_dockerd(folders), grace_s=_STOP_TIMEOUT_S)
        if os.geteuid() == 0:
            _clear(folders)
        return stopped


def _clear(folders: Folders) -> None:
    """Remove the containers, containerd, mounts and sockets that a killed dockerd left."""
    data, runtime = _data_root(folders), folders.runtime
    toml = str(_exec_root(folders) / "containerd/containerd.toml")
    _end_all(lambda pid: _follows(pid, "containerd", "--config", toml), grace_s=_SHUTDOWN_S)
    _end_all(lambda pid: _follows(pid, "containerd-shim", "-namespace", _namespace(folders)), grace_s=0)
    _end_all(lambda pid: _lives_on(pid, data), grace_s=0)
    # Unmount before deleting: the mounts below belong to images.
    mounts.clear([data, runtime])
    shutil.rmtree(runtime, ignore_errors=True)


def _end_all(ours: Callable[[int], bool], *, grace_s: float) -> None:
    for pid in [pid for pid in background.pids() if ours(pid)]:
        background.end(pid, ours=ours, grace_s=grace_s)


def _follows(pid: int, program: str, option: str, value: str) -> bool:
    """Return whether a process is a program with this value of an option."""
    words = background.arguments(pid)
    return bool(words) and Path(words[0]).name.startswith(program) and (option, value) in itertools.pairwise(words)


def _lives_on(pid: int, data: Path) -> bool:
    """Return whether a process is in a container of the embedded engine: its root writes to ``data``."""
    uppers = [mount.upper for mount in mounts.of(pid) if mount.point == Path("/") and mount.upper]
    # overlay2 uses a path relative to its own folder where the options would be longer than a page.
    paths = [data / "overlay2" / upper for upper in uppers]
    return any(path.is_relative_to(data) and path.exists() for path in paths)


def status(folders: Folders) -> EngineStatus:
    """Return the state of the embedded engine. Starts and changes nothing."""
    pid = _dockerd(folders).pid()
    return EngineStatus(
        running=pid is not None,
        pid=pid,
        socket=socket(folders),
        version=_asked(folders, _version) if pid is not None else None,
        data=_data_root(folders),
        data_bytes=_asked(folders, _data_bytes) if pid is not None else None,
        log=_dockerd(folders).log,
    )


def _asked(folders: Folders, question: Callable[[Engine], T]) -> T | None:
    """Return the embedded engine's answer, or None without one."""
    engine = _answering(folders)
    if engine is None:
        return None
    with contextlib.closing(engine):
        try:
            return question(engine)
        except (docker.errors.DockerException, requests.RequestException):
            # It is shutting down.
            return None


def _version(engine: Engine) -> str:
    return engine.capabilities.server_version


def _data_bytes(engine: Engine) -> int:
    """Return the size from the engine's records: walking through its folder takes seconds."""
    usage = engine.client.df()
    # A build step that became a layer of an image is counted with the image.
    cache = (record["Size"] for record in usage.get("BuildCache") or () if not record["Shared"])
    return int(usage.get("LayersSize") or 0) + int(sum(cache))
