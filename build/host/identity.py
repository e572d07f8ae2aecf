"""The identity of a process, which tells leftovers of killed processes from things in use."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from pathlib import Path

_IDENTITY = re.compile(
    r"(?P<host>.+):(?P<machine>[0-9a-f]{8}):(?P<boot>[0-9a-f]{8}):(?P<namespace>[0-9]+)"
    r":(?P<pid>[0-9]+):(?P<started>[0-9]+|gone)",
    re.DOTALL,
)
_PARTS = 6

# PROC_PID_INIT_INO of Linux (include/linux/proc_ns.h): the PID namespace that sees every process of the machine.
_WHOLE_MACHINE = "4026531836"

# An identity is part of a tag, which may have 128 characters.
_HOST_LENGTH = 40
_UNKNOWN = "unknown"


def identity(pid: int | None = None) -> str:
    """Return the identity of a process on this machine: ``host:machine:boot:namespace:pid:start time``.

    Args:
        pid: The process; this one by default.

    A process ID is valid only within its PID namespace and until the machine restarts: two containers that share an
    engine both have a process 1. The start time (clock ticks since boot, proc(5) field 22) tells a process from a later
    one with the same ID.
    """
    pid = os.getpid() if pid is None else pid
    return ":".join((*_place(), str(pid), _start_time(pid)))


def alive(who: str) -> bool:
    """Return whether the process of an :func:`identity` still runs.

    A process that is not visible from here counts as alive: on another machine, in another PID namespace, or hidden in
    ``/proc`` because it is another user's. Text that is not an identity also counts as alive.
    """
    match = _IDENTITY.fullmatch(who)
    if match is None:
        return True
    host, machine, boot, namespace = _place()
    if (match["host"], match["machine"], match["namespace"]) != (host, machine, namespace):
        return True
    if match["boot"] != boot:
        # The machine restarted. A container cannot tell that from another machine with a copy of its image.
        return namespace != _WHOLE_MACHINE
    return match["started"] != "gone" and _start_time(int(match["pid"])) in (match["started"], _UNKNOWN)


def in_name(who: str) -> str:
    """Return an :func:`identity` without colons, which tags may not hold."""
    return who.replace(":", "-")


def from_name(text: str) -> str:
    """Return the :func:`identity` for a result of :func:`in_name`."""
    return ":".join(text.rsplit("-", _PARTS - 1))


def _place() -> tuple[str, str, str, str]:
    """Return host name, machine, boot and PID namespace, within which a process ID is unique."""
    return (socket.gethostname()[:_HOST_LENGTH], *_kernel())


@functools.cache
def _kernel() -> tuple[str, str, str]:
    """Return machine, boot and PID namespace. Unknown values match nothing in :func:`alive`."""
    try:
        boot = _digest(Path("/proc/sys/kernel/random/boot_id"))
        namespace = Path("/proc/self/ns/pid").readlink().name.removeprefix("pid:[").removesuffix("]")
    except OSError:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    try:
        machine = _digest(Path("/etc/machine-id"))
    except OSError:
        machine = "0" * 8
    return machine, boot, namespace


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def _start_time(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _UNKNOWN if _exists(pid) else "gone"
    # The command name, in parentheses, may itself hold spaces and parentheses.
    return stat.rpartition(")")[2].split()[19]


def _exists(pid: int) -> bool:
    """Return whether a process exists that ``/proc`` hides with its option ``hidepid`` (proc(5))."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
