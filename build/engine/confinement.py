"""What a container gets that runs code of an image: no network, no privileges, and limits that spare the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker.types import LogConfig

if TYPE_CHECKING:
    from docker.models.containers import Container

    from build.config.settings import Settings
    from build.engine.client import Engine

LOG_BYTES = 64 * 2**20
"""Of what the engine keeps of a container's output, twice: the newest, and what was before. A server's own is a few."""

_LOG_LIMIT = 16 * 2**20

# Of the machine's memory: the rest is for the engine, and for whoever has to end the container.
_SHARE = 0.9
# A thread counts as a process. The kernel allows 1024 a processor, and 32768 at least (kernel/pid.c, pid_idr_init).
_THREADS, _THREADS_PER_CPU = 16384, 512


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a container may take of the engine's machine.

    Attributes:
        memory_gb: Memory in GB; None for nine tenths of the machine's.
        pids: Processes and threads; None for half of what a kernel allows.
    """

    memory_gb: int | None = None
    pids: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the settings say."""
        return cls(memory_gb=settings.container_memory_gb, pids=settings.container_pids)


def log_config() -> LogConfig:
    """Where the engine keeps what a container prints, and how much of it: an image's code may print without end."""
    return LogConfig(type=LogConfig.types.JSON, config={"max-size": str(LOG_BYTES), "max-file": "2"})


def options(engine: Engine, limits: Limits) -> dict[str, Any]:
    """Options of a container, as docker's SDK has them.

    Args:
        engine: Where it runs.
        limits: What it may take there.
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
    """What a container printed; of more than 16 MiB the beginning and the end.

    Args:
        container: The container.
        tail: How many of the last lines; all by default.
        streams: ``stdout`` and ``stderr``, whether it is asked for, and ``timestamps``, whether lines begin with one.
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
