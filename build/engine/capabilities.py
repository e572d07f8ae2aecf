"""What a Docker Engine can do, as it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.engine import cdi

if TYPE_CHECKING:
    import docker

# How `docker info` tells the containerd image store: https://docs.docker.com/engine/storage/containerd/
_CONTAINERD = ("driver-type", "io.containerd.snapshotter.v1")


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine can do, read once.

    Attributes:
        server_version: The engine's release.
        api_version: The newest API version it speaks.
        buildkit: Whether the engine has BuildKit (``Builder-Version`` of its ping).
        nvidia_runtime: Whether the NVIDIA container runtime is registered.
        cdi: Whether CDI devices can be requested.
        cdi_gpus: Whether it knows a CDI device that is an NVIDIA GPU. Reading specifications alone is not enough.
        storage_driver: Such as ``overlay2``, or ``overlayfs`` with the containerd image store.
        takes_thin_images: Whether an image can be loaded without the layers that the engine has: not into the
            containerd image store, which wants the registry's form of each.
        root_dir: Folder of its data, on the engine's machine.
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
        """What it passes an NVIDIA GPU to a container by, in words; None if it cannot."""
        if self.nvidia_runtime:
            return "the NVIDIA runtime"
        return "CDI devices" if self.cdi_gpus else None


def read(client: docker.DockerClient, *, is_here: bool) -> Capabilities:
    """What an engine can do.

    Args:
        client: Of the engine.
        is_here: Whether it runs on this machine.
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
