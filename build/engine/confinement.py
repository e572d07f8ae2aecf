"""The confinement of a container that runs an image's code: no network, no privileges, limited memory and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker.types import LogConfig

if TYPE_CHECKING:
    from docker.models.containers import Container

    from build.config.settings import Settings
    from build.engine.client import Engine

LOG_BYTES = 64 * 2**20
"""Bytes of a container's log file. The engine keeps two: the newest and the one before. A server prints a few MiB."""

_LOG_LIMIT = 16 * 2**20

# Share of the machine's memory; the rest is for the engine and for ending the container.
_SHARE = 0.9
# A thread counts as a process. The kernel allows 1024 a processor, and 32768 at least (kernel/pid.c, pid_idr_init).
_THREADS, _THREADS_PER_CPU = 16384, 512


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a container on the engine's machine.

    Attributes:
        memory_gb: Memory in GB; None for nine tenths of the machine's.
        pids: Processes and threads; None for half of what a kernel allows.
    """

    memory_gb: int | None = None
    pids: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings state."""
        return cls(memory_gb=settings.container_memory_gb, pids=settings.container_pids)


def log_config() -> LogConfig:
    """Return the log configuration of a container. It is bounded, because an image's code may print without end."""
    return LogConfig(type=LogConfig.types.JSON, config={"max-size": str(LOG_BYTES), "max-file": "2"})


def options(engine: Engine, limits: Limits) -> dict[str, Any]:
    """Return the options of a confined container, as arguments of docker's SDK.

    Args:
        engine: The engine that runs the container.
        limits: Limits of the container.
    """
    machine = engine.capabilities
    memory = limits.memory_gb * 10**9 if limits.memory_gb else int(machine.memory_bytes * _SHARE)
    return {
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": limits.pids or max(_THREADS, _THREADS_PER_CPU * machine.cpus),
        "mem_limit": memory,
        "log_config": log_config(),
    }


def printed(container: Container, *, tail: int | None = None, **streams: bool) -> bytes:
    """Return a container's output; of more than 16 MiB, its beginning and end.

    Args:
        container: The container.
        tail: Number of last lines; None for all.
        streams: Flags ``stdout``, ``stderr`` and ``timestamps`` of the engine's API.
    """
    head, end = bytearray(), bytearray()
    left_out = 0
    chunks = container.logs(stream=True, follow=False, tail="all" if tail is None else tail, **streams)
    for chunk in chunks:
        if len(head) + len(chunk) <= _LOG_LIMIT // 4:
            head += chunk
            continue
        end += chunk
        if len(end) > _LOG_LIMIT:
            left_out += len(end) - _LOG_LIMIT // 2
            del end[: -_LOG_LIMIT // 2]
    return bytes(head) + (b"\n[%d bytes left out]\n" % left_out if left_out else b"") + bytes(end)
