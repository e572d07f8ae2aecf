"""A Docker Engine: one client and one record of the engine's capabilities."""

from __future__ import annotations

import atexit
import contextlib
import functools
import ipaddress
import os
import secrets
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import docker
import docker.errors
import docker.utils.config
import requests

from build.engine import confinement, labels
from build.engine.capabilities import Capabilities, read
from build.engine.endpoint import Endpoint, Tls, chosen
from build.engine.image import Image, age_order
from build.engine.ssh import Tunnel, forwarded
from build.engine.temporary import TEMPORARY_REPOSITORY, temporary_name
from build.errors import EngineError, SourceError, UsageError
from build.host import identity, processor
from build.host.address import is_loopback
from build.host.deadline import within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

DEFAULT_SOCKET = "/var/run/docker.sock"

_ANSWER_TIMEOUT_S = 5
_POLL_S = 0.25
_SSH_TIMEOUT_S = 20
CALL_TIMEOUT_S = 600
"""Seconds without an answer after which the engine counts as gone."""
IN_FLIGHT_S = 5.0
"""Seconds to wait for a container whose creation was interrupted."""

_START_OR_UNSET = "start that engine, or unset DOCKER_HOST to use the one of this machine"
_START_OR_USE = "start that engine, or `docker context use default` to use the one of this machine"


class Engine:
    """One Docker Engine that answers.

    Args:
        host: Address in the form of ``DOCKER_HOST`` (``unix:///…``, ``ssh://…``, ``tcp://…``).
        origin: Where the address came from, in words.
        tls: TLS settings; None for a connection without TLS.

    Raises:
        TimeoutError: Nothing answered within 5 s, or 20 s through ssh.
        docker.errors.DockerException: The server at the address is not an engine.
        requests.RequestException: The connection failed.
    """

    def __init__(self, *, host: str, origin: str, tls: Tls | None = None) -> None:
        self.host = host
        self.origin = origin
        self.tls = tls
        self._tunnel = Tunnel(host) if host.startswith("ssh://") else None
        self._reached = contextlib.ExitStack()
        self._ports: dict[int, str] = {}
        try:
            # Asked with a deadline: the client would wait as long for the first answer as for an export.
            self._version = within(_SSH_TIMEOUT_S if self._tunnel else _ANSWER_TIMEOUT_S, self._api_version)
            self.client = self.new_client()
        except BaseException:
            if self._tunnel:
                self._tunnel.close()
            raise

    def _api_version(self) -> str:
        with contextlib.closing(self._connected(timeout=_ANSWER_TIMEOUT_S)) as client:
            return str(client.api.api_version)

    def new_client(self) -> docker.DockerClient:
        """Return another client of the SDK. The caller closes it."""
        return self._connected(timeout=CALL_TIMEOUT_S, version=self._version)

    def _connected(self, *, timeout: int, version: str | None = None) -> docker.DockerClient:
        tls = self.tls.sdk() if self.tls else False
        with without_logins():
            return docker.DockerClient(base_url=self.api_host, version=version, timeout=timeout, tls=tls)

    def close(self) -> None:
        """Close the engine's connections."""
        self._reached.close()
        self._ports.clear()
        self.client.close()
        if self._tunnel:
            self._tunnel.close()

    @property
    def api_host(self) -> str:
        """The address for Docker's Python SDK, which cannot reach every engine that ``docker`` can."""
        return self._tunnel.address if self._tunnel else self.host

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point ``docker``, buildx and testcontainers at this engine."""
        endpoint = Endpoint(host=self.host, origin=self.origin, tls=self.tls)
        return {**endpoint.environment, "TESTCONTAINERS_RYUK_DISABLED": "true"}

    @property
    def is_here(self) -> bool:
        """Whether the engine runs on this machine, judging by its address."""
        return self.host.startswith("unix://")

    def require_reachable_ports(self) -> None:
        """Check that the loopback interface of the engine's machine can be reached from here.

        Raises:
            EngineError: The engine is on another machine that ssh does not reach.
        """
        if not (self._tunnel or self.is_here or is_loopback(urlsplit(self.host).netloc)):
            raise EngineError(
                f"ports of the engine at {self.host} cannot be reached safely: they would be open to its whole network",
                hint=f"use ssh, which forwards them: DOCKER_HOST=ssh://user@{urlsplit(self.host).hostname}",
            )

    @contextlib.contextmanager
    def reachable(self, port: int) -> Iterator[tuple[str, int]]:
        """Forward a loopback port of the engine's machine to this machine while the block runs.

        Containers publish their ports there (``127.0.0.1``). ssh forwards the port of an engine behind ``ssh://``. For
        an engine on this machine, it is the same port.

        Args:
            port: Port on the engine's machine.

        Yields:
            Host and port to connect to; only this machine reaches them.

        Raises:
            EngineError: The engine is on another machine that ssh does not reach.
        """
        self.require_reachable_ports()
        if not self._tunnel:
            yield "127.0.0.1", port
            return
        with forwarded(self.host, port) as here:
            yield "127.0.0.1", here

    def reached(self, port: int) -> str:
        """Return :meth:`reachable` as ``host:port``, valid until the engine is closed or the run ends."""
        if port not in self._ports:
            if not self._ports:
                atexit.register(self._reached.close)
            host, here = self._reached.enter_context(self.reachable(port))
            self._ports[port] = f"{host}:{here}"
        return self._ports[port]

    @functools.cached_property
    def capabilities(self) -> Capabilities:
        """The engine's capabilities."""
        return read(self.client, is_here=self.is_here)

    def is_insecure(self, registry: str) -> bool:
        """Return whether the engine speaks to a registry without TLS, or with TLS that it does not verify.

        It does so for loopback addresses and for ``insecure-registries`` (moby 28, daemon/pkg/registry/config.go).

        Args:
            registry: ``host`` or ``host:port``.
        """
        if is_loopback(registry):
            return True
        configured = self.client.info().get("RegistryConfig") or {}
        index = (configured.get("IndexConfigs") or {}).get(registry)
        if index is not None:
            return not index.get("Secure", True)
        networks = [ipaddress.ip_network(one) for one in configured.get("InsecureRegistryCIDRs") or ()]
        return any(address in network for address in _addresses(registry) for network in networks)

    @functools.cached_property
    def architecture(self) -> str:
        """The processor of the engine and its images, as ``uname -m`` prints it."""
        return processor.named(self.client.info()["Architecture"])

    def free_disk(self) -> int | None:
        """Return the bytes free for the engine's images, or None if they are on another machine."""
        root = self.capabilities.root_dir
        return shutil.disk_usage(root).free if self.is_here and Path(root).is_dir() else None

    def image(self, reference: str) -> Image:
        """Look up an image by name, tag or ID.

        Raises:
            SourceError: The engine has no such image.
        """
        found = self.find_image(reference)
        if found is None:
            raise SourceError(
                f"image {reference!r} is not on this engine ({self.origin})",
                hint="`python -m build status` lists the images that are here; `docker pull` fetches others",
            )
        return found

    def find_image(self, reference: str) -> Image | None:
        """Look up an image like :meth:`image`; return None if the engine does not have it."""
        try:
            return Image.parse(self.client.images.get(reference).attrs, called=reference)
        except docker.errors.ImageNotFound:
            return None
        except docker.errors.APIError as error:
            # The engine answers 400 to an invalid name.
            if error.status_code == requests.codes.bad_request:
                raise UsageError(
                    f"{reference!r} is not an image name", hint="give NAME[:TAG], NAME@DIGEST or an image ID"
                ) from error
            raise

    def images(self, **wanted: str) -> list[Image]:
        """Return the images of this tool, newest first.

        Args:
            wanted: Values by attribute name of :mod:`build.engine.labels` in lower case, such as ``kind="base"``.
        """
        filters = [labels.KIND]
        filters += [f"{labels.PREFIX}{name}={value}" for name, value in wanted.items()]
        found = self.client.api.images(filters={"label": filters})
        images = [image for row in found if (image := self.find_image(row["Id"]))]
        return sorted(images, key=age_order, reverse=True)

    def tag(self, image_id: str, name: str) -> None:
        """Point ``name`` (repository:tag) at an image ID. An existing name moves."""
        repository, _, tag = name.rpartition(":")
        self.client.api.tag(image_id, repository, tag)

    def untag(self, name: str) -> None:
        """Remove a name, and the image with its last name. A missing name is not an error."""
        with contextlib.suppress(docker.errors.ImageNotFound):
            self.client.api.remove_image(name, noprune=True)

    def release(self, name: str) -> None:
        """Remove a name and keep the image, even without a name.

        The engine removes an image with its last name and has no request that removes only the name. But a name that
        moves to another image leaves the old image in place, so a last name is first moved to an empty image.
        """
        try:
            names = self.client.images.get(name).attrs.get("RepoTags") or ()
        except docker.errors.ImageNotFound:
            return
        # Temporary names do not count: their runs may remove them at this very moment.
        if any(other != name and not other.startswith(f"{TEMPORARY_REPOSITORY}:") for other in names):
            self.untag(name)
            return
        empty = temporary_name(f"empty{secrets.token_hex(8)}")
        try:
            # Two blocks of zeros are an archive without files (tar(5)).
            self.client.api.import_image_from_data(bytes(1024), *empty.split(":"))
            self.tag(empty, name)
            self.untag(name)
        finally:
            self.untag(empty)

    def discard(self, image: Image) -> bool:
        """Remove an unnamed image, unless it is in use or has been named meanwhile.

        Returns:
            Whether the image is gone.
        """
        try:
            # Given an ID, the engine also removes an image that has one name, and the name.
            if self.client.images.get(image.id).attrs.get("RepoTags"):
                return False
            self.client.api.remove_image(image.id, noprune=True)
        except docker.errors.ImageNotFound:
            return True
        except docker.errors.APIError as error:
            # A container or another image uses it.
            if error.status_code != requests.codes.conflict:
                raise
            return False
        return True

    @contextlib.contextmanager
    def created(self, image_id: str, **options: Any) -> Iterator[Container]:  # noqa: ANN401 - docker's own options
        """Create a container without starting it; remove it when the block ends.

        Args:
            image_id: ID of the image.
            options: Arguments of ``docker.containers.create``.
        """
        name = f"llm-d-dev-{secrets.token_hex(8)}"
        marks = labels.of_container(name, owner=identity.identity())
        # An image without entry point needs a command, even for a container that never runs.
        given = {"command": ["-"], "log_config": confinement.log_config(), **options}
        patience = 0.0
        try:
            try:
                container = self.client.containers.create(image_id, **given, name=name, labels=marks)
            except KeyboardInterrupt:
                patience = IN_FLIGHT_S
                raise
            yield container
        finally:
            self.remove_container(name, patience=patience)

    def remove_container(self, name: str, *, patience: float) -> None:
        """Remove a container of this run, running or not, with its volumes. A missing container is not an error.

        It is found by name: an interrupt may precede the answer with its ID, and labels are inherited.

        Args:
            name: The container's name.
            patience: Seconds to wait for the container to appear.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                self.client.api.remove_container(name, force=True, v=True)
            except docker.errors.NotFound:
                if time.monotonic() >= deadline:
                    return
            else:
                return
            time.sleep(_POLL_S)

    @contextlib.contextmanager
    def temporary_tag(self, image_id: str) -> Iterator[str]:
        """Name an image while the block runs: ``FROM`` cannot name a local image by ID.

        The name holds its owner, so that a later run can remove the name of a killed run. The image stays.
        """
        name = temporary_name(image_id.removeprefix("sha256:")[:24])
        try:
            self.tag(image_id, name)
            yield name
        finally:
            self.release(name)


def _addresses(registry: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the addresses of a registry's host; nothing if it cannot be resolved."""
    host = urlsplit(f"//{registry}").hostname or ""
    try:
        rows = within(_ANSWER_TIMEOUT_S, lambda: socket.getaddrinfo(host, None))
    except OSError:  # a timeout is one
        return []
    return [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in rows]


@contextlib.contextmanager
def without_logins() -> Iterator[None]:
    """Keep Docker's SDK from reading stored logins while it makes a client.

    A single malformed entry, for any registry, would raise an exception. :mod:`build.engine.credentials` reads
    credentials where they are needed.
    """
    find = docker.utils.config.find_config_file
    docker.utils.config.find_config_file = lambda _path=None: None  # type: ignore[assignment]
    try:
        yield
    finally:
        docker.utils.config.find_config_file = find


def answering(host: str, *, origin: str) -> Engine | None:
    """Return the engine at an address, or None if nothing answers within 5 s, or 20 s through ssh."""
    try:
        return connected(Endpoint(host=host, origin=origin))
    except EngineError:
        return None


def connected(endpoint: Endpoint) -> Engine:
    """Return the engine at an address.

    Raises:
        EngineError: Nothing answers there within 5 s, or 20 s through ssh.
    """
    path = endpoint.host.removeprefix("unix://")
    try:
        if path != endpoint.host:
            _require_listening(path)
        return Engine(host=endpoint.host, origin=endpoint.origin, tls=endpoint.tls)
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        by_variable = endpoint.origin == "DOCKER_HOST"
        raise EngineError(
            f"nothing answers at {endpoint.origin}{'=' if by_variable else ', '}{endpoint.host}: {_reason(error)}",
            hint=_START_OR_UNSET if by_variable else _START_OR_USE,
        ) from error


def _reason(error: Exception) -> str:
    """Return the innermost cause of an error of docker-py, requests and urllib3."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return str(error) or type(error).__name__


def _require_listening(path: str) -> None:
    """Connect to a socket's path. Without a listener there, docker-py would leak its socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ANSWER_TIMEOUT_S)
        probe.connect(path)


def find(*, embedded_socket: str) -> Engine | None:
    """Return the engine that the user chose, else the first that answers: the default socket, then the embedded one.

    Args:
        embedded_socket: Path of the embedded engine's socket; it need not exist.

    Raises:
        EngineError: The engine that ``DOCKER_HOST`` or a docker context chooses does not answer. Another engine would
            build where the user did not ask for.
    """
    if endpoint := chosen(os.environ):
        return connected(endpoint)
    candidates = [(f"unix://{DEFAULT_SOCKET}", "default socket"), (f"unix://{embedded_socket}", "embedded")]
    return next((engine for host, origin in candidates if (engine := answering(host, origin=origin))), None)
