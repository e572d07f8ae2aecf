"""Locks between runs whose work would conflict."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from build.errors import BusyError
from build.host import stored
from build.host.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)


@checked(frozen=True, kw_only=True)
class _Holder:
    """The holder of a lock."""

    pid: int
    host: str
    doing: str
    since: str


_HOLDER = TypeAdapter(_Holder).validate_python


@contextlib.contextmanager
def held(folder: Path, name: str, *, doing: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    The operating system releases the lock of a killed run. The file next to the lock names its holder.

    Args:
        folder: Folder of lock files.
        name: Name of the lock.
        doing: The work, in words, for the message of a run that finds the lock taken.

    Raises:
        BusyError: Another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / f"{name}.json"
    lock = FileLock(folder / f"{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"{name} is busy: {_describe(holder)}", hint="wait for it to end, then run this again"
        ) from error
    try:
        _tell(holder, doing)
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _tell(holder: Path, doing: str) -> None:
    """Record the holder of the lock. A full disk is not an error, because `prune` needs a lock to free it."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "doing": doing, "since": since})
    except OSError as error:
        log.warning("%s cannot be written: %s", holder, error)


def _describe(holder: Path) -> str:
    facts = stored.read(holder, _HOLDER, level=logging.DEBUG)
    if facts is None:
        return "held by a run that is just starting or ending"
    # A process ID is meaningless on another machine or in another container.
    place = "" if facts.host == socket.gethostname() else f" on {facts.host}"
    return f"process {facts.pid}{place} ({facts.doing}, since {facts.since})"
