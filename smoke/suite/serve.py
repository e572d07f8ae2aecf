"""An image that is started as by a run of the suite, and then is there for the user."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from build.config.gpus import Selection
from build.config.model_name import chosen
from build.engine import servers
from build.errors import LlmdDevError
from build.host import scratch
from build.host.files import write_json
from smoke.diagnosis.cause import Diagnosis, diagnose
from smoke.server.server import ANSWER_S, ServerFailedError
from smoke.suite.image_run import NotVerifiedError, Run
from smoke.suite.suite_options import Options, starting_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoke.server.server import ContainerServer

_ENDING_S = 5.0


def main(argv: Sequence[str]) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        argv: Command line arguments.

    Returns:
        1 when the server ended by itself, or never became healthy: ``ended.json`` in the report's folder says why.
    """
    arguments = _parsed(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            with contextlib.closing(Run.prepare(_options(arguments))) as run:
                why = _served(run, arguments.key_file)
        except LlmdDevError as error:
            why = Diagnosis(cause=error.word, line=error.what, advice=error.hint, image_at_fault=False)
        write_json(arguments.report / "ended.json", asdict(why))
        return 1
    return 0


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m smoke.serve")
    parser.add_argument("--image", required=True)
    parser.add_argument("--gpus", type=Selection.parse, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--profile")
    parser.add_argument("--serve-arg", dest="serve_args", action="append", default=[])
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--start-timeout", type=float, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    return parser.parse_args(argv)


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        image=arguments.image,
        url=None,
        key=None,
        gpus=arguments.gpus,
        model=chosen(arguments.model) if arguments.model else None,
        report=arguments.report,
        expect=(),
        start_timeout=arguments.start_timeout,
        any_user=False,
        answer_timeout=ANSWER_S,
        network=False,
        numbers_changed=False,
        profile=arguments.profile,
        **starting_with(arguments.serve_args, ()),
    )


def _served(run: Run, key_file: Path) -> Diagnosis:
    """Serve until the server ends; returns why it did."""
    try:
        with scratch.folder() as folder, run.starting(scratch=Path(folder), say=_say) as healthy:
            server = healthy()
            _write_key(key_file, run.key)
            _say(f"serving {run.image.name} at {server.url}, model {server.model}")
            _say(f"its API key is in {key_file}; Ctrl-C ends it")
            _say(f'try: curl -H "Authorization: Bearer $(cat {key_file})" {server.url}/v1/models')
            _follow(run, server)
            return diagnose(server.log(), exit_code=server.exit_code(within=_ENDING_S))
    except (NotVerifiedError, ServerFailedError):
        assert run.findings.diagnosis is not None, "both are raised with a diagnosis"
        return run.findings.diagnosis


def _write_key(file: Path, key: str) -> None:
    """Write the key where only this user can read it."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(f"{key}\n")


def _follow(run: Run, server: ContainerServer) -> None:
    for line in servers.printed(server.container):
        _say(run.redacted(line))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
