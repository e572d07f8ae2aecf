"""The identity of a process, so that what a killed one left behind can be told from what is in use."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def identity(pid: int | None = None) -> str:
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


def alive(who: str) -> bool:
    """Whether the process behind an :func:`identity` string still runs. Other machines' processes count as alive."""
    host, pid, started = who.rsplit(":", 2)
    return host != socket.gethostname() or (started != "gone" and _start_time(int(pid)) == started)


def is_running(pid: int) -> bool:
    """Whether some process has this number now."""
    return _start_time(pid) != "gone"
