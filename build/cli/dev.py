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
    """The commit, and what its overlay goes through."""
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
        path: A vLLM repository; it is only read.
        ref: A commit-ish of it.
        dirty: Take the working tree as it is, on top of what is checked out, instead of the ref.
        request: What the overlay is to go through.

    Raises:
        SourceError: Path or ref cannot be used.
        IncompatibleError: No base fits.
        BuildError: The engine could not build it.
        SmokeError: It is broken; nothing was pushed.
        GateError: What arrived in the registry is not what was tested.
    """
    carried = request.wishes.carried
    with checkout.local(path, ref, dirty=dirty, carried=carried, console=context.console) as (target, name):
        deliver.require_registry(context, request)
        return deliver.deliver(context, target, request, name=name)
