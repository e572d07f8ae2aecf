"""The output of a server: a running one, else the last one tested or served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build.engine import servers
from build.errors import SourceError
from build.gate import reports

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s llm-d-dev:nightly"


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """The image."""
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="name, tag or ID (default: any)")


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    image = context.engine.image(arguments.image) if arguments.image else None
    if not arguments.json and (found := servers.running(context.engine, image)):
        context.console.note(f"{found[0].name} is running: Ctrl-C ends the output, not the server")
        try:
            for line in servers.printed(found[0]):
                context.console.result(line)
        except KeyboardInterrupt:
            context.console.note("the server keeps running")
        return {}
    log = reports.last_log(context.folders.reports, image)
    if log is None:
        raise SourceError("no server was tested or served here", hint="run `python -m build smoke IMAGE` to get a log")
    context.console.note(str(log))
    text = log.read_text(encoding="utf-8", errors="replace")
    context.console.result(text.removesuffix("\n"))
    return {"log": str(log), "text": text}
