"""References to variables in the text of a Dockerfile or shell script, and their expansion."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# The operator after the name decides about an empty value: `:-`, `-`, `:+`, `+` and `:=` handle it.
REFERENCE = re.compile(r"(?<!\\)\$(?:(\w+)|\{(\w+)(:?[-+?=]|[#%/][^}]*)?((?:[^{}]|\$\{[^{}]*\})*)\})")
_TEST = re.compile(r"\[\[?\s.*?\s\]|\bcase\b.*?\bin\b", re.DOTALL)


def names_in(text: str) -> frozenset[str]:
    """Return the variables that a text refers to."""
    return frozenset(match[1] or match[2] for match in REFERENCE.finditer(text))


def unguarded(text: str) -> frozenset[str]:
    """Return the variables that a text uses without handling an empty value."""
    tested = {name for test in _TEST.finditer(text) for name in names_in(test[0])}
    plain = {
        match[1] or match[2]
        for match in REFERENCE.finditer(text)
        if not (match[3] or "?").strip(":").startswith(("-", "+", "="))
    }
    inner = {name for match in REFERENCE.finditer(text) for name in unguarded(match[4] or "")}
    return frozenset((plain | inner) - tested)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Expand the variables of a text, unset ones to nothing (Dockerfile reference, "Environment replacement")."""

    def value(match: re.Match[str]) -> str:
        name, operator, word = match[1] or match[2], match[3] or "", match[4] or ""
        held = values.get(name)
        present = bool(held) if operator.startswith(":") else held is not None
        if operator.endswith("-"):
            return held if present and held is not None else expand(word, values)
        if operator.endswith("+"):
            return expand(word, values) if present else ""
        return held or ""

    return REFERENCE.sub(value, text)
