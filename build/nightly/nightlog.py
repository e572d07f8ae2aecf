"""``nightly-build.log`` in the repository: what every nightly did, line by line, for whoever looks in the morning."""

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
    """Log to the file while the block runs; it is rotated, ``.1`` being the one before.

    Output of builds is left to the run's own log in the state folder: here it would bury all else.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        handler = RotatingLogFile(PATH, maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the repository's folder cannot be written: {error}", hint="run this in a checkout of your own"
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
