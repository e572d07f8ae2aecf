"""Repositories of the cache that were damaged: they are made anew."""

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
    """Do something with a repository; where that fails and it is damaged, once more without what was there.

    Args:
        path: The repository.
        work: What to do. It makes the repository if it is not there.
        alone: Keeps other runs away while the block runs.
        console: Where the user is told.

    Raises:
        SourceError: It fails all the same.
    """
    try:
        return work()
    except SourceError:
        # Looked at only then: it takes as long as there is much.
        if is_sound(path):
            raise
    with alone():
        # Another run may have mended it meanwhile.
        if not is_sound(path):
            console.warn(f"{path} was damaged: it is made anew")
            stored.clear(path)
    return work()


def is_sound(path: Path) -> bool:
    """Whether git finds nothing wrong with a repository of a cache; one that is not there is sound."""
    if not os.path.lexists(path):
        return True
    try:
        Git.sealed(path).output("fsck", "--no-dangling", "--no-progress")
    except GitError:
        return False
    return True
