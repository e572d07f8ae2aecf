"""The files that a build writes itself, by a heredoc, ``printf`` or ``echo``."""

from __future__ import annotations

import itertools
import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEREDOC = re.compile(r"<<-?\s*(?P<quote>['\"]?)(?P<word>\w[\w.-]*)(?P=quote)")
_TARGET = r"(?:>>?|\|\s*tee(?:\s+-a)?)\s*(?P<path>[^\s;&|<>]+)"
_SAID = re.compile(
    r"\b(?P<program>printf|echo)\s+(?P<words>(?:'[^']*'|\"(?:\\.|[^\"\\])*\"|[^\s'\";&|<>]|[ \t]+)+?)[ \t]*" + _TARGET
)
_REDIRECTED = re.compile(_TARGET)


class Written(NamedTuple):
    """Lines written to a file.

    Attributes:
        path: Path of the file, as written.
        lines: Lines of text.
        literal: Whether variables in them stay unexpanded.
    """

    path: str
    lines: tuple[str, ...]
    literal: bool


def by_copy(text: str) -> Iterator[Written]:
    """Yield what a ``COPY`` or ``ADD`` writes by a heredoc (Dockerfile reference, "Here-Documents")."""
    head, *body = text.split("\n")
    opened, target = _HEREDOC.search(head), head.split()[-1:]
    if opened and target:
        path = f"{target[0]}{opened['word']}" if target[0].endswith("/") else target[0]
        yield Written(path.strip("\"'"), tuple(body), literal=bool(opened["quote"]))


def by_shell(text: str) -> Iterator[Written]:
    """Yield what shell commands write."""
    for match in _SAID.finditer(text):
        words = _split(match["words"])
        yield Written(match["path"].strip("\"'"), tuple(_said(match["program"], words)), literal=False)
    lines = text.split("\n")
    for number, line in enumerate(lines):
        opened, target = _HEREDOC.search(line), _REDIRECTED.search(line)
        if opened and target:
            ends = opened["word"]
            body = itertools.takewhile(lambda one, ends=ends: one.strip() != ends, lines[number + 1 :])  # type: ignore[misc]
            yield Written(target["path"].strip("\"'"), tuple(body), literal=bool(opened["quote"]))


def _split(words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError:
        return words.split()


def _said(program: str, words: list[str]) -> list[str]:
    """Return the lines that ``printf`` or ``echo`` prints."""
    words = list(itertools.dropwhile(lambda word: re.fullmatch(r"-[eEn]+|--", word), words))
    if program == "printf" and "%" in "".join(words[:1]):
        # printf repeats its format for the remaining words.
        return words[1:]
    text = " ".join(words) if program == "echo" else "".join(words[:1])
    return text.replace("\\n", "\n").splitlines()
