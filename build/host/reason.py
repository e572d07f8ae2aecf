"""The reason of a program's failure, found in the output of uv, pip, apt and others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from build.host.secrets import redacted

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST = 600
_LOOKED_AT = 120
"""Lines to look at, from the end: the failure comes last."""

# uv 0.4 to 0.13, and pip 23 to 25, which draws the same frame around what a build printed.
_HEAD = re.compile(r"\s*(?:error: |\u00d7 )(?P<said>\S.*)")
_CAUSE = re.compile(r"\s*(?:cause: |Caused by: |[╰├]─[▶>] )(?P<said>\S.*)")
_FRAME = re.compile(r"\s*│?\s*")
_OUTPUT = re.compile(r"\s*│?\s*(?:\[(?:stderr|stdout)\]|[╰├]─> \[\d+ lines of output\])")
_WRAPPER = "subprocess-exited-with-error"

# The first match in a tail is the reason; the lines after it are consequences.
_FIRST = tuple(
    re.compile(pattern)
    for pattern in (
        r"\s*ERROR: (?!failed to solve|process )\S",  # pip
        r"E: \S",  # apt
        r"(?:Error: \S|No match for argument: |Unable to find a match: )",  # dnf
        r"(?:fatal|error): \S|curl: \(\d+\)|CMake Error\b",  # git, curl, CMake
        r".+?: (?:fatal )?error:? \S|.+: undefined reference to|\S+: line \d+: .+|\S*sh: \d+: .+",  # compilers, shells
    )
)
_EXCEPTION = re.compile(r"\s*(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit)\b(?::.*)?")


def of(lines: Sequence[str]) -> str | None:
    """Return a program's own reason for its failure, on one line of limited length and without credentials.

    Args:
        lines: Last lines of its output.

    Returns:
        The reason, or None without a line of a known form. A last line alone may be anything.
    """
    said = _said([line.rstrip() for line in lines][-_LOOKED_AT:])
    if said is None:
        return None
    text = redacted(" ".join(said.split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _said(lines: Sequence[str]) -> str | None:
    heads = [number for number, line in enumerate(lines) if (head := _HEAD.match(line)) and head["said"] != _WRAPPER]
    framed = [number for number in heads if any(map(_CAUSE.match, lines[number + 1 : number + 4]))]
    if framed:
        return _framed(lines[framed[-1] :])
    for pattern in _FIRST:
        if found := next(filter(pattern.match, lines), None):
            return found.strip().removeprefix("ERROR: ")
    exceptions = [line for line in lines if _EXCEPTION.fullmatch(line)]
    return exceptions[-1].strip() if exceptions else None


def _framed(lines: Sequence[str]) -> str:
    """Join a message of uv or pip: the failure, its causes, and the build's output."""
    parts: list[str] = []
    for number, line in enumerate(lines):
        if _OUTPUT.match(line):
            inner = _said(_printed(lines[number + 1 :]))
            return ": ".join([*parts, *([inner] if inner else [])])
        if match := _HEAD.match(line) if not parts else _CAUSE.match(line):
            parts.append(match["said"].rstrip(":"))
        elif not line.strip():
            if len(parts) > 1 and not _goes_on(lines[number + 1 :]):
                break
        elif line.lstrip().startswith("hint:"):
            break
        elif len(parts) > 1 and line.startswith(" "):
            parts[-1] += " " + line.strip(" │")
    return ": ".join(parts)


def _printed(lines: Sequence[str]) -> list[str]:
    """Return the output in a frame, without the frame."""
    end = next((number for number, line in enumerate(lines) if "[end of output]" in line), len(lines))
    return [_FRAME.sub("", line, count=1) for line in lines[:end]]


def _goes_on(lines: Sequence[str]) -> bool:
    """Return whether a build's output follows."""
    return any(map(_OUTPUT.match, lines[:1]))
