"""What a killed run leaves on an engine, and its removal.

testcontainers' own reaper is an image that has to be pulled, so it cannot be relied on. Instead everything
temporary carries the identity of the process that made it, and every run starts by removing what belongs to
processes that are gone.
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import docker.errors

from build import labels
from build.engine import TEMPORARY_REPOSITORY

if TYPE_CHECKING:
    from build.engine import Engine

log = logging.getLogger(__name__)

def owner(pid: int | None = None) -> str:
    """Identity of a process on this machine: ``host:pid:start time``.

    Args:
        pid: The process; this one by default.

    The start time (clock ticks since boot, proc(5) field 22) tells a process from a later one with its number.
    """
    pid = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{pid}:{_start_time(pid)}"


def _start_time(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "gone"
    # The command name, in parentheses, may hold spaces and parentheses itself.
    return stat.rpartition(")")[2].split()[19]


def alive(identity: str) -> bool:
    """Whether the process behind an :func:`owner` string still runs. Other machines' processes count as alive."""
    host, pid, started = identity.rsplit(":", 2)
    return host != socket.gethostname() or (started != "gone" and _start_time(int(pid)) == started)


def sweep(engine: Engine) -> int:
    """Remove containers and temporary tags of runs that are gone.

    Returns:
        How many things were removed.
    """
    removed = 0
    for container in engine.client.containers.list(all=True, filters={"label": labels.OWNER}):
        if not alive(container.labels[labels.OWNER]):
            log.info("removing container %s of a run that is gone", container.short_id)
            try:
                container.remove(force=True, v=True)
            except docker.errors.NotFound:
                continue
            removed += 1
    for image in engine.client.api.images(name=TEMPORARY_REPOSITORY):
        for tag in image.get("RepoTags") or ():
            pid = int(tag.rpartition("-")[2])
            if _start_time(pid) == "gone":
                engine.untag(tag)
                removed += 1
    return removed
