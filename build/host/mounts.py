"""What is mounted, as proc_pid_mountinfo(5) has it."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence


_DETACH = 2
"""``MNT_DETACH`` of sys/mount.h: out of the way now, gone when its last user is."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One mount.

    Attributes:
        point: Where it is, seen from the process's own root.
        upper: Of an overlay, the folder that holds its changes, as it was given; None for anything else.
    """

    point: Path
    upper: Path | None

    @classmethod
    def parse(cls, line: str) -> Mount:
        """From a line of mountinfo."""
        left, _, right = line.partition(" - ")
        options = right.split(" ")[2].split(",")
        uppers = [option.removeprefix("upperdir=") for option in options if option.startswith("upperdir=")]
        return cls(point=Path(_plain(left.split(" ")[4])), upper=Path(_plain(uppers[0])) if uppers else None)


def _plain(text: str) -> str:
    """Spaces, tabs, line ends and backslashes stand there as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def of(pid: int | str) -> tuple[Mount, ...]:
    """Mounts that a process sees, the newest last; none for a process that is gone.

    Args:
        pid: The process; ``self`` for this one.
    """
    try:
        text = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()
    return tuple(Mount.parse(line) for line in text.splitlines())


def below(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Mount points in or below ``folders``, the newest first: the order to unmount them in."""
    points = [mount.point for mount in of("self")]
    return tuple(reversed([point for point in points if any(point.is_relative_to(f) for f in folders)]))


def clear(folders: Sequence[Path]) -> None:
    """Unmount everything in or below ``folders``, also what is still in use.

    Raises:
        EngineError: Something stays mounted.
    """
    # The program umount is not on every machine that can run an engine.
    libc = ctypes.CDLL(None)
    for point in below(folders):
        libc.umount2(os.fsencode(point), _DETACH)
    if left := below(folders):
        raise EngineError(f"cannot unmount {left[0]}", hint=f"run `umount {left[0]}`, then this again")
