"""The embedded Docker Engine and image registry: start, stop and status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build.engine import buildx, embedded
from build.registry import local

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s status"


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare the action."""
    parser.add_argument("action", choices=("up", "down", "status"))


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    folders, console = context.folders, context.console
    if arguments.action == "up":
        found = embedded.up(folders, install=context.settings.install, console=console)
        buildx.require_buildkit(found)
        context.embedded_registry()
    elif arguments.action == "down":
        local.stop(folders)
        embedded.down(folders, console=console)
    server, registry = embedded.status(folders), local.status(embedded.in_use(folders), folders)
    document = {"engine": vars(server), "registry": vars(registry)}
    for name, facts in document.items():
        lines = [f"  {key}: {value}" for key, value in facts.items() if value is not None]
        console.result("\n".join((f"embedded {name}", *lines)))
    return document
