"""What other programs put before each line of a log: compose, kubectl, the container runtime, journald, launchers.

It is found by what most lines share, so a line that merely looks like it keeps its text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DATE = r"\d{4}[-/]\d\d[-/]\d\d"
_TIME = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_ZONE = r"(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"

# Each takes one space at most after it: what follows is the indentation of the line itself.
_KNOWN = tuple(
    re.compile(pattern)
    for pattern in (
        # containerd and CRI-O (kubernetes/pkg/kubelet/kuberuntime/logs: time, stream, partial or full).
        rf"{_DATE}T{_TIME}{_ZONE} std(?:out|err) [FP](?: |$)",
        # `docker logs --timestamps`, `kubectl logs --timestamps`, and loggers around the server.
        rf"\[?{_DATE}[T ]{_TIME}{_ZONE}\]?(?: \||:)?(?:[ \t]|$)(?:- )?",
        rf"\[?{_TIME}\]?[ \t]",
        # journald and syslog (RFC 3164), then journald with ISO dates once those are taken off.
        rf"[A-Z][a-z]{{2}} [ \d]\d {_TIME} (?P<source>\S{{1,80}} [^\s:\[]{{1,80}})(?:\[\d+\])?:(?: |$)",
        r"(?P<source>\S{1,80} [\w.@/-]{1,80})\[\d+\]:(?: |$)",
        # syslog (RFC 5424).
        (
            rf"<\d{{1,3}}>\d? ?{_DATE}T{_TIME}{_ZONE} (?P<source>\S{{1,80}} \S{{1,80}}) \S{{1,80}} \S{{1,80}} "
            r"(?:-|\[.{0,200}?\])(?: |$)"
        ),
        # docker compose, docker service logs.
        r"(?P<source>\w[\w.@-]{0,120}) *\|(?: |$)",
        # `kubectl logs --prefix`, kubetail, and launchers that name the rank.
        r"\[(?P<source>pod/[^\]\s]{1,200})\](?: |$)",
        r"(?P<source>\[\d+,\d+\])<std(?:out|err)>:(?: |$)?",
        r"\[(?P<source>[A-Za-z_][\w./:-]{0,80})\](?::[ ]?| |$)",
        # stern.
        r"(?P<source>[\w.-]{1,80} [\u203a>] [\w.-]{1,80}) [|\u2502](?: |$)",
        # `srun --label`.
        r" {0,4}(?P<source>\d{1,4}): ?",
        r"\[ {0,12}\d{1,12}\.\d{1,9}\] ",
        r"> ",
        # The left side of a frame that a terminal program draws around a log.
        r"[\u2502\u2503] ",
        # A program that repeats a server's lines under a level of its own.
        r"(?:DEBUG|INFO|WARNING|ERROR) - \[[\w-]{1,80}\] (?=\(|(?:DEBUG|INFO|WARNING|ERROR)\b)",
    )
)
# What a pod or a container is called: not a level, and no word of a sentence.
_NAMES = re.compile(r"(?=\D{0,80}\d)[\w./-]{2,80}(?: [\w./-]{2,80})?")

_ROUNDS = 4
_FEW = 5
_NEARLY_ALL = 0.9


class Printed(NamedTuple):
    """A line without what others put before it.

    Attributes:
        source: Which container, pod or rank printed it; empty if nothing says so.
        text: The line.
    """

    source: str
    text: str


class Prefix:
    """What most lines of a log share.

    Args:
        lines: Enough of them to tell.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self._patterns: list[re.Pattern[str]] = []
        sample = [line for line in lines if line.strip()]
        for _ in range(_ROUNDS):
            if (found := _shared(sample) or (None if self._patterns else _shared_words(sample))) is None:
                break
            self._patterns.append(found)
            sample = [rest for line in sample if (rest := _without(found, line).text).strip()]

    def off(self, line: str) -> Printed:
        """Take it off a line that has it."""
        sources = []
        for pattern in self._patterns:
            source, line = _without(pattern, line)
            sources.append(source)
        return Printed(" ".join(filter(None, sources)), line)


def _shared(sample: Sequence[str]) -> re.Pattern[str] | None:
    for pattern in _KNOWN:
        if sample and 2 * sum(1 for line in sample if pattern.match(line)) > len(sample):
            return pattern
    return None


def _shared_words(sample: Sequence[str]) -> re.Pattern[str] | None:
    """The names that start nearly every line, as stern prints pods and containers."""
    for count in (2, 1) if len(sample) >= _FEW else ():
        starts = Counter(" ".join(line.split(" ", count)[:count]) for line in sample)
        names = [words for words, often in starts.most_common(_FEW) if often > 1 and _NAMES.fullmatch(words)]
        if sum(starts[words] for words in names) >= _NEARLY_ALL * len(sample):
            return re.compile(f"(?P<source>{'|'.join(map(re.escape, names))})(?: |$)")
    return None


def _without(pattern: re.Pattern[str], line: str) -> Printed:
    match = pattern.match(line)
    if match is None:
        return Printed("", line)
    return Printed(match.groupdict().get("source") or "", line[match.end() :])


def unfolded(line: str) -> Iterable[str]:
    """The lines in a JSON document of one line.

    Docker's json-file driver keeps a line under ``log``; vLLM's JSON logger has ``levelname``, ``message`` and
    ``exc_info`` (vllm/logging_utils/formatter.py, 0.33.0).

    Args:
        line: A line of the log.

    Returns:
        The lines, in the form in which vLLM prints them otherwise; the line itself if it is not such a document.
    """
    if not line.startswith('{"'):
        return (line,)
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return (line,)
    if isinstance(logged := document.get("log"), str):
        return logged.rstrip("\n").split("\n")
    return _told(document) or (line,)


def _told(document: dict[str, object]) -> Iterable[str]:
    message, level = document.get("message"), document.get("levelname")
    if not isinstance(message, str) or not isinstance(level, str):
        return ()
    process = f"({document.get('processName')} pid={document.get('process')}) " if document.get("process") else ""
    head = f"{process}{level} 01-01 00:00:00 [{document.get('name')}:0] "
    trace = document.get("exc_info")
    return [head + each for each in [*message.split("\n"), *(trace.split("\n") if isinstance(trace, str) else ())]]
