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

from smoke.log import Line, Weight, read
from smoke.signs import EXPLAINED, SIGNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoke.signs import Sign

_LINE_LIMIT = 500
# Lines from either end of a log that are looked at: a longer one says the same over and over.
_LOOKED_AT = 20_000

_CAUSES = tuple(sign for sign in SIGNS if not sign.consequence)
_CONSEQUENCES = tuple(sign for sign in SIGNS if sign.consequence)
_WARNED = tuple(sign for sign in SIGNS if sign.as_warning)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a server failed.

    Attributes:
        cause: One word, such as ``undefined-symbol``.
        line: The line of the log that shows it; empty if the log holds nothing.
        advice: What to do, one sentence.
        image_at_fault: False when the machine or the network is to blame, so that the image is neither passed
            nor failed.
        line_number: Its number in the log, from 1; None if the log holds nothing, or nothing was logged.
    """

    cause: str
    line: str
    advice: str
    image_at_fault: bool
    line_number: int | None = None


_TIMEOUT_ADVICE = "read what the server did last; give it more time with --start-timeout if it was only slow"
_MEMORY_ADVICE = (
    "free memory on the engine's machine, or give the container more: it was killed, most likely for memory"
)
_CRASH_ADVICE = "the process crashed in native code: check that the binaries fit this processor and each other"
_ENTRYPOINT_ADVICE = "check the image's entry point and that `vllm` is on its PATH"
_UNKNOWN_ADVICE = "read the server's log"

_EXCEPTION = re.compile(r"(?:^|\s)[\w.]*(?:Error|Exception|Interrupt)(?:: |$)")
_WHERE = re.compile(r'File "([^"]+)", line (\d+)')

_KILLED = 128 + signal.SIGKILL
_CRASHES = {128 + number for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE)}
# A shell's words for "found but cannot be run" and "not found".
_NOT_RUN = (126, 127)
_NO_LINE = Line(number=0, text="", weight=Weight.NOTHING, ending=False)


def diagnose(
    log: str, *, exit_code: int | None = None, timed_out: bool = False, out_of_memory: bool = False
) -> Diagnosis:
    """Find out why a server failed.

    The cause that shows first in the log wins over what follows from it. What it survived is no cause: a
    warning, an attempt that was repeated, whatever stands before it was ready; but a warning may explain what
    it died of later.

    Args:
        log: Everything it printed, or what the engine said when it refused to start it.
        exit_code: How it ended, as a shell has it (128 and the signal's number) or as Python (the number
            below 0); None if it still runs or that is not known.
        timed_out: Whether it was given up while it ran.
        out_of_memory: Whether the engine says that the kernel killed it for memory.
    """
    lines = read(log)
    last = lines[-1] if lines else _NO_LINE
    if out_of_memory:
        return _found("host-memory", last, _MEMORY_ADVICE, image_at_fault=False)
    code = 128 - exit_code if exit_code is not None and exit_code < 0 else exit_code
    return (
        _fatal(lines)
        or _killed(code, last)
        or _consequence(lines, failed=timed_out or code not in (None, 0))
        or _crashed(code, last)
        or (_found("timeout", last, _TIMEOUT_ADVICE) if timed_out else None)
        or _found("unknown", _last_exception(lines) or last, _UNKNOWN_ADVICE)
    )


def _found(cause: str, line: Line, advice: str, *, image_at_fault: bool = True, where: str = "") -> Diagnosis:
    return Diagnosis(
        cause=cause,
        line=line.text[:_LINE_LIMIT] + where,
        advice=advice,
        image_at_fault=image_at_fault,
        line_number=line.number or None,
    )


def _fatal(lines: Sequence[Line]) -> Diagnosis | None:
    """The first cause, or the warning before it that explains it."""
    found = _first(lines, _CAUSES, Weight.FULL)
    if found is None:
        return None
    index, sign = found
    if sign.cause in EXPLAINED and (hint := _first(lines[:index], _WARNED, Weight.OVERCOME)):
        return _shown(lines, *hint)
    return _shown(lines, index, sign)


def _consequence(lines: Sequence[Line], *, failed: bool) -> Diagnosis | None:
    """What a server that failed had been warned of, else the consequence that shows."""
    # Told to end, vLLM's own processes take each other's end for a death.
    found = _first([line for line in lines if not line.ending], _CONSEQUENCES, Weight.FULL)
    if (failed or found) and (hint := _first(lines, _WARNED, Weight.HINT)):
        return _shown(lines, *hint)
    return _shown(lines, *found) if found else None


def _first(lines: Sequence[Line], signs: Sequence[Sign], least: Weight) -> tuple[int, Sign] | None:
    candidates = [index for index, line in enumerate(lines) if line.weight >= least]
    seen: set[str] = set()
    for index in [*candidates[:_LOOKED_AT], *candidates[_LOOKED_AT:][-_LOOKED_AT:]]:
        text = lines[index].text
        for sign in signs if text not in seen else ():
            if sign.pattern.search(text):
                return index, sign
        seen.add(text)
    return None


def _shown(lines: Sequence[Line], index: int, sign: Sign) -> Diagnosis:
    """With the line that tells most: of a consequence that is the exception before it, whatever it was."""
    line, where = lines[index], ""
    if sign.consequence:
        line = _last_exception(lines[:index]) or line
    elif sign.cause in ("syntax-error", "import-error"):
        where = _where([other for other in lines[:index] if other.process == line.process])
    return _found(sign.cause, line, sign.advice, image_at_fault=sign.image_at_fault, where=where)


def _where(lines: Sequence[Line]) -> str:
    """The place in the source that a traceback names last, in parentheses."""
    for line in reversed(lines):
        if match := _WHERE.search(line.text):
            return f" ({match[1]}:{match[2]})"[:_LINE_LIMIT]
    return ""


def _killed(code: int | None, last: Line) -> Diagnosis | None:
    return _found("host-memory", last, _MEMORY_ADVICE, image_at_fault=False) if code == _KILLED else None


def _crashed(code: int | None, last: Line) -> Diagnosis | None:
    if code in _CRASHES:
        return _found("engine-died", last, _CRASH_ADVICE)
    return _found("entrypoint", last, _ENTRYPOINT_ADVICE) if code in _NOT_RUN else None


def _last_exception(lines: Sequence[Line]) -> Line | None:
    told = (line for line in reversed(lines) if line.weight >= Weight.HINT and not line.ending)
    return next((line for line in told if _EXCEPTION.search(line.text)), None)


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
        # As bytes: decoding as text would turn carriage returns into line ends, and stop at hostile bytes.
        raw = sys.stdin.buffer.read() if arguments.log == "-" else Path(arguments.log).read_bytes()
    except OSError as error:
        sys.stderr.write(
            f"error[usage]: {arguments.log}: {error.strerror}\ntry: name a file, or - for standard input\n"
        )
        return 2
    diagnosis = diagnose(raw.decode(errors="replace"), exit_code=arguments.exit_code)
    if arguments.json:
        sys.stdout.write(json.dumps(asdict(diagnosis)) + "\n")
    else:
        sys.stdout.write(f"{diagnosis.cause}: {diagnosis.line}\ntry: {diagnosis.advice}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
