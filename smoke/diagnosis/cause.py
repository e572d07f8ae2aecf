"""Why a server failed: from its log and exit code to a cause, the line that shows it, and what to do.

Also a program: ``python -m smoke.diagnose LOG [--exit-code N] [--json]``.
The texts that it knows are in :mod:`smoke.diagnosis.signs`.
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

from smoke.diagnosis.log import Line, LineKind, Weight, read
from smoke.diagnosis.raised import Raised, raised, worst
from smoke.diagnosis.signs import EXPLAINED, SIGNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from smoke.diagnosis.signs import Sign

TERMINATED = "terminated"
"""The cause of a server that was told to end from outside."""

_LINE_LIMIT = 500
# Lines from either end of a log that are looked at: a longer one says the same over and over.
_LOOKED_AT = 20_000


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
_ENDED_ADVICE = "test again: the server was told to end from outside (SIGTERM or SIGINT)"
_REFUSED_ADVICE = "check the engine and the machine that it runs on: it did not start the container"
_DIED_ADVICE = "read the log around the named line: the engine's own process says there why it ended"
_UNKNOWN_ADVICE = "read the server's log"

# No sign asks for a number of that many digits.
_COUNTERS = re.compile(r"\d{4,}")
_WHERE = re.compile(r'File "([^"]+)", line (\d+)')

_KILLED = 128 + signal.SIGKILL
_TOLD_TO_END = (128 + signal.SIGTERM, 128 + signal.SIGINT)
_CRASHES = {128 + number for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE)}
# A shell's words for "found but cannot be run" and "not found".
_NOT_RUN = (126, 127)
# `docker run`'s own failure (docker/cli, cli/command/container/run.go).
_REFUSED = 125
_NO_LINE = Line(number=0, printed="", body_at=0, speaker="", weight=Weight.NOTHING, kind=LineKind.SAID, ending=False)


def diagnose(
    log: str, *, exit_code: int | None = None, timed_out: bool = False, out_of_memory: bool = False
) -> Diagnosis:
    """Find out why a server failed.

    What a process says it failed of wins over what was merely printed, and that over what a logger reported as an
    error. What the server survived is no cause: a warning, an attempt that was repeated, whatever stands before it
    was ready; but a warning may explain what it died of later. What comes after it was told to end follows from that.

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
    story = _Story([line for line in lines if not line.ending])
    ended = next((line for line in lines if line.ending), last if code in _TOLD_TO_END else None)
    return (
        story.cause(ended=ended is not None)
        or (story.consequence(failed=False) if ended and code not in _TOLD_TO_END else None)
        or (_found(TERMINATED, ended, _ENDED_ADVICE, image_at_fault=False) if ended else None)
        or _killed(code, last)
        or story.consequence(failed=timed_out or code not in (None, 0))
        or _crashed(code, last)
        or (_found("timeout", last, _TIMEOUT_ADVICE) if timed_out else None)
        or _found("unknown", story.last_exception() or last, _UNKNOWN_ADVICE)
    )


def _found(cause: str, line: Line, advice: str, *, image_at_fault: bool = True, where: str = "") -> Diagnosis:
    return Diagnosis(
        cause=cause,
        line=line.text[:_LINE_LIMIT] + where,
        advice=advice,
        image_at_fault=image_at_fault,
        line_number=line.number or None,
    )


class _Story:
    """What a log tells up to the moment in which the server was told to end.

    Args:
        lines: The log until then.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._signs = dict(_signs(lines))
        self._exceptions = raised(lines)

    def cause(self, *, ended: bool) -> Diagnosis | None:
        """What the server failed of; None if only what followed from it shows.

        Args:
            ended: Whether it was told to end: what a logger reported until then it had survived.
        """
        survived = ended and not self._first(lambda sign: sign.consequence, least=Weight.LOGGED)
        return (
            self._of(Weight.FATAL)
            or self._of(Weight.FULL)
            or (None if survived else self._of(Weight.LOGGED))
            or self._general(Weight.FULL if survived else Weight.LOGGED)
        )

    def consequence(self, *, failed: bool) -> Diagnosis | None:
        """What a server that failed had been warned of, else the consequence that tells most."""
        told = list(self._all(lambda sign: sign.consequence, least=Weight.LOGGED))
        if (failed or told) and (hint := self._first(lambda sign: sign.as_warning, least=Weight.HINT)):
            return self._shown(hint)
        if not told:
            return None
        index, sign = min(told, key=lambda found: SIGNS.index(found[1]))
        line = self._lines[index]
        if sign.cause == "engine-died" and (exception := worst(self._exceptions)):
            line = self._lines[exception.shown]
        return _found(sign.cause, line, sign.advice, image_at_fault=sign.image_at_fault)

    def last_exception(self) -> Line | None:
        """The exception that it failed of, or the last one if each follows from something else."""
        exception = worst(self._exceptions) or (self._exceptions[-1] if self._exceptions else None)
        return self._lines[exception.shown] if exception else None

    def _of(self, weight: Weight) -> Diagnosis | None:
        """What lines of a weight tell: a known cause, else an exception that follows from nothing."""
        sign = self._first(_is_narrow, least=weight, most=weight)
        exception = worst([each for each in self._exceptions if each.weight is weight and not each.follows])
        if sign and not (exception and self._tells_more(exception, *sign)):
            return self._shown(sign)
        return self._raised(exception) if exception else None

    def _tells_more(self, exception: Raised, index: int, sign: Sign) -> bool:
        """Whether an exception, which no sign names, tells more than a line with a sign."""
        if exception.weight is Weight.FATAL:
            return self._is_before(exception, index)
        return sign.cause in _SAID_IN_PASSING and self._lines[index].kind is LineKind.SAID

    def _is_before(self, exception: Raised, index: int) -> bool:
        """Whether an exception was reported before a line, and the line belongs to another report."""
        speaker = self._lines[index].speaker
        own = [each.chain for each in self._exceptions if each.at <= index and each.speaker == speaker]
        return exception.at < index and (not own or own[-1] != exception.chain)

    def _general(self, least: Weight) -> Diagnosis | None:
        found = self._first(lambda sign: sign.general, least=least)
        if found and _PANICKED.search(self._lines[found[0]].body) and found[0] + 1 < len(self._lines):
            found = found[0] + 1, found[1]
        return self._shown(found) if found else None

    def _raised(self, exception: Raised) -> Diagnosis:
        line = self._lines[exception.shown]
        sign = self._signs.get(exception.shown) or self._signs.get(exception.at)
        if sign and (hint := self._explanation(exception.at, sign)):
            return self._shown(hint)
        if sign and sign.general:
            return _found(sign.cause, line, sign.advice, image_at_fault=sign.image_at_fault)
        died = exception.weight is Weight.FATAL or self._first(lambda sign: sign.consequence, least=Weight.LOGGED)
        return _found("engine-died", line, _DIED_ADVICE) if died else _found("unknown", line, _UNKNOWN_ADVICE)

    def _shown(self, found: tuple[int, Sign]) -> Diagnosis:
        index, sign = found
        if hint := self._explanation(index, sign):
            index, sign = hint
        where = _where(self._lines[:index], self._lines[index].speaker) if sign.cause in _PLACED else ""
        return _found(sign.cause, self._lines[index], sign.advice, image_at_fault=sign.image_at_fault, where=where)

    def _explanation(self, index: int, sign: Sign) -> tuple[int, Sign] | None:
        """What was said before a line and explains it: a warning of binaries, or what NCCL said of the machine."""
        if sign.cause in EXPLAINED:
            names = _MODULE.findall(self._lines[index].body) if sign.cause == "import-error" else ()
            warned = self._all(lambda other: other.as_warning, least=Weight.OVERCOME)
            return next((each for each in warned if each[0] < index and self._is_about(each[0], names)), None)
        if sign.cause in ("nccl", "nixl", "nvshmem"):
            return self._first(lambda other: _is_narrow(other) and not other.image_at_fault, least=Weight.LOGGED)
        return None

    def _is_about(self, index: int, names: Sequence[str]) -> bool:
        return not names or any(name in self._lines[index].body for name in names)

    def _first(
        self,
        is_wanted: Callable[[Sign], bool],
        *,
        least: Weight,
        most: Weight = Weight.FATAL,
    ) -> tuple[int, Sign] | None:
        return next(self._all(is_wanted, least=least, most=most), None)

    def _all(
        self, is_wanted: Callable[[Sign], bool], *, least: Weight, most: Weight = Weight.FATAL
    ) -> Iterator[tuple[int, Sign]]:
        for index, sign in self._signs.items():
            if least <= self._lines[index].weight <= most and is_wanted(sign):
                yield index, sign


# Rust (1.73 and newer, std/src/panicking.rs) says of what in the line below.
_PANICKED = re.compile(r"\bpanicked at \S{1,300}:$")
# What a shell in the entry point says and goes on.
_SAID_IN_PASSING = ("entrypoint", "permission")
_MODULE = re.compile(r"No module named '([\w.]+)'")
# Python says of code that it is wrong: what it names there is no fault of the machine.
_CODE = re.compile(
    r"(?:NameError|UnboundLocalError|AttributeError|TypeError|IndexError|ModuleNotFoundError): "
    r"|ImportError: cannot import name"
)
_SIGNS_OF_CODE = tuple(sign for sign in SIGNS if sign.image_at_fault)
_PLACED = ("syntax-error", "import-error")


def _is_narrow(sign: Sign) -> bool:
    return not sign.general and not sign.consequence


def _signs(lines: Sequence[Line]) -> Iterator[tuple[int, Sign]]:
    """The first sign of each line that has one."""
    candidates = [index for index, line in enumerate(lines) if line.weight > Weight.NOTHING]
    seen: dict[str, Sign | None] = {}
    for index in [*candidates[:_LOOKED_AT], *candidates[_LOOKED_AT:][-_LOOKED_AT:]]:
        text = lines[index].body.strip()
        # Lines that differ in a counter or a time alone tell the same.
        same = _COUNTERS.sub("0", text)
        if same not in seen:
            signs = _SIGNS_OF_CODE if _CODE.match(text) else SIGNS
            seen[same] = next((sign for sign in signs if sign.pattern.search(text)), None)
        if sign := seen[same]:
            yield index, sign


def _where(lines: Sequence[Line], speaker: str) -> str:
    """The place in the source that a process's traceback names last, in parentheses."""
    for line in reversed(lines):
        if line.speaker == speaker and (match := _WHERE.search(line.text)):
            return f" ({match[1]}:{match[2]})"[:_LINE_LIMIT]
    return ""


def _killed(code: int | None, last: Line) -> Diagnosis | None:
    return _found("host-memory", last, _MEMORY_ADVICE, image_at_fault=False) if code == _KILLED else None


def _crashed(code: int | None, last: Line) -> Diagnosis | None:
    if code == _REFUSED:
        return _found("engine-refused", last, _REFUSED_ADVICE, image_at_fault=False)
    if code in _CRASHES:
        return _found("engine-died", last, _CRASH_ADVICE)
    return _found("entrypoint", last, _ENTRYPOINT_ADVICE) if code in _NOT_RUN else None


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
