"""Push an image that has passed its smoke test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build.cli import options
from build.gate import ending, publish

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s llm-d-dev:nightly"


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """The image."""
    options.add_image(parser)
    parser.add_argument("--allow-native", action="store_true", help="push it although native sources differ")


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    image = context.engine.image(arguments.image)
    pushed = publish.push(context, image, allow_native=arguments.allow_native)
    document = {"pushed": list(pushed.names), "digest": pushed.digest, "bytes": pushed.size}
    return context.console.show({**document, **ending.ending(context, image, pushed=pushed)})
