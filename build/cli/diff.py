"""The source files that differ between two images."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from build.config.folders import REPOSITORY
from build.errors import SourceError
from build.gate import smoke_run
from build.host import process

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s llm-d-dev:nightly llm-d-dev:local-0123abcd"


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """The images."""
    parser.add_argument("old", metavar="OLD", help="name, tag or ID")
    parser.add_argument("new", metavar="NEW", help="name, tag or ID")


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    images = [context.engine.image(name) for name in (arguments.old, arguments.new)]
    argv = [sys.executable, "-m", "smoke.diff", *(image.id for image in images)]
    try:
        found = process.output(argv, env=smoke_run.environment(context), cwd=REPOSITORY)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or ["git printed no error"]
        raise SourceError(
            f"{arguments.old} and {arguments.new} cannot be compared: {said[-1]}",
            hint="only bases and overlays record their source: `python -m build status` lists them",
        ) from error
    document: dict[str, Any] = json.loads(found)
    for path, how in document["files"].items():
        context.console.result(f"{how[0].upper()} {path}")
    return {"old": images[0].id, "new": images[1].id, **document}
