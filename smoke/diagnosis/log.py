"""A server's log, line by line, and how much each line counts for."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from smoke.diagnosis.prefix import Prefix, unfolded

if TYPE_CHECKING:
    from collections.abc import Iterator

# ECMA-48, section 5.4: CSI sequences (colours), then those of a terminal's title (OSC), then two-character ones.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
# What is left of a colour where a tool dropped the escape character or wrote it out.
_COLOUR = re.compile(r"\[\d{1,3}(?:;\d{1,3}){0,4}m")
_COLOURS = re.compile(rf"(?:\^\[|\\x1b|\\u001b|\\033|\\e|\u241b)?{_COLOUR.pattern}")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# What is behind that much of a line only costs time: the engine's configuration is 4,000 characters long.
_LOOKED_AT = 4_000
# A document of one line holds a whole traceback.
_UNFOLDED_AT = 200_000
# Lines from either end of a log that show what most of its lines share.
_SAMPLE = 500
# States of one line from either end that are looked at: a progress bar says the same over and over.
_STATES = 100

# vLLM puts a process's name before each of its lines (vllm/logging_utils/formatter.py, 0.32.0; rust/src/tracing,
# 0.33.0); Ray and torchrun do likewise.
_PROCESS = re.compile(
    r"(?:\([^()]{0,60}\bpid=\d{1,10}(?:, [^()]{0,60})?\) ?|\[(?:rank|default)\d{1,5}\]:? ?){1,4}|(?=)"
)
# vLLM's logger: level, time, place (in brackets since 0.7).
_RECORD = re.compile(
    r"(?P<level>TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d(?::\d\d)?(?:\.\d+)? "
    r"(?P<place>\[[^\]]{1,120}\]|[\w./]{1,80}:\d{1,6}\])(?: |$)"
)
_STAMP = (
    r"(?:\[?\d{4}[-/]\d\d[-/]\d\d[ T][\d:.,]{8,18}(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?\]?:?"
    r"[ \t]+(?:- )?(?:\S{1,80} - ){0,3})?"
)
_QUIET = "TRACE|DEBUG|INFO|DIAG|NOTICE|VERSION"
# Each of uvicorn, Python's logging, libraries with a time stamp first, glog and klog, NCCL and its kin, zap and
# logrus writes the level in its own way.
_LEVEL = re.compile(
    rf" {{0,4}}(?:- )?{_STAMP}\[?(?:(?P<quiet>{_QUIET}|debug|info)|(?P<warning>WARN(?:ING)?|warn(?:ing)?)"
    r"|(?P<error>ERROR|CRITICAL|FATAL|error))\]?(?=[ :\t])"
    rf"|.{{0,160}}?\b(?:NCCL|NVSHMEM|UCX) +(?:(?P<quiet2>{_QUIET})|(?P<error2>WARN|ERROR|FATAL))\b"
    r"|(?:\S+: )?\[?(?:I(?P<quiet3>)|W(?P<warning3>)|E(?P<error3>)|F(?P<error5>))\d{4} ?[\d:. ]+ "
    rf"|{_STAMP}(?:I(?P<quiet5>)|W(?P<warning5>)|E(?P<error6>)) [\w/.]+[:\]]"
    rf"|{_STAMP}[A-Z]\w{{1,30}} (?:(?P<quiet7>{_QUIET})|(?P<warning7>WARNING)|(?P<error8>ERROR)): "
    r'|\{"(?:.{0,200}?")?level":"(?:(?P<quiet4>debug|info)|(?P<warning4>warn)|(?P<error4>error))'
    r"|(?:time=\S+ )?level=(?:(?P<quiet6>debug|info)|(?P<warning6>warn)|(?P<error7>error|fatal))",
)
# Python's warnings.warn(), programs that say so, and matplotlib, whose warnings show without a level.
_WARN = re.compile(r"\S+:\d+: \w*Warning: |(?:\S{1,80}: ){0,2}[Ww](?:arning|ARNING): |mkdir -p failed for path ")

# Printed and dropped: a destructor's exception, one of a thread besides, one of a task that was not waited for.
_DROPPED = re.compile(
    r"Exception ignored |Error in sys\.excepthook|Exception in thread |Unhandled exception in thread"
    r"|Exception in callback |(?:Task|Future) exception was never retrieved|--- Logging error ---"
    r"|Exception in ASGI application"
)
_DROPPED_LINES = 200
# The level and the name of a logger stand before it.
_HEAD = 160

_TRACEBACK = "Traceback (most recent call last):"
_PLACE = re.compile(r' {2,}File "[^"]{1,1000}", line \d')
_NAME = re.compile(r"(?P<name>[A-Za-z_][\w.]*)(?::(?= |$)|$)")
_NAMED_SO = re.compile(r"(?:Error|Exception|Interrupt|Exit|Warning|Timeout)$")
_CHAINED = re.compile(r"The above exception was the direct cause of|During handling of the above exception")
# The frame around the members of an exception group.
_GROUP = re.compile(r"(?: {2}){1,8}(?:\| |\+ (?=Exception Group))")

# vLLM reports a failed attempt as an error and goes on (vllm/transformers_utils/repo_utils.py, with_retry, 0.32.0);
# ld.so goes on without a library to preload; Ray guesses what may have killed a worker.
_OVERCOME = re.compile(
    r", retrying \d+ of \d+$|[Rr]etrying (?:with|in) |LD_PRELOAD cannot be preloaded"
    r"|There are some potential root causes"
)
# Python's last words, of whatever reason it ends.
_LAST_WORDS = re.compile(r"ImportError: sys\.meta_path is None")
# vllm/v1/engine/core.py, vllm/v1/executor/multiproc_executor.py, 0.33.0: what a process dies of is told below.
_FATAL = re.compile(
    r"EngineCore(?: failed to start| encountered a fatal error| hit an exception)"
    r"|WorkerProc(?: failed to start| hit an exception)|Exception occurred while running API servers"
)

# uvicorn/lifespan/on.py: said once the engine is ready, so what was printed before did not keep it from that.
_READY = "Application startup complete."
# It ends because it was told to, unless something says before that it failed: vllm/v1/engine/core.py,
# vllm/entrypoints/launchers, rust/src/cmd, 0.33.0; uvicorn/server.py; torch.distributed.elastic.
_ENDING = re.compile(
    r"\[shutdown\] \S+(?: server)?: (?:shutdown triggered|trigger received signal)"
    r"|received shutdown signal|KeyboardInterrupt: terminated|KeyboardInterrupt$"
    r"|[Rr]eceived (?:signal )?(?:SIGTERM|SIGINT|15\b|signal 15\b|2 death|15 death)|SIGTERM received"
    r"|got signal: (?:15|2)\b|[Cc]aught signal 15\b|^Terminated$|Received KeyboardInterrupt"
    r"|died(?: unexpectedly)? ?\(?(?:,|with)? ?exit ?code:? -(?:15|2)\b"
    r"|Failed core proc\(s\): \{[^}]{0,200}: -(?:15|2)\b"
    r"|INFO:     Shutting down$|Shutting down FastAPI HTTP server|Application shutdown complete\."
)
_ENDING_WORDS = (
    "shutdown",
    "nterrupt",
    "SIG",
    "ignal",
    "death",
    "Terminated",
    "xit code",
    "exit code",
    "core proc",
    "Shutting",
)


class Weight(enum.IntEnum):
    """How much a line tells about why a server failed."""

    NOTHING = 0
    """Information, source code, or an exception that was dropped or tried again."""
    OVERCOME = 1
    """The server was ready after this. It may still explain what it lacked later."""
    HINT = 2
    """It went on after this, which may explain what came later."""
    LOGGED = 3
    """A logger reported it as an error; the server may have gone on after it."""
    FULL = 4
    """It may be what it failed of."""
    FATAL = 5
    """A process says that it failed of this."""


class LineKind(enum.Enum):
    """What a line is to Python."""

    SAID = enum.auto()
    """Anything else."""
    FRAME = enum.auto()
    """Part of a traceback: a place or its source."""
    RAISED = enum.auto()
    """An exception, with the first line of what it says."""
    CHAINED = enum.auto()
    """The next exception followed from the one before."""


class Line(NamedTuple):
    """A line of a log.

    Attributes:
        number: Its number in the log, from 1.
        printed: What it says, without colours, other control characters and what other programs put before it.
        body_at: Where in that process, level and time end.
        speaker: Who printed it: the container or rank, and the process as vLLM names it.
        weight: How much it tells.
        kind: What it is to Python.
        ending: Whether the server had been told to end.
    """

    number: int
    printed: str
    body_at: int
    speaker: str
    weight: Weight
    kind: LineKind
    ending: bool

    @property
    def text(self) -> str:
        """What it says, to be shown."""
        return self.printed.strip()

    @property
    def body(self) -> str:
        """What it says without process, level and time, indented as it was printed."""
        return self.printed[self.body_at :]


@dataclass(kw_only=True)
class _Speaker:
    """What is known about who prints, while the log is read."""

    dropped: int = 0
    was_dropped: bool = False
    in_traceback: bool = False
    fatal_at: str = ""

    def kind(self, body: str) -> LineKind:
        """What a line of it is; tracebacks are followed from line to line."""
        if body.endswith(_TRACEBACK) or _PLACE.match(body):
            self.in_traceback = True
            return LineKind.FRAME
        if self.in_traceback and body[:1] in (" ", "\t"):
            return LineKind.FRAME
        if _CHAINED.match(body):
            return LineKind.CHAINED
        match = _NAME.match(body)
        if match and (self.in_traceback or _NAMED_SO.search(match["name"])):
            self.in_traceback = False
            return LineKind.RAISED
        return LineKind.SAID

    def is_dropped(self, body: str, kind: LineKind) -> bool:
        """Whether a line belongs to an exception that was printed and dropped."""
        if _DROPPED.search(body, 0, _HEAD) or (kind is LineKind.CHAINED and self.was_dropped):
            self.dropped = _DROPPED_LINES
        dropped = self.dropped > 0
        if kind is LineKind.RAISED:
            self.dropped, self.was_dropped = 0, dropped
        else:
            self.dropped = max(0, self.dropped - 1)
        return dropped

    def is_fatal(self, body: str, place: str) -> bool:
        """Whether a line of the logger belongs to a report of what the process dies of."""
        if _FATAL.match(body):
            self.fatal_at = place
        elif place != self.fatal_at:
            self.fatal_at = ""
        return bool(self.fatal_at)


def split(log: str) -> list[str]:
    """The lines of a log as an editor numbers them: neither a form feed nor a carriage return ends one."""
    lines = log.split("\n")
    return lines if lines[-1] else lines[:-1]


def plain(text: str) -> str:
    """A text without colours and control characters, and so without power over a terminal."""
    if not text.isprintable():
        text = _CONTROLS.sub("", _ESCAPES.sub("", text))
    return _COLOURS.sub("", text) if _COLOUR.search(text) else text


def read(log: str) -> list[Line]:
    """Read a log.

    Args:
        log: Everything that a server printed.

    Returns:
        Its lines that are not empty. Of a line that a progress bar wrote over again and again, each state.
    """
    lines = list(_weighed(log))
    ready: dict[str, int] = {}
    for line in lines:
        if _READY in line.printed:
            ready.setdefault(_source(line), line.number)
    return [_overcome(line) if line.number < ready.get(_source(line), 0) else line for line in lines]


def _source(line: Line) -> str:
    return line.speaker.partition("\0")[0]


def _overcome(line: Line) -> Line:
    return line._replace(weight=min(line.weight, Weight.OVERCOME))


def _weighed(log: str) -> Iterator[Line]:
    speakers: dict[str, _Speaker] = {}
    ending: set[str] = set()
    for number, source, text in _texts(log):
        process, record, body_at = _parts(text)
        who = f"{source}\0{process.strip()}"
        if _ends(text):
            ending.add(source)
        weight, kind = _judged(speakers.setdefault(who, _Speaker()), text[len(process) :], record, text[body_at:])
        yield Line(number, text, body_at, who, weight, kind, source in ending)


def _parts(text: str) -> tuple[str, re.Match[str] | None, int]:
    """The process that a line names, what the logger wrote before it, and where the rest of it starts."""
    named = _PROCESS.match(text)
    process = named[0] if named else ""
    record = _RECORD.match(text, len(process))
    body_at = record.end() if record else len(process)
    group = _GROUP.match(text, body_at)
    return process, record, group.end() if group else body_at


def _ends(text: str) -> bool:
    # The words first: a search for one is a hundred times faster than for all that the pattern knows.
    return any(word in text for word in _ENDING_WORDS) and bool(_ENDING.search(text))


def _judged(speaker: _Speaker, rest: str, record: re.Match[str] | None, body: str) -> tuple[Weight, LineKind]:
    said = _level(rest, record)
    if said is Weight.NOTHING:
        return said, LineKind.SAID
    kind = speaker.kind(body)
    fatal = record is not None and speaker.is_fatal(body, record["place"])
    if speaker.is_dropped(body, kind) or kind is LineKind.FRAME or _OVERCOME.search(rest) or _LAST_WORDS.search(rest):
        return Weight.NOTHING, kind
    return (Weight.FATAL if fatal else said), kind


def _level(rest: str, record: re.Match[str] | None) -> Weight:
    """What the level says that is written before a line, if one is."""
    match = record or _LEVEL.match(rest)
    if match is None:
        return Weight.HINT if _WARN.match(rest) else Weight.FULL
    word = match["level"] if record else _word(match)
    if word in ("TRACE", "DEBUG", "INFO"):
        return Weight.NOTHING
    return Weight.HINT if word == "WARNING" else Weight.LOGGED


def _word(match: re.Match[str]) -> str:
    name = (match.lastgroup or "").rstrip("0123456789")
    return {"quiet": "INFO", "warning": "WARNING"}.get(name, "ERROR")


def _texts(log: str) -> Iterator[tuple[int, str, str]]:
    lines = split(log)
    sample = [*lines[:_SAMPLE], *lines[_SAMPLE:][-_SAMPLE:]]
    prefix = Prefix([state for line in sample for state in _states(line)])
    for number, line in enumerate(lines, start=1):
        for state in _states(line):
            source, text = prefix.off(state)
            if text := text.rstrip():
                yield number, source, text


def _states(line: str) -> Iterator[str]:
    """What a line showed: a progress bar writes over its own, and a document holds several."""
    whole = line.startswith('{"') and len(line) <= _UNFOLDED_AT
    for told in unfolded(line) if whole else (line,):
        states = told.split("\r")
        for state in [*states[:_STATES], *states[_STATES:][-_STATES:]]:
            yield plain(state[:_LOOKED_AT])
