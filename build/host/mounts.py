"""Mounted file systems, read from proc_pid_mountinfo(5)."""

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
"""``MNT_DETACH`` of sys/mount.h: unmount now, free when the last user is gone."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One mount.

    Attributes:
        point: Mount point, seen from the process's own root.
        upper: Folder with an overlay's changes, as given in its options; None for other file systems.
    """

    point: Path
    upper: Path | None

    @classmethod
    def parse(cls, line: str) -> Mount:
        """Parse a line of mountinfo."""
        left, _, right = line.partition(" - ")
        options = right.split(" ")[2].split(",")
        uppers = [option.removeprefix("upperdir=") for option in options if option.startswith("upperdir=")]
        return cls(point=Path(_plain(left.split(" ")[4])), upper=Path(_plain(uppers[0])) if uppers else None)


def _plain(text: str) -> str:
    """Decode the octal numbers for spaces, tabs, line ends and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def of(pid: int | str) -> tuple[Mount, ...]:
    """Return the mounts that a process sees, newest last; empty for a missing process.

    Args:
        pid: The process; ``self`` for this one.
    """
    try:
        text = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()
    return tuple(Mount.parse(line) for line in text.splitlines())


def below(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the mount points in or below ``folders``, newest first, in the order to unmount them."""
    points = [mount.point for mount in of("self")]
    return tuple(reversed([point for point in points if any(point.is_relative_to(f) for f in folders)]))


def clear(folders: Sequence[Path]) -> None:
    """Unmount everything in or below ``folders``, even if it is in use.

    Raises:
        EngineError: A mount cannot be removed.
    """
    # Not every machine that can run an engine has the program umount.
    libc = ctypes.CDLL(None)
    for point in below(folders):
        libc.umount2(os.fsencode(point), _DETACH)
    if left := below(folders):
        raise EngineError(f"cannot unmount {left[0]}", hint=f"run `umount {left[0]}`, then this again")
