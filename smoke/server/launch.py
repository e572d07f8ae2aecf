"""How an image is started as a server, waited for, and always removed."""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import docker.errors
from docker.types import Mount
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.transferable import build_transfer_tar

from build.base.store import OWN_LAYOUT
from build.engine import confinement, labels, serving
from build.engine.client import IN_FLIGHT_S, without_logins
from build.host import identity
from smoke.server import profile, relay
from smoke.server.server import HEALTH_S, MODEL_FOLDER, POLL_S, TAIL_LINES, ContainerServer, ServerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from docker.types import DeviceRequest
    from testcontainers.core.transferable import Transferable

    from build.engine.client import Engine
    from build.engine.confinement import Limits
    from build.engine.image import Image

MODEL_NAME = "smoke"
"""What the server calls the model."""

# A folder that is copied goes through memory; a larger one is mounted.
_COPY_LIMIT = 64 * 2**20
_PROGRESS_S = 10.0
_DYING_S = 2.0
_UNUSED, _UNUSED_VERSION = "unix:///nonexistent", "1.44"
_LOOPBACK = "127.0.0.1"

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; the default is a share of the machine's memory
}
"""Variables of every process that the suite starts of an image."""

# Where a root that cannot be written to has folders that can, and as llm-d's own pods have them: what a server
# compiles as it goes is kept below the home folder unless the image says otherwise. .cache is for vLLM, FlashInfer,
# torch and huggingface_hub, .triton for Triton. Usage statistics, which would want .config, are off.
# Alone with its loopback interface, a server takes that for its address, and need not look its name up.
_LONELY_NAME = "localhost"
_LONELY = {"VLLM_HOST_IP": _LOOPBACK, "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}

# What a model that fetches something needs.
_FETCHING = {"HF_HUB_OFFLINE": "0"}

OWN_VARIABLES = frozenset(ENVIRONMENT | _LONELY | _FETCHING | profile.variables(profile.FAST))
"""Names of the variables that the suite sets beside the key."""

_CACHES = {"XDG_CACHE_HOME": ".cache", "TRITON_CACHE_DIR": ".triton"}

# exec: what was compiled is loaded from there, which Docker's default for a tmpfs forbids.
_WRITABLE = "mode=1777,exec"

# A parser whose form of a call any model can be made to say.
_TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
_OPTIONS = ("--served-model-name", MODEL_NAME, "--max-model-len", "512", *_TOOLS)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How an image is started.

    Attributes:
        image: The image.
        model: Folder of the model that it serves.
        devices: GPUs that it is given.
        key: The API key that it is given.
        limits: What its containers may take of the engine's machine.
        confined_to: User and group that it runs as, then on a root that cannot be written to but for ``/tmp`` and
            caches; None if it runs as the image says.
        network: Whether it gets the engine's network.
        arguments: Further arguments of vLLM.
        variables: Further variables, by name.
        profile: ``fast`` or ``real``; None for the device's default.
        units: How many whole GPUs it is given, as far as that is known.
    """

    image: Image
    model: Path
    devices: tuple[DeviceRequest, ...]
    key: str
    limits: Limits
    confined_to: str | None = None
    network: bool = False
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    profile: str | None = None
    units: int = 0

    @property
    def command(self) -> list[str]:
        """What the image's entry point is given."""
        entrypoint = self.image.config.get("Entrypoint") or ()
        own = profile.options(self.used_profile, gpu=bool(self.devices), units=self.units, model=self.model)
        return command(entrypoint, [*own, *self.arguments])

    @property
    def used_profile(self) -> str:
        """The profile: the one that was chosen, or the device's default."""
        return self.profile or profile.default(gpu=bool(self.devices))

    @property
    def pythons(self) -> tuple[str, ...]:
        """What the image's Python may be called."""
        return (*((str(OWN_LAYOUT.python),) if labels.KIND in self.image.labels else ()), "python3", "python")


class _Container(DockerContainer):
    """A container whose files are put into its volume.

    testcontainers puts them into ``/``, which the engine refuses for a root that cannot be written to.
    """

    def _transfer_into_container(self, transferable: Transferable, destination_in_container: str, mode: int) -> None:
        name = PurePosixPath(destination_in_container).relative_to(MODEL_FOLDER)
        self.get_wrapped_container().put_archive(MODEL_FOLDER, build_transfer_tar(transferable, str(name), mode))


def await_healthy(server: ContainerServer, *, timeout: float, progress: Callable[[str], None]) -> None:
    """Wait until a server is healthy, and no longer than it lives.

    testcontainers' own HTTP strategy does not notice that the container exited.

    Args:
        server: A server that was started.
        timeout: Seconds that it has, from its start.
        progress: Called with one line now and then.

    Raises:
        ServerFailedError: It ended, or was not healthy in time.
    """
    reported = time.monotonic()
    while (now := time.monotonic()) < server.started + timeout:
        _refuse_the_dead(server)
        if server.healthy(within=max(1.0, min(HEALTH_S, server.started + timeout - now))):
            server.healthy_s = time.monotonic() - server.started
            return
        if now >= reported + _PROGRESS_S:
            reported = now
            progress(f"still starting, {now - server.started:.0f} s: {_last_line(server)}")
        time.sleep(POLL_S)
    raise ServerFailedError(f"the server was not healthy after {timeout:g} s", log=server.log(), timed_out=True)


def _last_line(server: ContainerServer) -> str:
    lines = server.log(tail=TAIL_LINES).split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing printed yet")[:100]


def _refuse_the_dead(server: ContainerServer) -> None:
    code = server.exit_code()
    if code is not None:
        raise ServerFailedError(
            f"the server exited with status {code} before it was healthy",
            log=server.log(),
            exit_code=code,
            out_of_memory=server.out_of_memory,
        )


def command(entrypoint: Sequence[str], options: Sequence[str]) -> list[str]:
    """The command that makes an image serve the model.

    Args:
        entrypoint: The image's own; what follows is given to it.
        options: Options of vLLM beside those of every start.
    """
    return serving.words(entrypoint, MODEL_FOLDER, [*_OPTIONS, *options])


@contextlib.contextmanager
def running(engine: Engine, launch: Launch, *, keep_log: Callable[[str], None]) -> Iterator[ContainerServer]:
    """A server that was started, while the block runs. The container is removed whatever happens.

    Args:
        engine: Where it runs.
        launch: What is started and how.
        keep_log: Called with everything that it printed, before it is removed.

    Raises:
        EngineError: The server cannot be reached from this machine.
        ServerFailedError: The engine refused to start it.
    """
    testcontainers_config.ryuk_disabled = True  # an image to pull; what it is for is done here
    # Logins are for pulling, and nothing is pulled: the image is on the engine.
    testcontainers_config._docker_auth_config = None  # noqa: SLF001 - its setter warns of an experiment
    with without_logins():
        # With a version it makes no connection, and then it is given a client that reaches the engine.
        container = _Container(
            launch.image.id, docker_client_kw={"environment": {"DOCKER_HOST": _UNUSED}, "version": _UNUSED_VERSION}
        )
    container.get_docker_client().client = engine.new_client()
    server = ContainerServer(container, key=launch.key, model=MODEL_NAME)
    name = f"llm-d-dev-{secrets.token_hex(8)}"
    _prepare(container, engine, launch, name=name)
    patience = 0.0
    try:
        try:
            with _refusals():
                container.start()
            server.started = time.monotonic()
        except KeyboardInterrupt:
            # If it came while the engine was asked, there will be a container that we were not told of.
            patience = IN_FLIGHT_S if container.status == "not_started" else 0.0
            raise
        with contextlib.ExitStack() as reached:
            server.address = _carried(server, launch, reached)
            yield server
    finally:
        with _undisturbed():
            with contextlib.suppress(Exception):  # the log is worth less than the clean-up
                server.kill()
                keep_log(server.log())
            server.close()
            engine.remove_container(name, patience=patience)
            container.get_docker_client().client.close()


def _carried(server: ContainerServer, launch: Launch, stack: contextlib.ExitStack) -> tuple[str, int] | None:
    """The address that a server has here; one that ended at once has none.

    Raises:
        ServerFailedError: The image has no Python that could lead to it.
    """
    try:
        return stack.enter_context(relay.carrying(server.container, serving.PORT, pythons=launch.pythons))
    except (relay.NoRelayError, docker.errors.APIError) as error:
        if server.exit_code(within=_DYING_S) is not None:
            return None
        said = f"{error}: a server is reached through a Python of its image"
        raise ServerFailedError("the server cannot be reached", log=said, refused=True) from error


def _prepare(container: DockerContainer, engine: Engine, launch: Launch, *, name: str) -> None:
    container.with_name(name)
    container.image = launch.image.id  # undoes TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX, which is for names
    container.with_command(launch.command)
    container.with_envs(**launch.variables)
    container.with_envs(**profile.variables(launch.used_profile))
    container.with_envs(**(ENVIRONMENT | (_FETCHING if launch.network else _LONELY)), VLLM_API_KEY=launch.key)
    options: dict[str, Any] = {
        **confinement.options(engine, launch.limits),
        "labels": {**labels.of_container(name, owner=identity.identity()), labels.SERVER: launch.image.id},
        "shm_size": serving.SHARED_MEMORY,
        "device_requests": list(launch.devices),
    }
    if launch.confined_to:
        container.tmpfs.update(dict.fromkeys(writable(launch.image.config.get("Env") or ()), _WRITABLE))
        options |= {"user": launch.confined_to, "read_only": True}
    if launch.network:
        del options["network_mode"]
    else:
        options["hostname"] = _LONELY_NAME
    container.with_kwargs(**options, mounts=_provide(container, launch.model))


def writable(variables: Sequence[str]) -> list[str]:
    """Folders that a server must be able to write to.

    Args:
        variables: The image's own, ``NAME=VALUE`` each.
    """
    values = dict(variable.partition("=")[::2] for variable in variables)
    home = PurePosixPath(values.get("HOME", "/"))  # Docker's for a user who is not in /etc/passwd
    caches = [values.get(name, str(home / folder)) for name, folder in _CACHES.items()]
    return ["/tmp", *caches]  # noqa: S108 - in the container, which is ours alone


def _provide(container: DockerContainer, model: Path) -> list[Mount]:
    """Give the container the model: by copy, which works with any engine, unless it is large.

    Returns:
        The volume that it is copied to: one without a name, which goes with the container.
    """
    files = copied(model)
    if not files:
        container.with_volume_mapping(model.absolute(), MODEL_FOLDER)
        return []
    for name, content in files.items():
        # One by one and as bytes: a folder keeps its owner and permissions, which may shut user 2000 out.
        container.with_copy_into_container(content, f"{MODEL_FOLDER}/{name}")
    return [Mount(target=MODEL_FOLDER, source=None, type="volume")]


def copied(model: Path) -> dict[str, bytes]:
    """The files of a model that is copied into the container, by name; none if it is too large for that."""
    files = [path for path in model.rglob("*") if path.is_file()]
    if sum(path.stat().st_size for path in files) > _COPY_LIMIT:
        return {}
    return {path.relative_to(model).as_posix(): path.read_bytes() for path in files}


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What the engine says when it does not start a container, as a failure of the server."""
    try:
        yield
    except docker.errors.APIError as error:
        said = str(error.explanation or error)
        raise ServerFailedError("the engine did not start the container", log=said, refused=True) from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Interrupts that come in the block count when it has ended."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
