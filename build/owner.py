"""The identity of a process, so that what a killed one left behind can be told from what is in use."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

_IDENTITY = re.compile(r"(?P<host>.+):(?P<pid>[0-9]+):(?P<started>[0-9]+|gone)", re.DOTALL)


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
    """Whether the process behind an :func:`identity` string still runs.

    Other machines' processes count as alive, and so does what is no identity: neither is ours to judge.
    """
    match = _IDENTITY.fullmatch(who)
    if match is None or match["host"] != socket.gethostname():
        return True
    return match["started"] != "gone" and _start_time(int(match["pid"])) == match["started"]
