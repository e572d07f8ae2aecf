"""A preview of an overlay, without a build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build.base import chosen
from build.cli import checkout, options, wishes
from build.nightly import freshness
from build.overlay import preview

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s ~/vllm my-branch"


def add_options(parser: argparse.ArgumentParser, defaults: Defaults) -> None:
    """Declare the commit and the base to compare with."""
    checkout.add_options(parser, defaults)
    wishes.add_options(parser)
    parser.add_argument(
        "--base-commit",
        metavar="REF",
        type=options.word,
        help="compare with a base that would be built from this commit, without an engine",
    )


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    path, wished = checkout.path_of(context, arguments), wishes.of(arguments)
    asked = {"dirty": arguments.dirty, "carried": wished.carried}
    with checkout.local(path, arguments.ref, **asked, console=context.console) as (target, _):
        if arguments.base_commit:
            flavor = chosen.chosen_without_engine(context, context.settings.flavor)
            made = preview.plan_on_commit(target, arguments.base_commit, flavor=flavor.name, carried=wished.carried)
        else:
            made = preview.plan(context, target, wished)
            if made.image:
                freshness.tell(context, made.image)
    for line in made.lines():
        context.console.result(line)
    return made.document()
