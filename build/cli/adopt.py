"""An image with vLLM that this tool did not build becomes a base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build.cli import options
from build.nightly.adopt import AdoptionRequest, adopt

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s docker.io/vllm/vllm-openai:v0.32.0"


def add_options(parser: argparse.ArgumentParser, defaults: Defaults) -> None:
    """Declare the image and what is known about it."""
    parser.add_argument(
        "image", metavar="IMAGE", type=options.word, help="an image of the engine, or a name or digest in a registry"
    )
    parser.add_argument(
        "--commit", metavar="COMMIT", type=options.word, help="vLLM commit that it holds (default: what the image says)"
    )
    parser.add_argument(
        "--source",
        metavar="PATH",
        type=options.path,
        help="repository that has the commit (default: the one that `dev` uses, else GitHub; of a release, the package "
        "index)",
    )
    parser.add_argument(
        "--modified", action="store_true", help="take it although files differ from the commit; overlays replace them"
    )
    parser.add_argument("--force", action="store_true", help="seal and test again although nothing changed")
    options.add_timeout(parser)
    options.add_push(parser)
    options.add_gpus(parser)
    parser.set_defaults(default_source=defaults.source.path)


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    request = AdoptionRequest(
        image=arguments.image,
        commit=arguments.commit,
        source=arguments.source,
        default_source=arguments.default_source,
        modified=arguments.modified,
        force=arguments.force,
        push=arguments.push,
        gpus=arguments.gpus,
    )
    return context.console.show(adopt(context, request).document())
