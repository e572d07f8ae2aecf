"""The required arguments of a Dockerfile that have no value."""

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

# An assignment at the start of a shell command: an empty value is legal there.
_ASSIGNMENT = re.compile(
    r"""(?:(?<=[;&|({\n"'])|^|\b(?:export|then|else|do|local|readonly)(?=\s))\s*
    (?:[A-Za-z_]\w*=(?!=)(?:\\?"[^"]*"|'[^']*'|\$\{[^}]*\}|[^\s;&|"'])*(?=[\s;&|)"']|$)\s*)+""",
    re.VERBOSE,
)
_OPTION = re.compile(r"^\s*(?:--\w[\w-]*=\S+\s+)+")

# Instructions that may fail with an empty word. ENV and LABEL do not, and instructions that take effect in a container
# are not expanded (Dockerfile reference, "Environment replacement").
_NEED_A_VALUE = frozenset({"ADD", "COPY", "EXPOSE", "RUN", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"})


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A required argument without a value.

    Attributes:
        name: Name of the argument.
        line: Line of its declaration.
        why: Reason why it is required.
    """

    name: str
    line: int
    why: str


def missing(file: Dockerfile, given: Mapping[str, str]) -> tuple[Missing, ...]:
    """Return the declared and required arguments without a value.

    An argument is required if it is used without handling of an empty value (``${X:-…}``, ``[ -n "$X" ]``). It is also
    required if it is declared without a default both before the first ``FROM`` and in a stage: the author expects a
    value, perhaps for a script that reads the step's environment.

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
    """Yield the arguments that are used without a value, instruction by instruction."""
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
        values: Values of the arguments before the first ``FROM``.
        declared: Last declaration of each argument.
        held: Known values.
    """

    given: Mapping[str, str]
    values: Mapping[str, str]
    declared: dict[str, Argument] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)

    def declare(self, arguments: Iterable[Argument]) -> None:
        """Add the arguments of an ``ARG``."""
        for one in arguments:
            self.declared[one.name] = one
            own = None if one.default is None else expand(one.default, self.held)
            value = self.given.get(one.name, self.values.get(one.name) if own is None else own)
            self.held |= {} if value is None else {one.name: value}

    @property
    def empty(self) -> frozenset[str]:
        """The names of the declared arguments without a value."""
        return frozenset(self.declared.keys() - self.held.keys())

    def used_by(self, instruction: Instruction) -> Iterator[Missing]:
        """Yield the arguments without a value that an instruction uses."""
        for name in sorted(_needed(instruction) & self.empty - AUTOMATIC):
            why = f"{instruction.keyword} on line {instruction.line} uses it"
            yield Missing(name=name, line=self.declared[name].line, why=why)

    def hide(self, instruction: Instruction) -> None:
        """Process an ``ENV``, which hides an argument of the same name."""
        for word in words(instruction.text):
            name, _, text = word.partition("=")
            if not names_in(text) & self.empty or expand(text, self.held):
                self.declared.pop(name, None)


def _needed(instruction: Instruction) -> frozenset[str]:
    """Return the variables that must not be empty in an instruction."""
    if instruction.keyword not in _NEED_A_VALUE:
        return frozenset()
    if instruction.keyword == "RUN":
        return unguarded(_ASSIGNMENT.sub(" ", _OPTION.sub("", instruction.text)))
    return unguarded(instruction.text)
