"""Test an image through its API. Also: the options of every smoke test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build.cli import options
from build.config import model_name, starting
from build.config.expectation import Expectation
from build.config.own_checks import own_checks
from build.gate import ending, smoke_run
from build.gate.smoke_run import SmokeOptions

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s llm-d-dev:nightly"


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare the image and its test."""
    options.add_image(parser)
    add_test_options(parser)


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    image = context.engine.image(arguments.image)
    tested = smoke_run.run(context, image, options_of(arguments), force=arguments.force)
    document = {
        "image": arguments.image,
        "id": image.id,
        "verdict": "pass",
        "checks": list(tested.verdict.passed),
        "report": str(tested.report) if tested.report else None,
        "figures": dict(tested.figures),
    }
    return context.console.show({**document, **ending.ending(context, image, model=arguments.model)})


def add_test_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a test."""
    add_start_options(parser)
    parser.add_argument("--force", action="store_true", help="test again although a verdict exists")
    parser.add_argument(
        "--expect",
        metavar="ROUTE=TEXT",
        type=options.usable(_expectation),
        action="append",
        default=[],
        help="text that the answer to GET ROUTE must contain; repeatable",
    )
    parser.add_argument(
        "--checks",
        metavar="PATH",
        type=options.usable(_checks),
        help="checks of your own, to run after the suite's: a pytest file or a folder of such (default: the setting)",
    )


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of an image's start."""
    options.add_timeout(parser)
    options.add_gpus(parser)
    parser.add_argument(
        "--numbers",
        choices=("same", "changed"),
        default="same",
        help="changed: the overlay computes other numbers than its base, on purpose (default: same)",
    )
    parser.add_argument(
        "--model",
        metavar="DIR|ID[@REVISION]",
        type=options.usable(_model),
        help="model to serve: a folder, or a name on Hugging Face's hub (default: a tiny generated one)",
    )
    parser.add_argument(
        "--profile",
        choices=("fast", "real"),
        help="real: with compilation, CUDA graphs and all GPUs given; fast: without (default: real on a GPU)",
    )
    parser.add_argument(
        "--serve-arg",
        dest="serve_args",
        metavar="ARG",
        type=options.usable(starting.argument),
        action="append",
        help="further argument of vLLM, such as --serve-arg=--max-num-seqs=8; repeatable (default: the setting)",
    )
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        type=options.usable(starting.variable),
        action="append",
        help="further variable of the server, whose value is shown nowhere; repeatable (default: the setting)",
    )


def options_of(arguments: argparse.Namespace) -> SmokeOptions:
    """Return the test options on the command line."""
    return SmokeOptions(
        expect=tuple(arguments.expect), numbers=arguments.numbers, checks=arguments.checks, **start_of(arguments)
    )


def start_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """How the command line wants an image to be started."""
    return {
        "gpus": arguments.gpus,
        "model": arguments.model,
        "profile": arguments.profile,
        "serve_args": tuple(arguments.serve_args) if arguments.serve_args else None,
        "env": tuple(arguments.env) if arguments.env else None,
    }


def _checks(text: str) -> Path | None:
    return own_checks(options.path(text))


def _expectation(text: str) -> str:
    Expectation.parse(text)
    return text


def _model(text: str) -> Path:
    path = options.path(text)
    model_name.chosen(path)
    return path
