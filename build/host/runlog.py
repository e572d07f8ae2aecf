"""The log file of a run. A full disk ends the log with a warning; the run goes on."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import time
from typing import TYPE_CHECKING

from build import errors
from build.errors import DiskError, UsageError
from build.host import stored
from build.host.secrets import RedactingFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from build.console import Console

log = logging.getLogger(__name__)

_FRUGAL = frozenset({"status", "plan", "prune", "engine", "uninstall"})
"""Verbs that run without a log: they only read, or free disk. Other verbs stop before the full disk stops them."""


def start(folder: Path, verb: str, console: Console) -> Path | None:
    """Start this run's log.

    Args:
        folder: Folder of logs, created if missing.
        verb: Verb of the run, part of the log's name.
        console: Console for warnings about files, for example that the log ends.

    Returns:
        The log file, or None where the disk is full and the verb can run without one.

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
        found = errors.as_ours(error)
        if not isinstance(found, DiskError):
            raise UsageError(
                f"the state folder cannot be written: {error}", hint="name another with --state or LLM_D_DEV_STATE"
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
    """Close the logs that were started in the block."""
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
    """Start a log with its first line, which shows whether the disk accepts it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_text(f"process {os.getpid()}: {' '.join(map(ascii, sys.argv[1:2]))}\n", encoding="utf-8")
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return LogFile(path, encoding="utf-8", errors="backslashreplace")


class Ending(logging.Handler):
    """A handler that ends at a failed write. logging itself would print a traceback for every line."""

    ended = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line unless the handler has ended."""
        if not self.ended:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """End the handler at the first failed write."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.ended = True
        self.close()
        log.warning("the log ends: %s cannot be written: %s", getattr(self, "baseFilename", "it"), error.strerror)

    def close(self) -> None:
        """Close the file and ignore a failed last write."""
        with contextlib.suppress(OSError):
            super().close()


class LogFile(Ending, logging.FileHandler):
    """A log file that ends at a failed write."""


class RotatingLogFile(Ending, logging.handlers.RotatingFileHandler):
    """A rotated log file that ends at a failed write."""


class _Spoken(logging.Handler):
    """A handler that shows the warnings of file modules to the user, each once.

    Args:
        say: Takes one line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a warning that was not shown before."""
        text = record.getMessage()
        if record.name in (stored.log.name, log.name) and text not in self._said:
            self._said.add(text)
            self._say(text)
