"""Remove the command `llm-d-dev`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from build.cli import launcher

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = ""


def add_options(_parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare no options."""


def run(context: Context, _: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    place = launcher.UserFiles.of(os.environ)
    return context.console.show(launcher.uninstall(place, console=context.console))
