"""Temporary folders named after their owner, so that those of a killed run can be removed."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from build.host import identity

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "llm-d-dev-"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """Yield a new empty folder that only this user can read; remove it when the block ends."""
    who = identity.in_name(identity.identity())
    path = tempfile.mkdtemp(prefix=f"{_PREFIX}{who}-")
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: str) -> None:
    """Remove a folder, even if Ctrl-C interrupts: thousands of files take a moment."""
    try:
        shutil.rmtree(path)
    except KeyboardInterrupt:
        shutil.rmtree(path, ignore_errors=True)
        raise


def sweep() -> int:
    """Remove this user's folders of dead runs. Some hold credentials, some gigabytes.

    Returns:
        Number of removed folders.
    """
    removed = 0
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_ours(path) and not identity.alive(_owner(path.name)):
            log.info("removing %s of a run that is gone", path)
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _is_ours(path: Path) -> bool:
    """Return whether a folder in a shared place belongs to this user and is not a link."""
    try:
        status = path.lstat()
    except FileNotFoundError:  # of another run that has ended
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _owner(name: str) -> str:
    """Return the :func:`build.host.identity.identity` in a folder's name, which ends in a random part."""
    return identity.from_name(name.removeprefix(_PREFIX).rpartition("-")[0])
