"""Why a server failed: from its log and exit code to a cause, the line that shows it, and what to do.

Also a program: ``python -m smoke.diagnose LOG [--exit-code N] [--json]``.
The texts that it knows are in :mod:`smoke.signs`.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smoke.signs import SIGNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from smoke.signs import Sign

_LINE_LIMIT = 500


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a server failed.

    Attributes:
        cause: One word, such as ``undefined-symbol``.
        line: The line of the log that shows it; empty if the log holds nothing.
        advice: What to do, one sentence.
        image_at_fault: False when the machine or the network is to blame, so that the image is neither passed
            nor failed.
    """

    cause: str
    line: str
    advice: str
    image_at_fault: bool


_TIMEOUT_ADVICE = "read what the server did last; give it more time with --start-timeout if it was only slow"
_MEMORY_ADVICE = (
    "free memory on the engine's machine, or give the container more: it was killed, most likely for memory"
)
_CRASH_ADVICE = "the process crashed in native code: check that the binaries fit this processor and each other"
_ENTRYPOINT_ADVICE = "check the image's entry point and that `vllm` is on its PATH"
_UNKNOWN_ADVICE = "read the server's log"

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# vLLM's log format (vllm/logger.py), which each process may put its name before.
_BELOW_ERROR = re.compile(r"^(?:\([^)]*\) )?(?:DEBUG|INFO|WARNING) \d\d-\d\d ")
_EXCEPTION = re.compile(r"(?:^|\s)[\w.]*(?:Error|Exception|Interrupt)(?:: |$)")
_WHERE = re.compile(r'File "([^"]+)", line (\d+)')

_KILLED = 128 + signal.SIGKILL
_CRASHES = {128 + number for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE)}
# A shell's words for "found but cannot be run" and "not found".
_NOT_RUN = (126, 127)


def diagnose(
    log: str, *, exit_code: int | None = None, timed_out: bool = False, out_of_memory: bool = False
) -> Diagnosis:
    """Find out why a server failed.

    The cause that shows first in the log wins over what follows from it.

    Args:
        log: Everything it printed, or what the engine said when it refused to start it.
        exit_code: How it ended; None if it still runs or that is not known.
        timed_out: Whether it was given up while it ran.
        out_of_memory: Whether the engine says that the kernel killed it for memory.
    """
    lines = [_COLOUR.sub("", line).strip() for line in log.splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    if out_of_memory:
        return _found("host-memory", last, _MEMORY_ADVICE, image_at_fault=False)
    return (
        _first_sign(lines, [sign for sign in SIGNS if not sign.consequence])
        or _from_exit_code(exit_code, last)
        or _first_sign(lines, [sign for sign in SIGNS if sign.consequence])
        or (_found("timeout", last, _TIMEOUT_ADVICE) if timed_out else None)
        or _found("unknown", _last_exception(lines) or last, _UNKNOWN_ADVICE)
    )


def _found(cause: str, line: str, advice: str, *, image_at_fault: bool = True) -> Diagnosis:
    return Diagnosis(cause=cause, line=line[:_LINE_LIMIT], advice=advice, image_at_fault=image_at_fault)


def _first_sign(lines: Sequence[str], signs: Iterable[Sign]) -> Diagnosis | None:
    signs = tuple(signs)
    for number, line in enumerate(lines):
        below_error = _BELOW_ERROR.match(line)
        for sign in signs:
            if (sign.as_warning or not below_error) and sign.pattern.search(line):
                shown = _shown(sign, line, lines[:number])
                return _found(sign.cause, shown, sign.advice, image_at_fault=sign.image_at_fault)
    return None


def _shown(sign: Sign, line: str, before: Sequence[str]) -> str:
    """The line that tells most: of a consequence that is the exception before it, whatever it was."""
    if sign.consequence:
        return _last_exception(before) or line
    return line + _where(before) if sign.cause.endswith("-error") else line


def _where(lines: Sequence[str]) -> str:
    """The place in the source that a traceback names last, in parentheses."""
    for line in reversed(lines):
        if match := _WHERE.search(line):
            return f" ({match[1]}:{match[2]})"
    return ""


def _from_exit_code(exit_code: int | None, last: str) -> Diagnosis | None:
    if exit_code == _KILLED:
        return _found("host-memory", last, _MEMORY_ADVICE, image_at_fault=False)
    if exit_code in _CRASHES:
        return _found("engine-died", last, _CRASH_ADVICE)
    if exit_code in _NOT_RUN:
        return _found("entrypoint", last, _ENTRYPOINT_ADVICE)
    return None


def _last_exception(lines: Sequence[str]) -> str | None:
    return next((line for line in reversed(lines) if _EXCEPTION.search(line)), None)


def main(argv: Sequence[str] | None = None) -> int:
    """Diagnose a log file.

    Args:
        argv: Command line arguments; this process's own by default.

    Returns:
        0, or 2 when the file cannot be read.
    """
    parser = argparse.ArgumentParser(prog="python -m smoke.diagnose", description="Say why a server failed.")
    parser.add_argument("log", metavar="LOG", help="file with everything the server printed; - for standard input")
    parser.add_argument("--exit-code", type=int, metavar="N", help="how the server ended")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args(argv)
    try:
        log = sys.stdin.read() if arguments.log == "-" else Path(arguments.log).read_text(errors="replace")
    except OSError as error:
        sys.stderr.write(f"error[usage]: {arguments.log}: {error.strerror}\n")
        return 2
    diagnosis = diagnose(log, exit_code=arguments.exit_code)
    if arguments.json:
        sys.stdout.write(json.dumps(asdict(diagnosis)) + "\n")
    else:
        sys.stdout.write(f"{diagnosis.cause}: {diagnosis.line}\ntry: {diagnosis.advice}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
