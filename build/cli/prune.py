"""Remove old bases, overlays, reports and logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build.nightly import pruning

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s --apply"


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare whether to remove, and what stays."""
    parser.add_argument("--apply", action="store_true", help="do it")
    parser.add_argument("--keep-bases", metavar="N", type=int, help="number of good bases of each flavor to keep")


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    done = pruning.prune(context, apply=arguments.apply)
    context.console.result(done.table())
    context.console.result(done.summary)
    return done.document()
