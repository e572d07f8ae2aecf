"""The embedded image registry: a container of the engine in use, on a loopback port of the engine's machine.

One a state folder and engine. Its port is chosen once and kept, because it is part of the names of the images that
are pushed there: the container knows it. The container is made anew whenever it has to be started, so that a start
which was killed half-way leaves nothing that the next one would have to understand; what was pushed, and what the
registry is told, is in a volume.
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
"""Nobody else's number: the registry owns its data and nothing else, above all not what it is told."""

# Below what Linux takes for outgoing connections (ip_local_port_range) and Kubernetes for its nodes' ports.
_PORTS = range(20000, 30000)
_ATTEMPTS = 20
_TAKEN = ("port is already allocated", "address already in use", "ports are not available")

# It comes back with the engine, unless `engine down` stopped it. types-docker does not know this policy.
_RESTART: Any = {"Name": "unless-stopped", "MaximumRetryCount": 0}

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 5
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class RegistryStatus:
    """What the embedded registry does.

    Attributes:
        running: Whether its container runs.
        container: Name of its container and of the volume of what was pushed; None if it never ran.
        address: ``host:port`` that it has or had last; None if it never ran.
        login: File of the password of its user ``llm-d-dev``; None if it never ran.
        data_bytes: Size of its volume; None if there is none, or no engine answers.
    """

    running: bool
    container: str | None
    address: str | None
    login: Path | None
    data_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class _Container:
    """What a container is made of, whatever its port.

    Attributes:
        image: What it runs.
        identity: Whose it is.
        login: What it lets in.
        had: The port of the one before; None if there was none.
    """

    image: Image
    identity: Identity
    login: Login
    had: int | None


def up(context: Surroundings) -> Access:
    """Start the registry if it does not run.

    Returns:
        How it is spoken to.

    Raises:
        UsageError: It runs, and the setting wants another port.
        EngineError: The wanted port is taken, it cannot be made or started, or the engine's ports cannot be reached.
        BusyError: Another run is busy with it for 10 minutes.
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
            hint="leave the setting out; or move the registry: `python -m build engine down`, then `engine up`",
        )


def running(engine: Engine, folders: Folders) -> Access | None:
    """How the registry is spoken to, if it runs and answers."""
    identity = known(folders)
    login = identity.login() if identity else None
    container = _find(engine, identity) if identity else None
    if login is None or container is None or container.status != "running":
        return None
    access = _access(engine, _port(container), login)
    return access if _answer(access) == requests.codes.ok else None


def _access(engine: Engine, port: int, login: Login) -> Access:
    """How a registry on a port of the engine's machine is spoken to from here."""
    return Access(address=f"{_LOOPBACK}:{port}", reached=engine.reached(port), login=login)


def _answer(access: Access) -> int | None:
    """Status of the registry's answer (distribution-spec, end-1), asked past any proxy; None if there is none."""
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
        # It is busy, perhaps with a push.
        access = _access(engine, _port(container), login)
        if _wait(container, access):
            return access
    image = container_image.ensure(context)
    _end_collectors(engine, identity)
    if former.stop(folders):
        context.console.note("the registry that ran as a process is stopped; a container takes its place")
    # A container that never started may have been meant for a port that was taken.
    started = container is not None and container.status != "created"
    had = _port(container) if container and started else _remembered(folders)
    made = _Container(image=image, identity=identity, login=login or identity.renew(), had=had)
    for port in _candidates(wanted, had):
        if begun := _started(context, made, port):
            return begun
    raise EngineError(
        f"no port of {_LOOPBACK} is free for the embedded registry", hint="set registry_port (LLM_D_DEV_REGISTRY_PORT)"
    )


def _started(context: Surroundings, made: _Container, port: int) -> Access | None:
    """The registry on a port; None if the port is taken."""
    engine, folders, name = context.engine, context.folders, _name(made.identity)
    # Before the container that knows it goes.
    stored.write(_memory(folders), {"port": made.had or port})
    container = _create(engine, made, port)
    _move_in(context, container)
    if not _begin(container):
        return None
    if made.had not in (None, port):
        context.console.warn(
            f"the embedded registry moves from port {made.had} to {port}: images pushed before are there under {port}"
        )
    access = _access(engine, port, made.login)
    if not _wait(container, access):
        raise EngineError(f"{name} refuses the password that it was given", hint=f"`docker logs {name}` says why")
    stored.write(_memory(folders), {"port": port})
    return access


def _candidates(wanted: int | None, had: int | None) -> Iterator[int]:
    """The ports to try, the one it had first.

    Raises:
        EngineError: The wanted one was tried, and is taken.
    """
    if wanted:
        yield wanted
        raise EngineError(
            f"port {wanted} of {_LOOPBACK} is taken by something that is not this registry",
            hint="set another registry_port (LLM_D_DEV_REGISTRY_PORT), or none to have a free one chosen",
        )
    if had:
        yield had
    yield from (secrets.choice(_PORTS) for _ in range(_ATTEMPTS))


def _create(engine: Engine, made: _Container, port: int) -> Container:
    """The container, told everything it needs, in place of one that does not run as it should."""
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
    """What its containers may: read themselves, and write their volume."""
    return {
        "user": f"{_USER}:{_USER}",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {"/tmp": "size=64m"},  # noqa: S108 - the container's own
        "pids_limit": 256,
        "log_config": LogConfig(type="json-file", config={"max-size": "5m", "max-file": "2"}),
        "volumes": {volume: {"bind": _FOLDER, "mode": "rw"}},
        # Where distribution 3 would send traces: nowhere.
        "environment": {"OTEL_TRACES_EXPORTER": "none"},
        "use_config_proxy": False,
    }


def _told(login: Login) -> bytes:
    """A tar archive of its configuration and of what it checks a login against; neither is its own to change.

    JSON is YAML: https://distribution.github.io/distribution/about/configuration/. No ``http.debug``: that would be
    a second port.
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
    """Take over what the registry had when it was a process of this machine."""
    folders, console = context.folders, context.console
    left = former.data(folders)
    if not context.engine.is_here:
        if left.exists():
            console.warn(f"images of this machine's former registry stay in {left}; an engine here takes them over")
        return

    def take(archive: Iterable[bytes]) -> None:
        console.note(f"moving the images of the former registry from {left} into the volume {container.name}")
        container.put_archive(_FOLDER, archive)

    former.move(folders, owner=_USER, into=take)


def _begin(container: Container) -> bool:
    """Start a container; returns whether its port was free."""
    try:
        container.start()
    except docker.errors.APIError as error:
        said = str(error.explanation)
        if any(words in said.lower() for words in _TAKEN):
            return False
        raise EngineError(
            f"the embedded registry cannot be started: {said}", hint="`docker info` shows the state of the engine"
        ) from error
    return True


def _wait(container: Container, access: Access) -> bool:
    """Wait until the registry answers.

    Returns:
        Whether it takes the login.

    Raises:
        EngineError: It ended, or does not answer in time; holds the end of its log.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    hint = f"`docker logs {container.name}` shows what it says"
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
                hint=f"{hint}; where this is a container itself, give it the host's network, or set `registry`",
            )
        time.sleep(_POLL_S)
    return True


# --- What is remembered here -------------------------------------------------------------------------------------


_MEMORY = TypeAdapter(dict[Literal["port"], Annotated[int, Field(gt=0, lt=1 << 16, strict=True)]]).validate_python


def _memory(folders: Folders) -> Path:
    return folders.registry / "registry.json"


def _remembered(folders: Folders) -> int | None:
    """Its port, where there is no container to ask."""
    known = stored.read(_memory(folders), _MEMORY)
    return known.get("port") if known else None


def last_address(folders: Folders) -> str | None:
    """``host:port`` that it has or had last; None if it never ran."""
    port = _remembered(folders)
    return f"{_LOOPBACK}:{port}" if port is not None else None


# --- Down, garbage, status ---------------------------------------------------------------------------------------


def down(engine: Engine | None, folders: Folders) -> bool:
    """Stop the registry; what was pushed stays.

    Args:
        engine: Where it would be; None where no engine answers.
        folders: Whose it is.

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
    """Stop the registry on the engine in use, which need not be the embedded one; like :func:`down`."""
    with contextlib.ExitStack() as stack:
        if engine := embedded.in_use(folders):
            stack.enter_context(contextlib.closing(engine))
        return down(engine, folders)


def collect(context: Surroundings) -> int:
    """Remove layers that no manifest needs, and manifests without a tag.

    It is stopped meanwhile: layers that somebody uploads just then would count as garbage
    (https://distribution.github.io/distribution/about/garbage-collection/). Uploads are tried again. A run that is
    killed leaves it stopped, and the next one that needs it starts it.

    Returns:
        Bytes that were freed.

    Raises:
        EngineError: It could not be started again.
        BusyError: Another run is busy with it for 10 minutes.
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
                f"the embedded registry's garbage collection ended with status {status}: {said}",
                hint="free disk where the engine keeps its volumes, then run this again",
            )


def _end_collectors(engine: Engine, identity: Identity) -> None:
    """Remove what collects garbage for a run that was killed: what is uploaded meanwhile would count as garbage."""
    for row in engine.client.api.containers(all=True, filters={"volume": _name(identity), "label": labels.OWNER}):
        with contextlib.suppress(docker.errors.NotFound):
            engine.client.api.remove_container(row["Id"], force=True)


def _volume_bytes(engine: Engine, name: str) -> int | None:
    found = [volume for volume in engine.client.df().get("Volumes") or () if volume["Name"] == name]
    return next((volume["UsageData"]["Size"] for volume in found if volume.get("UsageData")), None)


def status(engine: Engine | None, folders: Folders) -> RegistryStatus:
    """What the registry does; starts and changes nothing.

    Args:
        engine: Where it would be; None where no engine answers.
        folders: Whose it is.
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
