"""Options about the base of an overlay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.base.chosen import AUTO
from build.cli import options
from build.overlay.choice import BaseWishes

if TYPE_CHECKING:
    import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the base and the additional entries to carry."""
    parser.add_argument(
        "--base",
        metavar="IMAGE",
        type=options.word,
        default=AUTO,
        help=f"base to build on (default: {AUTO}, the newest that fits)",
    )
    options.add_flavor(parser, "of the base")
    parser.add_argument(
        "--with",
        dest="carried",
        metavar="NAME",
        type=options.word,
        action="append",
        default=[],
        help="top-level folder to carry although the base does not hold it, such as tests; repeatable",
    )


def of(arguments: argparse.Namespace) -> BaseWishes:
    """Return the user's choice on the command line."""
    base = None if arguments.base == AUTO else arguments.base
    # Shell completion adds a slash to the name of a folder.
    carried = frozenset(name.rstrip("/") for name in arguments.carried)
    flavor = None if arguments.flavor == AUTO else arguments.flavor
    return BaseWishes(base=base, flavor=flavor, carried=carried)
