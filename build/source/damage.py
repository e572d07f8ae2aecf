"""The repair of damaged repositories in the cache."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from build.errors import SourceError
from build.host import stored
from build.source.git import Git, GitError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from build.console import Console

T = TypeVar("T")


def mended(
    path: Path, work: Callable[[], T], *, alone: Callable[[], AbstractContextManager[None]], console: Console
) -> T:
    """Run a task on a repository. If it fails because of damage, recreate the repository and run it again.

    Args:
        path: Path of the repository.
        work: The task, which creates a missing repository.
        alone: Lock against other runs.
        console: Console for the warning.

    Raises:
        SourceError: The task failed without damage, or again.
    """
    try:
        return work()
    except SourceError:
        # Checked only after a failure, because it is slow for large repositories.
        if is_sound(path):
            raise
    with alone():
        # Another run may have repaired it meanwhile.
        if not is_sound(path):
            console.warn(f"{path} is damaged: recreating it")
            stored.clear(path)
    return work()


def is_sound(path: Path) -> bool:
    """Return whether ``git fsck`` finds no damage in a cached repository. A missing one is sound."""
    if not os.path.lexists(path):
        return True
    try:
        Git.sealed(path).output("fsck", "--no-dangling", "--no-progress")
    except GitError:
        return False
    return True
