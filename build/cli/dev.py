"""Overlays of a local vLLM repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from build.cli import checkout, deliver
from build.cli.deliver import Delivery

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from build.cli.deliver import Delivered
    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s ~/vllm HEAD"


def add_options(parser: argparse.ArgumentParser, defaults: Defaults) -> None:
    """Declare the commit and the options of its overlay."""
    checkout.add_options(parser, defaults)
    deliver.add_options(parser)


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    path, request = checkout.path_of(context, arguments), Delivery.of(arguments)
    made = dev(context, path=path, ref=arguments.ref, dirty=arguments.dirty, request=request)
    return context.console.show(made.document())


def dev(context: Context, *, path: Path, ref: str, dirty: bool, request: Delivery) -> Delivered:
    """Make an overlay of a local ref or working tree, test it, push it.

    Args:
        context: Settings, console, engine.
        path: A vLLM repository. It is only read.
        ref: Commit-ish in the repository.
        dirty: Whether to take the working tree, on top of the checked-out commit, instead of the ref.
        request: Steps and options of the overlay.

    Raises:
        SourceError: Path or ref cannot be used.
        IncompatibleError: No base fits.
        BuildError: The engine could not build the overlay.
        SmokeError: The overlay is broken. Nothing was pushed.
        GateError: The image in the registry is not the tested image.
    """
    carried = request.wishes.carried
    with checkout.local(path, ref, dirty=dirty, carried=carried, console=context.console) as (target, name):
        deliver.require_registry(context, request)
        return deliver.deliver(context, target, request, name=name)
