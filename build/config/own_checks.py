"""Checks of the user's own that a smoke run is to include."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def own_checks(path: Path | None) -> Path | None:
    """Check the path of a pytest file, or of a folder of such.

    Raises:
        UsageError: There is no such file or folder.
    """
    if path is not None and not path.exists():
        raise UsageError(f"--checks {path}: no such file or folder", hint="name a pytest file, or a folder of such")
    return path
