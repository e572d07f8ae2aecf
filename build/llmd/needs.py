"""Arguments that a Dockerfile cannot do without and that have no value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build.llmd.dockerfile import AUTOMATIC
from build.llmd.instructions import words
from build.llmd.references import expand, names_in, unguarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from build.llmd.dockerfile import Argument, Dockerfile
    from build.llmd.instructions import Instruction

# An assignment where a shell command starts: an empty value is legal, and what follows has to provide for it.
_ASSIGNMENT = re.compile(
    r"""(?:(?<=[;&|({\n"'])|^|\b(?:export|then|else|do|local|readonly)(?=\s))\s*
    (?:[A-Za-z_]\w*=(?!=)(?:\\?"[^"]*"|'[^']*'|\$\{[^}]*\}|[^\s;&|"'])*(?=[\s;&|)"']|$)\s*)+""",
    re.VERBOSE,
)
_OPTION = re.compile(r"^\s*(?:--\w[\w-]*=\S+\s+)+")

# Instructions that cannot do with an empty word, or whose command may not. ENV and LABEL can, and what only runs in a
# container is not expanded (Dockerfile reference, "Environment replacement").
_NEED_A_VALUE = frozenset({"ADD", "COPY", "EXPOSE", "RUN", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"})


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An argument that has no value where it is needed.

    Attributes:
        name: Its name.
        line: Where it is declared.
        why: In words, what needs it.
    """

    name: str
    line: int
    why: str


def missing(file: Dockerfile, given: Mapping[str, str]) -> tuple[Missing, ...]:
    """Arguments that are declared, needed, and have no value.

    Needed is what is used where an empty value is not provided for (``${X:-…}``, ``[ -n "$X" ]``), and what is
    declared without a default both before the first ``FROM`` and in a stage: whoever builds it is meant to give it,
    for a script perhaps that only the step's environment tells.

    Args:
        file: The Dockerfile.
        given: Build arguments.
    """
    values = file.values(given)
    found = {one.name: one for one in (*_unused(file, values), *_used(file, given, values))}
    return tuple(sorted(found.values(), key=lambda one: one.line))


def _unused(file: Dockerfile, values: Mapping[str, str]) -> Iterator[Missing]:
    bare = {one.name for one in file.arguments if one.stage is not None and one.default is None}
    for argument in file.global_arguments:
        if argument.name not in values and argument.name not in AUTOMATIC and argument.name in bare:
            yield Missing(name=argument.name, line=argument.line, why="it is declared without a default")


def _used(file: Dockerfile, given: Mapping[str, str], values: Mapping[str, str]) -> Iterator[Missing]:
    """What is used without a value, instruction by instruction."""
    declared = iter(file.arguments)
    scope: _Scope | None = None
    for instruction in file.instructions:
        if instruction.keyword == "ARG":
            found = [next(declared) for _ in words(instruction.text)]
            if scope:
                scope.declare(found)
        elif instruction.keyword == "FROM":
            scope = _Scope(given=given, values=values)
            yield from _used_by_from(file, instruction, values)
        elif scope:
            yield from scope.used_by(instruction)
            if instruction.keyword == "ENV":
                scope.hide(instruction)


def _used_by_from(file: Dockerfile, instruction: Instruction, values: Mapping[str, str]) -> Iterator[Missing]:
    lines = {argument.name: argument.line for argument in file.global_arguments}
    for name in sorted(unguarded(instruction.text) & lines.keys() - AUTOMATIC):
        if not values.get(name):
            yield Missing(name=name, line=lines[name], why=f"FROM on line {instruction.line} uses it")


@dataclass(kw_only=True)
class _Scope:
    """The arguments that a stage has declared so far.

    Attributes:
        given: Build arguments.
        values: What the arguments before the first ``FROM`` come out as.
        declared: The last declaration of each.
        held: Those that have a value.
    """

    given: Mapping[str, str]
    values: Mapping[str, str]
    declared: dict[str, Argument] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)

    def declare(self, arguments: Iterable[Argument]) -> None:
        """Take in the arguments of an ``ARG``."""
        for one in arguments:
            self.declared[one.name] = one
            own = None if one.default is None else expand(one.default, self.held)
            value = self.given.get(one.name, self.values.get(one.name) if own is None else own)
            self.held |= {} if value is None else {one.name: value}

    @property
    def empty(self) -> frozenset[str]:
        """Names that are declared and have no value."""
        return frozenset(self.declared.keys() - self.held.keys())

    def used_by(self, instruction: Instruction) -> Iterator[Missing]:
        """What an instruction uses that has no value."""
        for name in sorted(_needed(instruction) & self.empty - AUTOMATIC):
            why = f"{instruction.keyword} on line {instruction.line} uses it"
            yield Missing(name=name, line=self.declared[name].line, why=why)

    def hide(self, instruction: Instruction) -> None:
        """Take in an ``ENV``: from here on the name is the variable's, which may be empty as well."""
        for word in words(instruction.text):
            name, _, text = word.partition("=")
            if not names_in(text) & self.empty or expand(text, self.held):
                self.declared.pop(name, None)


def _needed(instruction: Instruction) -> frozenset[str]:
    """The variables that an instruction cannot do with empty."""
    if instruction.keyword not in _NEED_A_VALUE:
        return frozenset()
    if instruction.keyword == "RUN":
        return unguarded(_ASSIGNMENT.sub(" ", _OPTION.sub("", instruction.text)))
    return unguarded(instruction.text)
