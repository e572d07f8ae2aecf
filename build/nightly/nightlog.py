"""The log of all nightlies, ``nightly-build.log`` in the repository."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from build.config.folders import REPOSITORY
from build.errors import UsageError
from build.host.runlog import RotatingLogFile
from build.host.secrets import RedactingFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = REPOSITORY / "nightly-build.log"

_BYTES = 2_000_000
_KEPT = 4


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Log to the file while the block runs. The file is rotated; ``.1`` is the previous one.

    Build output goes only to the run's own log in the state folder: here it would hide everything else.

    Raises:
        UsageError: The file is not writable.
    """
    try:
        handler = RotatingLogFile(PATH, maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the repository's folder is not writable: {error}", hint="run this in a checkout that you may write to"
        ) from error
    handler.setLevel(logging.INFO)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)-7s [%(process)d] %(message)s"))
    ours = logging.getLogger("build")
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()
