"""The timer of the nightly: installation, status, removal."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.cli import nightly, options
from build.config.settings import ENV_PREFIX
from build.nightly import timer

if TYPE_CHECKING:
    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s install --at 02:00"


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare the timer's action, time and command."""
    parser.add_argument("action", choices=("install", "show", "remove"))
    options.add_flavor(parser, "of the nightlies, fixed at installation")
    parser.add_argument("--at", metavar="HH:MM", type=timer.at, default="02:00", help="local time (default: 02:00)")
    parser.add_argument(
        "--nightly",
        metavar="OPTIONS",
        type=_nightly_options,
        default=[],
        help="options of the nightly, such as --nightly='--flavor cuda'",
    )


def _nightly_options(text: str) -> list[str]:
    """Parse the options of `nightly`. They are checked now, because argparse's errors would go unread at night."""
    words = shlex.split(text)
    made = options.parse_nightly(words)
    given = (made.state, made.cache, made.llm_d, *(made.build_secrets or {}).values())
    for path in given:
        if path and not Path(path).expanduser().is_absolute():
            raise argparse.ArgumentTypeError(f"{str(path)!r} is not an absolute path, which a timer needs")
    if made.dry_run:
        raise argparse.ArgumentTypeError("--dry-run builds nothing")
    return words


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    given = {f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in options.settings_of(arguments).items()}
    place = timer.Owner(folders=context.folders, environment={**os.environ, **given}, console=context.console)
    if arguments.action == "install":
        timer.install(place, time=arguments.at, options=scheduled(context, arguments))
    elif arguments.action == "remove":
        timer.remove(place)
    found = timer.show(place)
    return context.console.show(found.document() if found else {"installed": False})


def scheduled(context: Context, arguments: argparse.Namespace) -> list[str]:
    """Return the nightly's arguments. The flavor is chosen now, because the engine may differ at night."""
    words: list[str] = arguments.nightly
    asked = options.parse_nightly(words)
    flavor = nightly.flavor_of(context, asked).name
    return words if asked.flavor == flavor else [*words, "--flavor", flavor]
