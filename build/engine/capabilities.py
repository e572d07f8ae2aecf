"""The capabilities of a Docker Engine, as the engine reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.engine import cdi

if TYPE_CHECKING:
    import docker

# How `docker info` shows the containerd image store: https://docs.docker.com/engine/storage/containerd/
_CONTAINERD = ("driver-type", "io.containerd.snapshotter.v1")


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """The capabilities of an engine, read once.

    Attributes:
        server_version: The engine's release.
        api_version: The engine's newest API version.
        buildkit: Whether the engine has BuildKit (``Builder-Version`` of its ping).
        nvidia_runtime: Whether the NVIDIA container runtime is registered.
        cdi: Whether CDI devices can be requested.
        cdi_gpus: Whether the engine knows an NVIDIA GPU as a CDI device. Reading specifications alone is not enough.
        storage_driver: Such as ``overlay2``, or ``overlayfs`` with the containerd image store.
        takes_thin_images: Whether the engine loads an image without the layers that it already has. The containerd
            image store does not: it needs each layer in the registry's form.
        root_dir: Folder of the engine's data, on the engine's machine.
        cpus: Processors of the engine's machine.
        memory_bytes: Memory of the engine's machine.
    """

    server_version: str
    api_version: str
    buildkit: bool
    nvidia_runtime: bool
    cdi: bool
    cdi_gpus: bool
    storage_driver: str
    takes_thin_images: bool
    root_dir: str
    cpus: int
    memory_bytes: int

    @property
    def passes_gpus(self) -> str | None:
        """The mechanism that passes an NVIDIA GPU to a container, in words; None without one."""
        if self.nvidia_runtime:
            return "the NVIDIA runtime"
        return "CDI devices" if self.cdi_gpus else None


def read(client: docker.DockerClient, *, is_here: bool) -> Capabilities:
    """Read the capabilities of an engine.

    Args:
        client: Client of the engine.
        is_here: Whether the engine runs on this machine.
    """
    info = client.info()
    version = client.version()
    ping = client.api.get(client.api.base_url + "/_ping")
    return Capabilities(
        server_version=version["Version"],
        api_version=version["ApiVersion"],
        # https://docs.docker.com/reference/api/engine/, SystemPing: 2 means BuildKit.
        buildkit=ping.headers.get("Builder-Version") == "2",
        nvidia_runtime="nvidia" in (info.get("Runtimes") or {}),
        cdi=bool(info.get("CDISpecDirs")),
        cdi_gpus=cdi.has_gpus(info, api_version=version["ApiVersion"], is_here=is_here),
        storage_driver=info["Driver"],
        takes_thin_images=_CONTAINERD not in [tuple(row) for row in info.get("DriverStatus") or ()],
        root_dir=info["DockerRootDir"],
        cpus=info["NCPU"],
        memory_bytes=info["MemTotal"],
    )
