"""The comparison of source files without their comments.

Code in an unknown language, or that does not parse, counts as different.
"""

from __future__ import annotations

import io
import itertools
import posixpath
import re
import tokenize
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Literals match first, because they may contain comment marks. A raw string ends at its own mark (C++11,
# [lex.string]), and a backslash at the end of a line continues a comment ([lex.phases]).
_C = re.compile(
    r"""
    (?P<literal> R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)" | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    | //(?:\\\r?\n|[^\n])* | /\*.*?\*/
    """,
    re.DOTALL | re.VERBOSE,
)
# Bracket arguments and comments span lines (cmake-language(7)).
_CMAKE = re.compile(
    r"""
    (?P<literal> "(?:\\.|[^"\\])*" | \\. | (?<!\#)\[(?P<mark>=*)\[.*?\](?P=mark)\] )
    | \#\[(?P<other>=*)\[.*?\](?P=other)\] | \#[^\n]*
    """,
    re.DOTALL | re.VERBOSE,
)
_WITHOUT_MEANING = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING}


def same_code(path: str, old: str, new: str) -> bool:
    """Return whether two texts differ only in comments, blank lines and trailing white space.

    Args:
        path: Path of the file, which decides the language.
        old: Old text.
        new: New text.
    """
    code = _code_of(path)
    try:
        return code is not None and code(old) == code(new)
    except (SyntaxError, tokenize.TokenError):
        return False


def _code_of(path: str) -> Callable[[str], list[object]] | None:
    name, ending = posixpath.basename(path), posixpath.splitext(path)[1]
    if ending in {".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".inl"}:
        return lambda text: _lines(_C, text)
    if name == "CMakeLists.txt" or ending == ".cmake":
        return lambda text: _lines(_CMAKE, text)
    if ending == ".py":
        return _python
    if path.startswith("requirements/"):
        return lambda text: [line for raw in text.splitlines() if (line := re.sub(r"(?:^|\s)#.*", "", raw).strip())]
    return None


def _lines(pattern: re.Pattern[str], text: str) -> list[object]:
    # A comment separates tokens like a space.
    code = pattern.sub(lambda found: found[0] if found["literal"] is not None else " ", text)
    if any("\n" in found[0] for found in pattern.finditer(text) if found["literal"] is not None):
        # Lines within a literal are content.
        return list(code.splitlines())
    lines = [line.rstrip() for line in code.splitlines()]
    # An empty line ends a continuation by backslash.
    return [line for before, line in itertools.pairwise(("", *lines)) if line or before.endswith("\\")]


def _python(text: str) -> list[object]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(token.type, token.string) for token in tokens if token.type not in _WITHOUT_MEANING]
