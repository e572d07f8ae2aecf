"""The names of images during a push to a registry: made for one push, and removed when its run has ended."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
from typing import TYPE_CHECKING

from build.engine import labels
from build.engine.names import Upload
from build.errors import BusyError
from build.host import identity, lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image

log = logging.getLogger(__name__)

_HOST_AND_MACHINE = 2


def of(image: Image, locks: Path) -> Upload:
    """Return a name for a push of an image.

    Args:
        image: The image.
        locks: Folder of lock files.
    """
    return Upload(image=image.short_id, place=_place(locks), push=secrets.token_hex(4))


def lock_name(short_id: str) -> str:
    """Return the name of the lock that a push of an image holds."""
    return f"push-{short_id}"


@contextlib.contextmanager
def abandoned(upload: Upload, locks: Path) -> Iterator[bool]:
    """Yield whether the run that made a name has ended; if so, block other pushes of the image while the block runs.

    A name from another state folder never counts as abandoned: this machine cannot tell whether its run has ended.
    """
    with contextlib.ExitStack() as stack:
        gone = upload.place == _place(locks)
        if gone:
            try:
                stack.enter_context(lock.held(locks, lock_name(upload.image), doing="removing what a push left"))
            except BusyError:
                gone = False
        yield gone


def sweep(engine: Engine, locks: Path) -> int:
    """Remove the names that killed pushes left on the engine's images.

    Returns:
        Number of removed names.
    """
    removed = 0
    for row in engine.client.api.images(filters={"label": [labels.KIND]}):
        for name in row.get("RepoTags") or ():
            upload = Upload.parse(name.rpartition(":")[2])
            if upload is None:
                continue
            with abandoned(upload, locks) as gone:
                if gone:
                    log.info("removing name %s of a push that is gone", name)
                    engine.release(name)
                    removed += 1
    return removed


def _place(locks: Path) -> str:
    """Return digits that identify the state folder and its machine."""
    machine = ":".join(identity.identity().split(":")[:_HOST_AND_MACHINE])
    return hashlib.sha256(f"{machine}:{locks.absolute()}".encode()).hexdigest()[:8]
