"""The parser of a Dockerfile's instructions.

It reads like BuildKit: continuation lines, comments between them, heredocs (Dockerfile reference, "Here-Documents").
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYWORD = re.compile(r"\s*([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(\S+)\s*")
_COMMENT_OR_EMPTY = re.compile(r"\s*(?:#.*)?")
_HEREDOC = re.compile(r"[0-9]*<<(-?)(['\"]?)(\w[\w.]*)\2")


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction of a Dockerfile.

    Attributes:
        keyword: Keyword in upper case.
        text: Text after the keyword, lines joined, with the lines of heredocs at the end.
        line: First line, from 1.
        last: Last line.
    """

    keyword: str
    text: str
    line: int
    last: int


def read(text: str, name: str) -> Iterator[Instruction]:
    """Yield the instructions of a text.

    Args:
        text: Text of the Dockerfile.
        name: Name for messages.

    Raises:
        SourceError: A line is not an instruction, or the text ends within a heredoc.
    """
    lines = text.splitlines()
    continued = re.compile(re.escape(_escape(lines)) + r"[ \t]*$")
    number = 0
    while number < len(lines):
        first, number = number, number + 1
        line = lines[first]
        if _COMMENT_OR_EMPTY.fullmatch(line):
            continue
        joined = continued.sub("", line)
        more = joined != line
        while more and number < len(lines):
            line, number = lines[number], number + 1
            # Comments and empty lines do not end a continued instruction.
            if not _COMMENT_OR_EMPTY.fullmatch(line):
                cut = continued.sub("", line)
                joined, more = joined + cut, cut != line
        match = _KEYWORD.fullmatch(joined)
        if match is None:
            raise SourceError(f"{name}:{first + 1} is not an instruction: {line.strip()}", hint="correct that line")
        keyword, words = match[1].upper(), match[2] or ""
        if keyword in {"RUN", "COPY", "ADD"}:
            body, number = _heredocs(words, lines, number, f"{name}:{first + 1}")
            words = "\n".join((words, *body))
        yield Instruction(keyword=keyword, text=words, line=first + 1, last=number)


def _escape(lines: list[str]) -> str:
    """Return the character that continues a line. Directives are at the top of the file."""
    for line in lines:
        match = _DIRECTIVE.fullmatch(line)
        if match is None:
            break
        if match[1].lower() == "escape":
            return match[2]
    return "\\"


def _heredocs(words: str, lines: list[str], number: int, where: str) -> tuple[list[str], int]:
    """Return the lines of the heredocs that an instruction opens, and the number of the next line."""
    try:
        tokens = shlex.split(words, posix=False)
    except ValueError:
        tokens = words.split()
    body: list[str] = []
    # BuildKit 0.22 (Docker 28.2) and newer allow a space before the name, but not after `<<-` (buildkit#5778).
    joined = re.sub(r"(?m)^([0-9]*<<)\n", r"\1", "\n".join(tokens)).split("\n")
    for match in filter(None, map(_HEREDOC.fullmatch, joined)):
        while True:
            if number >= len(lines):
                raise SourceError(f"{where}: the heredoc {match[3]} has no end", hint="correct that line")
            line, number = lines[number], number + 1
            if (line.lstrip("\t") if match[1] else line) == match[3]:
                break
            body.append(line)
    return body, number


def words(text: str) -> list[str]:
    """Return the words of an instruction without quotes."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
