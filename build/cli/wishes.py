"""Options about the base that an overlay stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.base.chosen import AUTO
from build.cli import options
from build.overlay.choice import BaseWishes

if TYPE_CHECKING:
    import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which base, and what is carried that it does not hold."""
    parser.add_argument(
        "--base",
        metavar="IMAGE",
        type=options.word,
        default=AUTO,
        help=f"base to stand on (default: {AUTO}, the newest that fits)",
    )
    options.add_flavor(parser, "of the base")
    parser.add_argument(
        "--with",
        dest="carried",
        metavar="NAME",
        type=options.word,
        action="append",
        default=[],
        help="carry a top-level folder that the base does not hold, such as tests; repeatable",
    )


def of(arguments: argparse.Namespace) -> BaseWishes:
    """What the command line asks of the base."""
    base = None if arguments.base == AUTO else arguments.base
    # A shell that completes the name of a folder adds a slash.
    carried = frozenset(name.rstrip("/") for name in arguments.carried)
    flavor = None if arguments.flavor == AUTO else arguments.flavor
    return BaseWishes(base=base, flavor=flavor, carried=carried)
