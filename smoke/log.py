"""A server's log, line by line, and how much each line counts for."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# ECMA-48, section 5.4: CSI sequences (colours), then those of a terminal's title (OSC), then two-character ones.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# What is behind that much of a line only costs time: the engine's configuration is 4,000 characters long.
_LOOKED_AT = 10_000

# vLLM puts a process's name before each of its lines (vllm/logging_utils/formatter.py, 0.32.0), and each of
# uvicorn, Python's logging, libraries with a time stamp first, and glog writes the level in its own way.
_PROCESS = r"(?:\([^()]* pid=\d+\) )*"
_OF_PROCESS = re.compile(_PROCESS)
_STAMP = r"(?:\[?\d{4}-\d\d-\d\d[ T][\d:.,]+\]?(?: - \S+)?[ -]+)?"
_LEVEL = re.compile(rf"{_PROCESS}{_STAMP}(?:(?P<quiet>DEBUG|INFO)|(?P<warning>WARNING))(?=[ :])")
_GLOG = re.compile(rf"{_PROCESS}\[?[IW]\d{{4}} ?[\d:. ]+ ")
# Python's warnings.warn(), and matplotlib, whose warnings show without a level where nobody set up its logger.
_WARN = re.compile(rf"{_PROCESS}(?:\S+:\d+: \w*Warning: |mkdir -p failed for path )")

# A destructor's exception is printed and dropped; most come while Python shuts down, of whatever reason.
_DROPPED = re.compile(rf"{_PROCESS}(?:Exception ignored in|Error in sys\.excepthook|Exception in thread .*_monitor)")
_DROPPED_LINES = 60
_EXCEPTION_LINE = re.compile(rf"{_PROCESS}[\w.]+(?:Error|Exception|Interrupt|Exit|Warning)\b(?:: |$)")

# vLLM reports a failed attempt as an error and goes on (vllm/transformers_utils/repo_utils.py, with_retry, 0.32.0).
_RETRIED = re.compile(r", retrying \d+ of \d+$|[Rr]etrying (?:with|in) ")
# Python's last words, of whatever reason it ends.
_LAST_WORDS = re.compile(r"ImportError: sys\.meta_path is None")

# uvicorn/lifespan/on.py: said once the engine is ready, so what was printed before did not keep it from that.
_READY = re.compile(r"Application startup complete\.")
# vllm/entrypoints/launchers/launcher.py, 0.32.0, and uvicorn/server.py: it ends because it was told to.
_ENDING = re.compile(r"\[shutdown\] API server: shutdown triggered|INFO:     Shutting down$")


class Weight(enum.IntEnum):
    """How much a line tells about why a server failed."""

    NOTHING = 0
    """Information, or an exception that was dropped or tried again."""
    OVERCOME = 1
    """The server was ready after this. It may still explain what it lacked later."""
    HINT = 2
    """It went on after this, which may explain what came later."""
    FULL = 3
    """It may be what it failed of."""


class Line(NamedTuple):
    """A line of a log.

    Attributes:
        number: Its number in the log, from 1.
        text: What it says, without colours and other control characters.
        weight: How much it tells.
        ending: Whether the server was ending as it had been told to.
    """

    number: int
    text: str
    weight: Weight
    ending: bool

    @property
    def process(self) -> str:
        """Name and number of the process that printed it, as vLLM puts them before it; empty if it did not."""
        match = _OF_PROCESS.match(self.text)
        return match[0] if match else ""


def split(log: str) -> list[str]:
    """The lines of a log as an editor numbers them: neither a form feed nor a carriage return ends one."""
    lines = log.split("\n")
    return lines if lines[-1] else lines[:-1]


def plain(text: str) -> str:
    """A text without colours and control characters, and so without power over a terminal."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def read(log: str) -> list[Line]:
    """Read a log.

    Args:
        log: Everything that a server printed.

    Returns:
        Its lines that are not empty. Of a line that a progress bar wrote over again and again, each state.
    """
    lines = list(_weighed(log))
    ready = next((index for index, line in enumerate(lines) if _READY.search(line.text)), 0)
    for index in range(ready):
        lines[index] = lines[index]._replace(weight=min(lines[index].weight, Weight.OVERCOME))
    return lines


def _weighed(log: str) -> Iterator[Line]:
    dropped, ending = 0, False
    for number, text in _texts(log):
        ending = ending or bool(_ENDING.search(text))
        dropped = _DROPPED_LINES if _DROPPED.match(text) else dropped
        yield Line(number=number, text=text, weight=Weight.NOTHING if dropped else _weight(text), ending=ending)
        dropped = 0 if _EXCEPTION_LINE.match(text) else max(0, dropped - 1)


def _texts(log: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(split(log), start=1):
        for state in line.split("\r"):
            if text := plain(state[:_LOOKED_AT]).strip():
                yield number, text


def _weight(text: str) -> Weight:
    level = _LEVEL.match(text)
    if (level and level["quiet"]) or _RETRIED.search(text) or _LAST_WORDS.search(text):
        return Weight.NOTHING
    return Weight.HINT if level or _GLOG.match(text) or _WARN.match(text) else Weight.FULL
