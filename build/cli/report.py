"""Reports of smoke tests: a list, or the newest one of an image."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from build.errors import SourceError
from build.gate import reports

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from build.cli.options import Defaults
    from build.context import Context
    from build.gate.reports import KeptReport

EXAMPLE = "%(prog)s llm-d-dev:nightly"

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_SHOWN = 20


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """The image."""
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?", help="name, tag or ID: open the image's newest report (default: list all)"
    )


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    image = context.engine.image(arguments.image) if arguments.image else None
    found = reports.kept(context.folders.reports, image)
    if image and not found:
        raise SourceError(f"{image.name} has no report here", hint=f"`python -m build smoke --force {image.name}`")
    document = {"reports": [report.document() for report in found]}
    if image is None:
        context.console.result(_table(found[:_SHOWN]))
    elif not context.console.quiet and has_display(os.environ) and webbrowser.open(found[0].page.as_uri()):
        context.console.note(f"opened {found[0].page}")
    else:
        context.console.result(str(found[0].page))
    return document


def has_display(environment: Mapping[str, str]) -> bool:
    """Return whether a browser started here can show a window."""
    return sys.platform == "darwin" or any(environment.get(name) for name in _DISPLAYS)


def _table(found: Sequence[KeptReport]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("image", "result", "cause", "report"):
        shown.add_column(column, no_wrap=True)
    for report in found:
        read = report.read
        image = (read.image_id or "").removeprefix("sha256:")[:12]
        shown.add_row(*map(escape, (image, read.result, read.cause or "", str(report.page))))
    return shown
