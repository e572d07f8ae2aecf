"""Waiting for a lock, where a second run may find its work done by the first."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from build.errors import BusyError
from build.host import lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT_S = 600.0
_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """Notes through a plain function.

    Attributes:
        note: Called with one line.
    """

    note: Callable[[str], None]


class Notes(Protocol):
    """A target for the note that a run waits, such as :class:`build.console.Console`."""

    @property
    def note(self) -> Callable[[str], None]:
        """The function that shows a line."""


@contextlib.contextmanager
def taken(folder: Path, name: str, *, doing: str, console: Notes, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Hold a lock of :mod:`build.host.lock` while the block runs; wait for its holder.

    Args:
        folder: Folder of lock files.
        name: Name of the lock.
        doing: The work, in words, for the message of a run that finds the lock taken.
        console: Console for the note that this run waits.
        timeout_s: Seconds to wait.

    Raises:
        BusyError: The lock was not free in time.
    """
    with contextlib.ExitStack() as stack:
        _wait(stack, folder, name, doing=doing, console=console, deadline=time.monotonic() + timeout_s)
        yield


def _wait(stack: contextlib.ExitStack, folder: Path, name: str, *, doing: str, console: Notes, deadline: float) -> None:
    told = False
    while True:
        try:
            stack.enter_context(lock.held(folder, name, doing=doing))
        except BusyError as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                console.note(f"waiting: {error.what}")
            told = True
            time.sleep(_POLL_S)
        else:
            return
