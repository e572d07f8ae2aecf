"""``python -m tests.bench``: run the benchmarks, print what they found. A goal that is missed is no failure."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import TYPE_CHECKING

import docker.errors
import requests

from build.console import Console
from build.errors import EXIT_INTERRUPTED, EngineError, LlmdDevError
from build.source import repository
from tests.bench import benchmarks
from tests.bench.figures import table
from tests.bench.ground import ground

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from tests.bench.figures import Figure


def main(argv: Sequence[str]) -> int:
    """Run benchmarks.

    Args:
        argv: Words after the program's name.

    Returns:
        The exit code, as :mod:`build.errors` has it.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    repository.without_git_variables()
    arguments = _parser().parse_args(argv)
    console = Console(quiet=arguments.json)
    try:
        figures = _measure(arguments.only or list(benchmarks.ALL), arguments.base, arguments.runs, console)
    except LlmdDevError as error:
        return _fail(console, error)
    except (docker.errors.DockerException, requests.ConnectionError) as error:
        hint = "`python -m build engine status` shows whether it runs"
        return _fail(console, EngineError(f"the engine failed: {error}", hint=hint))
    except KeyboardInterrupt:
        console.warn("interrupted; nothing half-made is left")
        return EXIT_INTERRUPTED
    if arguments.json:
        json.dump([figure.document() for figure in figures], sys.stdout, indent=2)
        sys.stdout.write("\n")
    console.result(table(figures))
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does: cleaned up."""
    raise KeyboardInterrupt


def _fail(console: Console, error: LlmdDevError) -> int:
    console.fail(error.word, error.what, error.hint)
    return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="How fast and how small overlays are.")
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output, nothing else")
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=benchmarks.ALL, help=", ".join(benchmarks.ALL))
    parser.add_argument(
        "--runs", metavar="N", type=int, default=5, help="repetitions of each, of which the median counts"
    )
    parser.add_argument("--base", metavar="IMAGE", default="llm-d-dev:nightly-cpu", help="a sealed base")
    return parser


def _measure(names: Sequence[str], base: str, runs: int, console: Console) -> list[Figure]:
    figures: list[Figure] = []
    with ground(base, console) as found:
        for name in names:
            with console.step(name):
                figures += benchmarks.ALL[name](found, runs)
    return figures


sys.exit(main(sys.argv[1:]))
