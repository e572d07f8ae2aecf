"""The wheel rule of an llm-d tree's scripts: their index page and the platform tags that they accept.

The scripts are read and never run. Those of October 2025 to August 2026 look for a file name with one ``manylinux`` tag
on an HTML page, ``<index>/<commit>/vllm/`` or ``<index>/<commit>/<variant>/vllm/``. Older ones let pip choose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.llmd.references import expand, unguarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ASSIGNMENT = re.compile(r"""\s*(?:export\s+|local\s+)?([A-Za-z_]\w*)=(?:"([^"`]*)"|'([^']*)'|([^\s"'`;&|()]*))\s*""")
_ASSIGNS = re.compile(r"\s*(?:export\s+|local\s+)?([A-Za-z_]\w*)=")
_UNKNOWN = "\0"
_DEFAULT = re.compile(r"\$\{([A-Za-z_]\w*):?=((?:[^{}]|\$\{[^{}]*\})*)\}")
_STATEMENT = re.compile(r"&&|\|\||;|\n")
_COMMENT = re.compile(r"(?m)^\s*#.*$")
_TAG = re.compile(
    r"manylinux(?P<glibc>[^\s\"'/()$]*?)_(?P<machine>x86_64|amd64|aarch64|arm64|\$\{?\w+\}?|\$\(\s*uname -m\s*\))"
)
_MACHINES = {"x86_64": {"x86_64", "amd64"}, "aarch64": {"aarch64", "arm64"}}


@dataclass(frozen=True, kw_only=True)
class WheelRule:
    """The wheel rule of a tree's script.

    Attributes:
        place: Place of the rule in the tree.
        index: Address of the index, without a trailing slash.
        variant: Path between commit and package; empty for the index's default variant.
        tags: Patterns of the accepted platform tags; None for any of the architecture.
    """

    place: str
    index: str
    variant: str
    tags: tuple[str, ...] | None

    @property
    def said(self) -> str:
        """The rule in words."""
        tags = "any platform tag" if self.tags is None else " or ".join(self.tags) or "no wheel for this processor"
        return f"{self.place} takes {tags} of {self.variant or 'the default variant'}"


def read(
    found: Iterable[tuple[str, str]], *, environment: Mapping[str, str], commit: str, machine: str
) -> WheelRule | None:
    """Return the rule of the first text with one, or None without an understood rule.

    Args:
        found: Places and texts from :meth:`build.llmd.tree.Tree.scripts_of`.
        environment: Environment of the steps.
        commit: Commit of the wheel.
        machine: Processor in the form of ``uname -m``.
    """
    for place, text in found:
        plain = _COMMENT.sub("", text.replace("\\\n", " "))
        if address := _address(plain, environment, commit):
            tags = _tags(plain, machine)
            if tags is None and "manylinux" in plain:
                return None
            index, variant = address
            return WheelRule(place=place, index=index, variant=variant, tags=tags)
    return None


def _address(text: str, environment: Mapping[str, str], commit: str) -> tuple[str, str] | None:
    """Return index and variant of a text's page, or None if only a shell can evaluate them."""
    page = re.compile(rf"(https?://[^\s\"'<>]+?)/{re.escape(commit)}/([^\s\"'<>]*?)/?\bvllm/?(?=[\s\"')]|$)")
    held = dict(environment)
    for statement in _STATEMENT.split(text):
        for default in _DEFAULT.finditer(statement):
            held[default[1]] = held.get(default[1]) or expand(default[2].strip("\"'"), held)
        known = {**dict.fromkeys(unguarded(statement), _UNKNOWN), **held}
        if found := page.search(expand(statement, known)):
            return None if _UNKNOWN in found[0] else (found[1], found[2].strip("/"))
        _assign(statement, held, commit)
    return None


def _assign(statement: str, held: dict[str, str], commit: str) -> None:
    """Evaluate an assignment. A command's result is unknown, except that a variable with the commit keeps it."""
    assigned = _ASSIGNS.match(statement)
    if assigned is None:
        return
    match = _ASSIGNMENT.fullmatch(statement)
    value = next(part for part in match.groups()[1:] if part is not None) if match else "$("
    if "$(" not in value and match:
        held[assigned[1]] = value if match[3] is not None else expand(value, held)
    elif held.get(assigned[1]) != commit:
        held.pop(assigned[1], None)


def _tags(text: str, machine: str) -> tuple[str, ...] | None:
    """Return the patterns of a text's tags for a processor, or None if it names no tags at all."""
    matches = list(_TAG.finditer(text))
    own = _MACHINES.get(machine, {machine})
    found = [match["glibc"] for match in matches if match["machine"] in own or match["machine"].startswith("$")]
    tags = tuple(dict.fromkeys(f"manylinux{glibc}_{machine}" for glibc in found))
    return tags if matches and all(map(_is_pattern, tags)) else None


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
