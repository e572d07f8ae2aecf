"""The program: calls a verb, and turns an error into text and an exit code. No other module does either."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from build import errors
from build.cli import ci, launcher, options, verbs
from build.cli.options import Defaults
from build.config import settings
from build.console import PROGRAM, Console, without_standard_output
from build.context import Context
from build.errors import EXIT_INTERRUPTED, LlmdDevError, UsageError
from build.host import runlog
from build.host.secrets import redacted
from build.source import repository
from build.source.local_source import LocalSource

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path
    from types import FrameType

log = logging.getLogger("build")

_INTERRUPTED = {
    "word": "interrupted",
    "what": "interrupted; nothing half-made is left",
    "hint": "run it again",
    "exit_code": EXIT_INTERRUPTED,
}


def main(argv: Sequence[str], *, program: str = PROGRAM) -> int:
    """Run one verb.

    Args:
        argv: Arguments after the program's name.
        program: Name of the program in messages.

    Returns:
        The exit code: 0, 130, or that of the error's category (:mod:`build.errors`).
    """
    with runlog.ended():
        return _main(argv, program)


def _main(argv: Sequence[str], program: str) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    # Nothing may spill onto the terminal before there is a log file, or if it cannot be written.
    logging.getLogger("build").addHandler(logging.NullHandler())
    repository.without_git_variables()
    try:
        arguments = _parsed(argv, program)
    except (UsageError, OSError) as error:
        return _fail(Console(quiet="--json" in argv, program=program), errors.as_ours(error), None)
    job = ci.Job.of(os.environ, arguments.summary)
    console = Console(quiet=arguments.json, program=program, folds=job.annotates)
    log_file: Path | None = None
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        loaded = settings.load(options.settings_of(arguments))
        log_file = runlog.start(loaded.folders.logs, arguments.verb, console)
        if launcher.is_outdated():
            console.warn("the packages are older than requirements.txt: run `nox -s install` in the checkout")
        document = verbs.load(arguments.verb).run(Context(settings=loaded, console=console), arguments)
        job.ended(arguments.verb, document)
    except LlmdDevError as error:
        log.debug("raised here:", exc_info=error)
        _tell(job, arguments.verb, error, console)
        return _fail(console, error, log_file)
    except KeyboardInterrupt:
        console.warn(str(_INTERRUPTED["what"]))
        _print_error(console, _INTERRUPTED, log_file)
        return EXIT_INTERRUPTED
    except Exception as error:
        log.exception("the engine failed, or a defect")
        _tell(job, arguments.verb, errors.as_ours(error), console)
        return _fail(console, errors.as_ours(error), log_file)
    try:
        _print(_json(document) if arguments.json else "")
    except OSError as error:
        return _fail(console, errors.as_ours(error), log_file)
    return 0


def _tell(job: ci.Job, verb: str, error: LlmdDevError, console: Console) -> None:
    """Report a failure to the job. It matters more than a failed report."""
    try:
        job.failed(verb, error)
    except OSError as trouble:
        console.warn(f"the summary was not written: {trouble}")


def _parsed(argv: Sequence[str], program: str) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UsageError: The command line cannot be used.
        OSError: A requested text cannot be written.
    """
    defaults = Defaults(source=LocalSource.default(os.environ), ref=os.environ.get("VLLM_LOCAL_REF") or "HEAD")
    try:
        return options.parse(argv, defaults, program=program)
    except SystemExit:
        # After --help or --version: otherwise Python would report the failed write at its end.
        _print("")
        raise


def _print(text: str) -> None:
    """Print a last text. A closed pipe is not an error, because the work is done.

    Raises:
        OSError: The text cannot be written, for example to a full disk.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        without_standard_output()
    except OSError:
        without_standard_output()
        raise


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End the run at SIGTERM as at Ctrl-C, with clean-up."""
    raise KeyboardInterrupt


def _fail(console: Console, error: LlmdDevError, log_file: Path | None) -> int:
    hint = f"{error.hint} ({log_file})" if log_file and error.see_log else error.hint
    # Standard error may be on the full disk, and standard output too.
    with contextlib.suppress(OSError):
        console.fail(error.word, redacted(error.what), redacted(hint))
    document = {"word": error.word, "what": redacted(error.what), "hint": console.worded(redacted(error.hint))}
    with contextlib.suppress(OSError):
        _print_error(console, {**document, "exit_code": error.exit_code}, log_file)
        _print("")
    return error.exit_code


def _print_error(console: Console, document: dict[str, Any], log_file: Path | None) -> None:
    """Print the document of a failed run, for ``--json``."""
    if console.quiet:
        _print(_json({"error": {**document, "log": log_file}}))


def _json(document: Any) -> str:  # noqa: ANN401 - whatever a verb returns
    # ##[ starts a command of GitHub Actions.
    return json.dumps(document, indent=2, default=str).replace("##[", "\\u0023#[") + "\n"
