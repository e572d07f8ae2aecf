"""Reports of smoke runs: one folder each, named after the time and the image."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from build.host import stored

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.image import Image

PAGE = "report.html"
"""The report page for a browser, in a report's folder."""

LOG = "server.log"
"""The server's log, in a report's folder."""


@checked(frozen=True, kw_only=True)
class CheckRow:
    """One check of a report.

    Attributes:
        name: ``<tier>/<check>``.
        outcome: ``passed``, ``failed``, ``skipped`` or ``inconclusive``.
        message: Why it did not pass.
        log_line: The line of the server's log about it; None without one.
        log_line_number: Number of that line, from 1.
    """

    name: str
    outcome: str
    message: str = ""
    log_line: str | None = None
    log_line_number: int | None = None


@checked(frozen=True, kw_only=True)
class ReportDocument:
    """The fields of ``report.json`` that are read; it may have more.

    Attributes:
        result: ``pass``, ``fail`` or ``inconclusive``.
        cause: Why the image did not pass, in a word.
        line: The line that shows the cause.
        line_number: Number of that line in the server's log.
        advice: What to do next.
        image_id: ID of the image.
        header: Test setup in words.
        checks: The checks, in the order in which they ran.
        figures: Measurements by name.
    """

    result: str
    cause: str | None
    line: str | None
    advice: str | None
    checks: tuple[CheckRow, ...]
    figures: dict[str, float]
    line_number: int | None = None
    image_id: str | None = None
    header: tuple[str, ...] = ()


_DOCUMENT = TypeAdapter(ReportDocument).validate_python


@dataclass(frozen=True, kw_only=True)
class KeptReport:
    """A stored report.

    Attributes:
        folder: Folder of the report.
        read: Content of the report.
    """

    folder: Path
    read: ReportDocument

    @property
    def page(self) -> Path:
        """The page for a browser."""
        return self.folder / PAGE

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "image_id": self.read.image_id,
            "result": self.read.result,
            "cause": self.read.cause,
            "folder": str(self.folder),
            "page": str(self.page),
        }


def new(folder: Path, image: Image) -> Path:
    """Make a new folder for a run. Two runs may start in the same second."""
    made = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{image.short_id}-{secrets.token_hex(4)}"
    made.mkdir(parents=True)
    return made


def last_log(folder: Path, image: Image | None = None) -> Path | None:
    """Return the newest log of a tested or served server, or None without one.

    Args:
        folder: Folder of reports.
        image: Image of the server; None for any.
    """
    pattern = f"*-{image.short_id}-*/{LOG}" if image else f"*/{LOG}"
    return max(folder.glob(pattern), key=lambda found: found.parent.name, default=None)


def read(folder: Path) -> ReportDocument | None:
    """Read a report. Return None if it is missing or unreadable."""
    return stored.read(folder / "report.json", _DOCUMENT)


def kept(folder: Path, image: Image | None = None) -> list[KeptReport]:
    """Return the stored reports, newest first.

    Args:
        folder: Folder of reports.
        image: Image of the reports; None for any.
    """
    pattern = f"*-{image.short_id}-*" if image else "*"
    folders = sorted(folder.glob(pattern), key=lambda found: found.name, reverse=True)
    found = (KeptReport(folder=each, read=said) for each in folders if (said := read(each)))
    return [report for report in found if image is None or report.read.image_id == image.id]
