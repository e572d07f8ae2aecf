"""The log file of a run. A disk that is full ends the log, in one line, and not the run."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import time
from typing import TYPE_CHECKING

from build import failure, stored
from build.errors import DiskError, UsageError
from build.redact import RedactingFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from build.console import Console

log = logging.getLogger(__name__)

_FRUGAL = frozenset({"status", "plan", "prune", "engine", "uninstall"})
"""Verbs that look, or free disk, go on without a log. All others are stopped before they run into the full disk."""


def start(folder: Path, verb: str, console: Console) -> Path | None:
    """Keep a log of this run from now on.

    Args:
        folder: Where logs are; made if needed.
        verb: What the run does, which is part of the log's name.
        console: Where to say what the user has to know of files, such as that the log ends.

    Returns:
        The log; None where the disk is full, and the verb can do without.

    Raises:
        UsageError: The folder cannot be written to.
        DiskError: The disk is full.
    """
    ours = logging.getLogger("build")
    ours.addHandler(_Spoken(console.warn))
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{verb}-{os.getpid()}.log"
    try:
        handler = _begun(path)
    except OSError as error:
        found = failure.as_ours(error)
        if not isinstance(found, DiskError):
            raise UsageError(
                f"the state folder cannot be written: {error}", hint="name another one with --state or LLM_D_DEV_STATE"
            ) from error
        if verb not in _FRUGAL:
            raise found from error
        log.warning("this run keeps no log: %s", found.what)
        return None
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    return path


@contextlib.contextmanager
def ended() -> Iterator[None]:
    """End the logs that begin while the block runs."""
    ours = logging.getLogger("build")
    before, level = list(ours.handlers), ours.level
    try:
        yield
    finally:
        ours.setLevel(level)
        for handler in [one for one in ours.handlers if one not in before]:
            ours.removeHandler(handler)
            handler.close()


def _begun(path: Path) -> LogFile:
    """A log with its first line, which shows whether the disk takes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_text(f"process {os.getpid()}: {' '.join(map(ascii, sys.argv[1:2]))}\n", encoding="utf-8")
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return LogFile(path, encoding="utf-8", errors="backslashreplace")


class Ending(logging.Handler):
    """A handler that ends where its file cannot be written any more: logging would print a traceback a line."""

    ended = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, as long as the file takes it."""
        if not self.ended:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name for it
        """End at the first line that the operating system does not take."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.ended = True
        self.close()
        log.warning("the log ends: %s cannot be written: %s", getattr(self, "baseFilename", "it"), error.strerror)

    def close(self) -> None:
        """Close the file; what it does not take is lost."""
        with contextlib.suppress(OSError):
            super().close()


class LogFile(Ending, logging.FileHandler):
    """A log that ends where its file cannot be written any more."""


class RotatingLogFile(Ending, logging.handlers.RotatingFileHandler):
    """A log that is rotated, and ends where its file cannot be written any more."""


class _Spoken(logging.Handler):
    """Says to the user what the modules that keep files warn of, each thing once.

    Args:
        say: Takes one line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, if it was not said before."""
        text = record.getMessage()
        if record.name in (stored.log.name, log.name) and text not in self._said:
            self._said.add(text)
            self._say(text)
