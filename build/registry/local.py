"""The embedded image registry: a container of the engine in use, on a loopback port of the engine's machine.

Each state folder has one registry on each engine. Its port is chosen once and kept in the container, because it is part
of the names of pushed images. Every start creates the container anew, so that a killed start leaves no state to repair.
Pushed images and the configuration are in a volume.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import tarfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import docker.errors
import requests
from docker.types import LogConfig
from pydantic import Field, TypeAdapter

from build.engine import embedded, labels
from build.errors import EngineError, UsageError
from build.host import stored, turn
from build.registry import container_image, former
from build.registry.login import ensure, htpasswd, known
from build.registry.repository_name import Access

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from docker.models.containers import Container

    from build.config.folders import Folders
    from build.engine.client import Engine
    from build.engine.credentials import Login
    from build.engine.image import Image
    from build.registry.container_image import Surroundings
    from build.registry.login import Identity

_LOOPBACK = "127.0.0.1"
_PORT = "5000/tcp"
_FOLDER = "/var/lib/registry"
_CONFIGURATION = f"{_FOLDER}/config.yml"
_USER = 65532
"""A user ID that owns only the registry's data, not its configuration."""

# Below the ports of Linux for outgoing connections (ip_local_port_range) and of Kubernetes for nodes.
_PORTS = range(20000, 30000)
_ATTEMPTS = 20
_TAKEN = ("port is already allocated", "address already in use", "ports are not available")

# The registry restarts with the engine, unless `engine down` stopped it. types-docker lacks this policy.
_RESTART: Any = {"Name": "unless-stopped", "MaximumRetryCount": 0}

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 5
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class RegistryStatus:
    """The state of the embedded registry.

    Attributes:
        running: Whether its container runs.
        container: Name of its container and volume; None if it never ran.
        address: Current or last ``host:port``; None if it never ran.
        login: File with the password of its user ``llm-d-dev``; None if it never ran.
        data_bytes: Size of its volume; None without a volume, or if no engine answers.
    """

    running: bool
    container: str | None
    address: str | None
    login: Path | None
    data_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class _Container:
    """The properties of a container, except its port.

    Attributes:
        image: Image.
        identity: Identity of its state folder.
        login: Login that it accepts.
        had: Port of the previous container; None without one.
    """

    image: Image
    identity: Identity
    login: Login
    had: int | None


def up(context: Surroundings) -> Access:
    """Start the registry if it does not run.

    Returns:
        The access to the registry.

    Raises:
        UsageError: It runs on another port than the setting requires.
        EngineError: The required port is in use, the start failed, or the engine's ports are not reachable.
        BusyError: Another run uses it for more than 10 minutes.
    """
    if access := _running_as_wanted(context):
        return access
    with turn.taken(context.folders.locks, "registry", doing="starting the registry", console=context.console):
        if access := _running_as_wanted(context):
            return access
        with context.console.step("image registry"):
            return _start(context, wanted=context.settings.registry_port)


def _running_as_wanted(context: Surroundings) -> Access | None:
    access = running(context.engine, context.folders)
    if access:
        _require_port(context, int(access.address.rpartition(":")[2]))
    return access


def _require_port(context: Surroundings, port: int) -> None:
    wanted = context.settings.registry_port
    if wanted not in (None, port):
        raise UsageError(
            f"the embedded registry runs on port {port}, which is part of its images' names, and the setting "
            f"registry_port is {wanted}",
            hint="remove the setting, or move the registry: `python -m build engine down`, then `engine up`",
        )


def running(engine: Engine, folders: Folders) -> Access | None:
    """Return the access to the registry if it runs and answers, else None."""
    identity = known(folders)
    login = identity.login() if identity else None
    container = _find(engine, identity) if identity else None
    if login is None or container is None or container.status != "running":
        return None
    access = _access(engine, _port(container), login)
    return access if _answer(access) == requests.codes.ok else None


def _access(engine: Engine, port: int, login: Login) -> Access:
    """Return the access from here to a registry on a port of the engine's machine."""
    return Access(address=f"{_LOOPBACK}:{port}", reached=engine.reached(port), login=login)


def _answer(access: Access) -> int | None:
    """Return the HTTP status of the registry's ``/v2/`` (distribution-spec, end-1) without a proxy, or None."""
    with requests.Session() as session:
        session.trust_env = False
        session.auth = (access.login.username, access.login.password)
        try:
            return session.get(f"http://{access.reached}/v2/", timeout=_ANSWER_TIMEOUT_S).status_code
        except requests.RequestException:
            return None


# --- Its container ---------------------------------------------------------------------------------------------


def _name(identity: Identity) -> str:
    return f"llm-d-dev-registry-{identity.id}"


def _find(engine: Engine, identity: Identity) -> Container | None:
    try:
        return engine.client.containers.get(_name(identity))
    except docker.errors.NotFound:
        return None


def _port(container: Container) -> int:
    return int(container.attrs["HostConfig"]["PortBindings"][_PORT][0]["HostPort"])


def _start(context: Surroundings, *, wanted: int | None) -> Access:
    engine, folders = context.engine, context.folders
    engine.require_reachable_ports()
    identity = ensure(folders)
    login = identity.login()
    container = _find(engine, identity)
    if container and container.status == "running" and login:
        if wanted:
            _require_port(context, _port(container))
        # It is only slow to answer, perhaps because of a push.
        access = _access(engine, _port(container), login)
        if _wait(container, access):
            return access
    image = container_image.ensure(context)
    _end_collectors(engine, identity)
    if former.stop(folders):
        context.console.note("stopped the registry process of an earlier version; a container replaces it")
    # A container that never started may have a port that was in use.
    started = container is not None and container.status != "created"
    had = _port(container) if container and started else _remembered(folders)
    made = _Container(image=image, identity=identity, login=login or identity.renew(), had=had)
    for port in _candidates(wanted, had):
        if begun := _started(context, made, port):
            return begun
    raise EngineError(
        f"found no free port of {_LOOPBACK} for the embedded registry",
        hint="set registry_port (LLM_D_DEV_REGISTRY_PORT)",
    )


def _started(context: Surroundings, made: _Container, port: int) -> Access | None:
    """Start the registry on a port. Return None if the port is in use."""
    engine, folders, name = context.engine, context.folders, _name(made.identity)
    # Write the port before removing the container that has it.
    stored.write(_memory(folders), {"port": made.had or port})
    container = _create(engine, made, port)
    _move_in(context, container)
    if not _begin(container):
        return None
    if made.had not in (None, port):
        context.console.warn(
            f"the embedded registry moves from port {made.had} to {port}: earlier images are now found under {port}"
        )
    access = _access(engine, port, made.login)
    if not _wait(container, access):
        raise EngineError(f"{name} refuses its own password", hint=f"look for the reason in `docker logs {name}`")
    stored.write(_memory(folders), {"port": port})
    return access


def _candidates(wanted: int | None, had: int | None) -> Iterator[int]:
    """Yield the ports to try, the previous one first.

    Raises:
        EngineError: The required port is in use.
    """
    if wanted:
        yield wanted
        raise EngineError(
            f"port {wanted} of {_LOOPBACK} is used by another program",
            hint="set another registry_port (LLM_D_DEV_REGISTRY_PORT), or remove it to use any free port",
        )
    if had:
        yield had
    yield from (secrets.choice(_PORTS) for _ in range(_ATTEMPTS))


def _create(engine: Engine, made: _Container, port: int) -> Container:
    """Create the container with its configuration, and remove an old one."""
    name, marks = _name(made.identity), {labels.KIND: "registry", labels.REGISTRY: made.identity.id}
    with contextlib.suppress(docker.errors.NotFound):
        engine.client.api.remove_container(name, force=True)
    engine.client.volumes.create(name, labels=marks)
    container = engine.client.containers.create(
        made.image.id,
        **_confined(name),
        command=["serve", _CONFIGURATION],
        name=name,
        labels=marks,
        ports={_PORT: (_LOOPBACK, port)},
        restart_policy=_RESTART,
    )
    container.put_archive(_FOLDER, _told(made.login))
    return container


def _confined(volume: str) -> dict[str, Any]:
    """Return the confinement of its containers: read-only, except for their volume."""
    return {
        "user": f"{_USER}:{_USER}",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": "size=64m"},  # noqa: S108 - the container's own
        "pids_limit": 256,
        "log_config": LogConfig(type="json-file", config={"max-size": "5m", "max-file": "2"}),
        "volumes": {volume: {"bind": _FOLDER, "mode": "rw"}},
        # distribution 3 would send traces.
        "environment": {"OTEL_TRACES_EXPORTER": "none"},
        "use_config_proxy": False,
    }


def _told(login: Login) -> bytes:
    """Return a tar archive with configuration and htpasswd file, which the registry cannot change.

    JSON is valid YAML: https://distribution.github.io/distribution/about/configuration/. ``http.debug`` is left out,
    because it opens a second port.
    """
    configuration = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": f"{_FOLDER}/data"}, "delete": {"enabled": True}},
        "auth": {"htpasswd": {"realm": "llm-d-dev", "path": f"{_FOLDER}/htpasswd"}},
        "http": {"addr": f":{_PORT.partition('/')[0]}"},
    }
    data = tarfile.TarInfo("data")
    data.type, data.mode, data.uid, data.gid = tarfile.DIRTYPE, 0o700, _USER, _USER
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(data)
        for name, text in (("config.yml", json.dumps(configuration)), ("htpasswd", htpasswd(login))):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.gid = len(text), 0o640, _USER
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _move_in(context: Surroundings, container: Container) -> None:
    """Take over the images of an earlier version's registry process."""
    folders, console = context.folders, context.console
    left = former.data(folders)
    if not context.engine.is_here:
        if left.exists():
            console.warn(
                f"images of the former registry stay in {left}, until this runs with an engine on this machine"
            )
        return

    def take(archive: Iterable[bytes]) -> None:
        console.note(f"moving the images of the former registry from {left} into the volume {container.name}")
        container.put_archive(_FOLDER, archive)

    former.move(folders, owner=_USER, into=take)


def _begin(container: Container) -> bool:
    """Start a container. Return whether its port was free."""
    try:
        container.start()
    except docker.errors.APIError as error:
        said = str(error.explanation)
        if any(words in said.lower() for words in _TAKEN):
            return False
        raise EngineError(
            f"the embedded registry did not start: {said}", hint="`docker info` shows the state of the engine"
        ) from error
    return True


def _wait(container: Container, access: Access) -> bool:
    """Wait until the registry answers.

    Returns:
        Whether it accepts the login.

    Raises:
        EngineError: It ended, or did not answer in time. The message has the end of its log.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    hint = f"see `docker logs {container.name}`"
    while (answer := _answer(access)) != requests.codes.ok:
        if answer == requests.codes.unauthorized:
            return False
        container.reload()
        if container.status != "running":
            said = container.logs(tail=3).decode(errors="replace").strip()
            raise EngineError(f"the embedded registry ended while starting: {said[-500:]}", hint=hint)
        if time.monotonic() > deadline:
            raise EngineError(
                f"the embedded registry runs, but {access.reached} does not answer after {_START_TIMEOUT_S:.0f} s",
                hint=f"{hint}; if this runs in a container, give it the host's network, or set `registry`",
            )
        time.sleep(_POLL_S)
    return True


# --- What is remembered here -------------------------------------------------------------------------------------


_MEMORY = TypeAdapter(dict[Literal["port"], Annotated[int, Field(gt=0, lt=1 << 16, strict=True)]]).validate_python


def _memory(folders: Folders) -> Path:
    return folders.registry / "registry.json"


def _remembered(folders: Folders) -> int | None:
    """Return the last port, for use without a container."""
    known = stored.read(_memory(folders), _MEMORY)
    return known.get("port") if known else None


def last_address(folders: Folders) -> str | None:
    """Return the current or last ``host:port``, or None if it never ran."""
    port = _remembered(folders)
    return f"{_LOOPBACK}:{port}" if port is not None else None


# --- Down, garbage, status ---------------------------------------------------------------------------------------


def down(engine: Engine | None, folders: Folders) -> bool:
    """Stop the registry. Pushed images stay.

    Args:
        engine: Engine of the registry; None if no engine answers.
        folders: Folders of this tool.

    Returns:
        Whether it was running.
    """
    stopped = former.stop(folders)
    identity = known(folders)
    container = _find(engine, identity) if engine and identity else None
    if container is None or container.status not in {"running", "restarting", "paused"}:
        return stopped
    container.stop(timeout=_STOP_TIMEOUT_S)
    return True


def stop(folders: Folders) -> bool:
    """Stop the registry on the engine in use, embedded or not, like :func:`down`."""
    with contextlib.ExitStack() as stack:
        if engine := embedded.in_use(folders):
            stack.enter_context(contextlib.closing(engine))
        return down(engine, folders)


def collect(context: Surroundings) -> int:
    """Remove unreferenced layers and untagged manifests.

    The registry is stopped meanwhile, because layers of a concurrent upload would count as garbage
    (https://distribution.github.io/distribution/about/garbage-collection/). Clients retry uploads. A killed run leaves
    the registry stopped, and the next run that needs it starts it.

    Returns:
        Freed bytes.

    Raises:
        EngineError: The registry did not start again.
        BusyError: Another run uses it for more than 10 minutes.
    """
    engine, folders = context.engine, context.folders
    with turn.taken(folders.locks, "registry", doing="collecting garbage", console=context.console):
        identity = known(folders)
        container = _find(engine, identity) if identity else None
        if identity is None or container is None:
            return 0
        before = _volume_bytes(engine, _name(identity)) or 0
        container.stop(timeout=_STOP_TIMEOUT_S)
        try:
            _collect(engine, identity, container.attrs["Image"])
        finally:
            _start(context, wanted=None)
        return max(0, before - (_volume_bytes(engine, _name(identity)) or 0))


def _collect(engine: Engine, identity: Identity, image_id: str) -> None:
    words = ["garbage-collect", "--delete-untagged", _CONFIGURATION]
    with engine.created(image_id, **_confined(_name(identity)), command=words, network_mode="none") as container:
        container.start()
        status = container.wait()["StatusCode"]
        if status:
            said = container.logs(tail=1).decode(errors="replace").strip()
            raise EngineError(
                f"the embedded registry's garbage collection ended with exit code {status}: {said}",
                hint="free disk space for the engine's volumes, then run this again",
            )


def _end_collectors(engine: Engine, identity: Identity) -> None:
    """Remove garbage collectors of killed runs, because they would remove concurrent uploads."""
    for row in engine.client.api.containers(all=True, filters={"volume": _name(identity), "label": labels.OWNER}):
        with contextlib.suppress(docker.errors.NotFound):
            engine.client.api.remove_container(row["Id"], force=True)


def _volume_bytes(engine: Engine, name: str) -> int | None:
    found = [volume for volume in engine.client.df().get("Volumes") or () if volume["Name"] == name]
    return next((volume["UsageData"]["Size"] for volume in found if volume.get("UsageData")), None)


def status(engine: Engine | None, folders: Folders) -> RegistryStatus:
    """Return the state of the registry without changing it.

    Args:
        engine: Engine of the registry; None if no engine answers.
        folders: Folders of this tool.
    """
    identity = known(folders)
    container = _find(engine, identity) if engine and identity else None
    return RegistryStatus(
        running=container is not None and container.status == "running",
        container=_name(identity) if identity else None,
        address=f"{_LOOPBACK}:{_port(container)}" if container else last_address(folders),
        login=identity.file if identity else None,
        data_bytes=_volume_bytes(engine, _name(identity)) if engine and identity else None,
    )
