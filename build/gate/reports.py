"""Reports of smoke runs: a folder each, named after the time and the image."""

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

    from build.engine.client import Image

PAGE = "report.html"
"""File of a report's folder for a browser."""

LOG = "server.log"
"""File of a report's folder with what the server printed."""


@checked(frozen=True, kw_only=True)
class CheckRow:
    """One check of a report.

    Attributes:
        name: ``<tier>/<what is checked>``.
        outcome: ``passed``, ``failed``, ``skipped`` or ``inconclusive``.
        message: Why it did not pass.
        log_line: What the server's log says about it; None if it says nothing.
        log_line_number: Its number there, from 1.
    """

    name: str
    outcome: str
    message: str = ""
    log_line: str | None = None
    log_line_number: int | None = None


@checked(frozen=True, kw_only=True)
class ReportDocument:
    """What is read of ``report.json``; it may have more.

    Attributes:
        result: ``pass``, ``fail`` or ``inconclusive``.
        cause: Why it is no pass, in a word.
        line: What shows that.
        line_number: Its number in the server's log.
        advice: What to do.
        image_id: The image.
        header: What was tested where, in words.
        checks: In the order in which they ran.
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
    """A report that is kept.

    Attributes:
        folder: Its folder.
        read: What it says.
    """

    folder: Path
    read: ReportDocument

    @property
    def page(self) -> Path:
        """The file for a browser."""
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
    """A new folder for a run: two may start in the same second."""
    made = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{image.short_id}-{secrets.token_hex(4)}"
    made.mkdir(parents=True)
    return made


def last_log(folder: Path, image: Image | None = None) -> Path | None:
    """The newest log of a server that was tested or served; None without one.

    Args:
        folder: Where reports are kept.
        image: The image that it is to be of; any by default.
    """
    pattern = f"*-{image.short_id}-*/{LOG}" if image else f"*/{LOG}"
    return max(folder.glob(pattern), key=lambda found: found.parent.name, default=None)


def read(folder: Path) -> ReportDocument | None:
    """What a report says; None without one that can be read."""
    return stored.read(folder / "report.json", _DOCUMENT)


def kept(folder: Path, image: Image | None = None) -> list[KeptReport]:
    """Reports that are kept, the newest first.

    Args:
        folder: Where reports are kept.
        image: The image that they are to be about; any by default.
    """
    pattern = f"*-{image.short_id}-*" if image else "*"
    folders = sorted(folder.glob(pattern), key=lambda found: found.name, reverse=True)
    found = (KeptReport(folder=each, read=said) for each in folders if (said := read(each)))
    return [report for report in found if image is None or report.read.image_id == image.id]
