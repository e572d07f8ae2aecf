"""The build arguments that a Dockerfile declares, and those that it cannot do without.

Reads a Dockerfile as BuildKit does: continuation lines, comments between them, heredocs, several arguments in one
instruction, arguments before the first ``FROM`` and their redeclaration in stages (Dockerfile reference, "ARG",
"Understand how ARG and FROM interact", "Here-Documents"). :meth:`Dockerfile.of_stage` leaves out the stages that a
build of one stage does not run.
"""

from __future__ import annotations

import functools
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_KEYWORD = re.compile(r"\s*([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(\S+)\s*")
_COMMENT_OR_EMPTY = re.compile(r"\s*(?:#.*)?")
_HEREDOC = re.compile(r"[0-9]*<<(-?)(['\"]?)(\w[\w.]*)\2")
# What follows the name decides what an empty value does: `:-`, `-`, `:+`, `+` and `:=` are content with it.
_REFERENCE = re.compile(r"(?<!\\)\$(?:(\w+)|\{(\w+)(:?[-+?=]|[#%/][^}]*)?((?:[^{}]|\$\{[^{}]*\})*)\})")
_TEST = re.compile(r"\[\[?\s.*?\s\]|\bcase\b.*?\bin\b", re.DOTALL)
# An assignment where a shell command starts: an empty value is legal, and what follows has to provide for it.
_ASSIGNMENT = re.compile(
    r"""(?:(?<=[;&|({\n"'])|^|\b(?:export|then|else|do|local|readonly)(?=\s))\s*
    (?:[A-Za-z_]\w*=(?!=)(?:\\?"[^"]*"|'[^']*'|\$\{[^}]*\}|[^\s;&|"'])*(?=[\s;&|)"']|$)\s*)+""",
    re.VERBOSE,
)
_OPTION = re.compile(r"^\s*(?:--\w[\w-]*=\S+\s+)+")
_FROM = re.compile(r"(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<name>\S+))?", re.IGNORECASE)
_OTHER_STAGE = re.compile(r"(?:--|,)from=([^\s,]+)")

# Instructions that cannot do with an empty word, or whose command may not. ENV and LABEL can, and what only runs in a
# container is not expanded (Dockerfile reference, "Environment replacement").
_NEED_A_VALUE = frozenset({"ADD", "COPY", "EXPOSE", "RUN", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"})

# Dockerfile reference, "Automatic platform ARGs in the global scope": BuildKit gives them.
AUTOMATIC = frozenset(
    f"{where}{what}" for where in ("TARGET", "BUILD") for what in ("PLATFORM", "OS", "ARCH", "VARIANT")
) | {"TARGETSTAGE"}
# The same, "Predefined ARGs" and "BuildKit built-in build args": taken without being declared.
_PREDEFINED = re.compile(r"(?:HTTP|HTTPS|FTP|NO|ALL)_PROXY|BUILDKIT_\w+|BUILDX_\w+|SOURCE_DATE_EPOCH", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction.

    Attributes:
        keyword: In upper case.
        text: What follows it, lines joined; a heredoc's lines are at its end.
        line: Its first line, from 1.
        last: Its last line.
    """

    keyword: str
    text: str
    line: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One declaration of an argument.

    Attributes:
        name: Its name.
        default: What it is set to as written; None without one.
        line: Where.
        stage: Number of the stage, from 0; None before the first ``FROM``.
    """

    name: str
    default: str | None
    line: int
    stage: int | None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        name: After ``AS``; None without one.
        image: What it stands on, as written.
        instructions: Its own, ``FROM`` first.
    """

    name: str | None
    image: str
    instructions: tuple[Instruction, ...]

    def refers_to(self, other: Stage, number: int) -> bool:
        """Whether it stands on another stage, or takes files from it. A name with a variable may be any that fits."""
        words = {self.image}
        for one in self.instructions:
            if one.keyword in {"COPY", "ADD", "RUN"}:
                words |= set(_OTHER_STAGE.findall(one.text.partition("\n")[0]))
        return any(_may_be(word, name) for word in words for name in (other.name, str(number)) if name)


def _may_be(word: str, name: str) -> bool:
    pattern = ".*".join(map(re.escape, _REFERENCE.sub("\0", word.strip("\"'")).split("\0")))
    return re.fullmatch(pattern, name, re.IGNORECASE) is not None


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


def predefined(name: str) -> bool:
    """Whether an argument can be given without being declared."""
    return _PREDEFINED.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """What a Dockerfile says.

    Attributes:
        name: What to call it in messages.
        instructions: In their order.
    """

    name: str
    instructions: tuple[Instruction, ...]

    @classmethod
    def read(cls, path: Path, *, name: str) -> Dockerfile:
        """From a file.

        Raises:
            SourceError: It cannot be read.
        """
        try:
            return cls.parse(path.read_text(encoding="utf-8"), name=name)
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{path} cannot be read: {error}", hint="give another tree with --llm-d PATH") from error

    @classmethod
    def parse(cls, text: str, *, name: str) -> Dockerfile:
        """From its text.

        Raises:
            SourceError: It ends within a heredoc.
        """
        return cls(name=name, instructions=tuple(_instructions(text.removeprefix("\ufeff"), name)))

    @functools.cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """Every declaration, in their order."""
        found: list[Argument] = []
        stage: int | None = None
        for instruction in self.instructions:
            if instruction.keyword == "FROM":
                stage = 0 if stage is None else stage + 1
            elif instruction.keyword == "ARG":
                for word in _words(instruction.text):
                    name, equals, default = word.partition("=")
                    value = default if equals else None
                    found.append(Argument(name=name, default=value, line=instruction.line, stage=stage))
        return tuple(found)

    @functools.cached_property
    def stages(self) -> tuple[Stage, ...]:
        """In their order."""
        starts = [number for number, one in enumerate(self.instructions) if one.keyword == "FROM"]
        found = []
        for start, end in zip(starts, [*starts[1:], len(self.instructions)], strict=True):
            match = _FROM.match(self.instructions[start].text)
            image, name = (match["image"], match["name"]) if match else ("", None)
            found.append(Stage(name=name, image=image, instructions=self.instructions[start:end]))
        return tuple(found)

    def stage(self, name: str) -> str | None:
        """The name of a stage as it is written there; None without such a stage."""
        return next((one.name for one in self.stages if one.name and one.name.lower() == name.lower()), None)

    def of_stage(self, name: str | None) -> Dockerfile:
        """What a build of one stage runs: that stage, those that it stands on or takes files from, and theirs.

        Args:
            name: The stage; None for the last one.
        """
        if not self.stages:
            return self
        last = len(self.stages) - 1
        names = [(one.name or "").lower() for one in self.stages]
        target = last if name is None else max(n for n, one in enumerate(names) if one == name.lower())
        kept = {target}
        for number in range(target, -1, -1):
            if number in kept:
                stage = self.stages[number]
                kept |= {n for n in range(number) if stage.refers_to(self.stages[n], n)}
        first = next(number for number, one in enumerate(self.instructions) if one.keyword == "FROM")
        left = [one for number in sorted(kept) for one in self.stages[number].instructions]
        return Dockerfile(name=self.name, instructions=(*self.instructions[:first], *left))

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Arguments and variables that the last stage's steps see in the end, as far as the Dockerfile tells.

        Args:
            given: Build arguments.
        """
        values, held = self.values(given), dict[str, str]()
        lines = [self.stages[-1]] if self.stages else []
        while parent := next((one for one in self.stages if one.name and one.name == lines[0].image), None):
            if parent in lines:
                break
            lines.insert(0, parent)
        for instruction in (one for stage in lines for one in stage.instructions):
            for word in _words(instruction.text) if instruction.keyword in {"ARG", "ENV"} else ():
                name, equals, text = word.partition("=")
                value = expand(text, held) if equals else None
                if instruction.keyword == "ARG":
                    value = given.get(name, values.get(name) if value is None else value)
                held |= {} if value is None else {name: value}
        return held

    def unset(self, given: Mapping[str, str]) -> tuple[Argument, ...]:
        """Arguments that a stage declares and that have no value, the first declaration of each."""
        held = {one.name for one in self.arguments if one.default is not None} | given.keys() | AUTOMATIC
        found: dict[str, Argument] = {}
        for one in self.arguments:
            if one.stage is not None and one.name not in held:
                found.setdefault(one.name, one)
        return tuple(found.values())

    def mentions(self, name: str) -> bool:
        """Whether an instruction refers to an argument."""
        return any(name in names_in(one.text) for one in self.instructions)

    @property
    def names(self) -> frozenset[str]:
        """Of the arguments that it declares."""
        return frozenset(argument.name for argument in self.arguments)

    @property
    def _global(self) -> tuple[Argument, ...]:
        return tuple(argument for argument in self.arguments if argument.stage is None)

    @property
    def shadowed(self) -> frozenset[str]:
        """Arguments that BuildKit would give, were they not declared before the first ``FROM`` without a default.

        Their redeclaration in a stage finds that one, without a value (BuildKit of Docker 26.1; llm-d at 055360044cd8:
        ``TARGETPLATFORM``). A platform as a default is the author's (llm-d of 2025), so that it counts as one too.
        """
        return frozenset(
            one.name
            for one in self._global
            if one.name in AUTOMATIC and (one.default is None or one.name.endswith("PLATFORM"))
        )

    def reaches_a_stage(self, name: str) -> bool:
        """Whether an argument's value has any effect: it is declared in a stage, or used before or by a ``FROM``."""
        in_stage = any(argument.name == name for argument in self.arguments if argument.stage is not None)
        texts = [argument.default or "" for argument in self._global]
        texts += [instruction.text for instruction in self.instructions if instruction.keyword == "FROM"]
        return in_stage or any(name in names_in(text) for text in texts)

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """What the arguments before the first ``FROM`` come out as; those without a value are absent."""
        values: dict[str, str] = {}
        for argument in self._global:
            if argument.name in given:
                values[argument.name] = given[argument.name]
            elif argument.default is not None:
                values[argument.name] = expand(argument.default, values)
        return values

    def value(self, name: str, given: Mapping[str, str]) -> str | None:
        """What an argument comes out as in the last stage that declares it; None without a value."""
        values = self.values(given)
        found = values.get(name)
        for argument in self.arguments:
            if argument.name == name and argument.stage is not None:
                own = None if argument.default is None else expand(argument.default, values)
                found = given.get(name, values.get(name) if own is None else own)
        return found

    def late(self, given: Mapping[str, str]) -> dict[str, tuple[str, Argument]]:
        """Arguments before the first ``FROM`` whose default names one that is only declared further down.

        BuildKit takes the name for empty there (llm-d at 055360044cd8: ``BUILD_BASE_IMAGE_SUFFIX``).

        Returns:
            By name, what was meant, and the declaration that it comes from.
        """
        final = self.values(given)
        found: dict[str, tuple[str, Argument]] = {}
        seen: set[str] = set()
        for argument in self._global:
            later = {one.name: one for one in self._global if one.line > argument.line and one.name not in seen}
            names = [name for name in names_in(argument.default or "") if name in later and name in final]
            if names and argument.name not in given:
                found[argument.name] = (expand(argument.default or "", final), later[names[0]])
            seen.add(argument.name)
        return found

    def missing(self, given: Mapping[str, str]) -> tuple[Missing, ...]:
        """Arguments that are declared, needed, and have no value.

        Needed is what is used where an empty value is not provided for (``${X:-…}``, ``[ -n "$X" ]``), and what is
        declared without a default both before the first ``FROM`` and in a stage: whoever builds it is meant to give
        it, for a script perhaps that only the step's environment tells.

        Args:
            given: Build arguments.
        """
        found = {one.name: one for one in (*self._unused(given), *self._used(given))}
        return tuple(sorted(found.values(), key=lambda one: one.line))

    def _unused(self, given: Mapping[str, str]) -> Iterator[Missing]:
        values = self.values(given)
        bare = {one.name for one in self.arguments if one.stage is not None and one.default is None}
        for argument in self._global:
            if argument.name not in values and argument.name not in AUTOMATIC and argument.name in bare:
                yield Missing(name=argument.name, line=argument.line, why="it is declared without a default")

    def _used(self, given: Mapping[str, str]) -> Iterator[Missing]:
        """What is used without a value, instruction by instruction."""
        values = self.values(given)
        scope: dict[str, Argument] = {}
        held: dict[str, str] = {}
        declared = iter(self.arguments)
        inside = False
        for instruction in self.instructions:
            if instruction.keyword == "ARG":
                for argument in (next(declared) for _ in _words(instruction.text)):
                    if not inside:
                        continue
                    scope[argument.name] = argument
                    own = argument.default if argument.default is None else expand(argument.default, held)
                    value = given.get(argument.name, values.get(argument.name) if own is None else own)
                    held |= {} if value is None else {argument.name: value}
                continue
            if instruction.keyword == "FROM":
                inside, scope, held = True, {}, {}
                yield from self._used_by_from(instruction, values)
                continue
            for name in sorted(_needed(instruction) & scope.keys() - held.keys() - AUTOMATIC):
                why = f"{instruction.keyword} on line {instruction.line} uses it"
                yield Missing(name=name, line=scope[name].line, why=why)
            if instruction.keyword == "ENV":
                # From here on the name is the variable's, which may be empty as well.
                for word in _words(instruction.text):
                    name, _, text = word.partition("=")
                    if not names_in(text) & scope.keys() - held.keys() or expand(text, held):
                        scope.pop(name, None)

    def _used_by_from(self, instruction: Instruction, values: Mapping[str, str]) -> Iterator[Missing]:
        lines = {argument.name: argument.line for argument in self._global}
        for name in sorted(unguarded(instruction.text) & lines.keys() - AUTOMATIC):
            if not values.get(name):
                yield Missing(name=name, line=lines[name], why=f"FROM on line {instruction.line} uses it")


def with_secret(text: str, *, name: str, secret_id: str, target: str, variables: Iterable[str]) -> str:
    """A Dockerfile in which every ``RUN`` has a secret, and variables that name it. Neither stays in the image.

    Args:
        text: The Dockerfile.
        name: What to call it in messages.
        secret_id: Id of the secret.
        target: Where it is mounted.
        variables: Variables of the steps' environment whose value is ``target``.
    """
    lines = text.splitlines()
    for instruction in reversed(Dockerfile.parse(text, name=name).instructions):
        if instruction.keyword == "RUN":
            mount = f"--mount=type=secret,id={secret_id},target={target}"
            first = lines[instruction.line - 1]
            lines[instruction.line - 1] = re.sub(r"^(\s*\w+)", rf"\1 {mount}", first, count=1)
        elif instruction.keyword == "FROM":
            # An argument is in the environment of the stage's steps, and not in the image's.
            words = " ".join(f"{variable}={target}" for variable in variables)
            lines.insert(instruction.last, f"ARG {words}")
    return "\n".join(lines) + "\n"


def _needed(instruction: Instruction) -> frozenset[str]:
    """The variables that an instruction cannot do with empty."""
    if instruction.keyword not in _NEED_A_VALUE:
        return frozenset()
    if instruction.keyword == "RUN":
        return unguarded(_ASSIGNMENT.sub(" ", _OPTION.sub("", instruction.text)))
    return unguarded(instruction.text)


def names_in(text: str) -> frozenset[str]:
    """The variables that a text refers to."""
    return frozenset(match[1] or match[2] for match in _REFERENCE.finditer(text))


def unguarded(text: str) -> frozenset[str]:
    """The variables that a text refers to where it does not provide for an empty value."""
    tested = {name for test in _TEST.finditer(text) for name in names_in(test[0])}
    plain = {
        match[1] or match[2]
        for match in _REFERENCE.finditer(text)
        if not (match[3] or "?").strip(":").startswith(("-", "+", "="))
    }
    inner = {name for match in _REFERENCE.finditer(text) for name in unguarded(match[4] or "")}
    return frozenset((plain | inner) - tested)


def expand(text: str, values: Mapping[str, str]) -> str:
    """A text with its variables replaced, those without a value by nothing (reference, "Environment replacement")."""

    def value(match: re.Match[str]) -> str:
        name, operator, word = match[1] or match[2], match[3] or "", match[4] or ""
        held = values.get(name)
        present = bool(held) if operator.startswith(":") else held is not None
        if operator.endswith("-"):
            return held if present and held is not None else expand(word, values)
        if operator.endswith("+"):
            return expand(word, values) if present else ""
        return held or ""

    return _REFERENCE.sub(value, text)


def _words(text: str) -> list[str]:
    """The words of an instruction, without their quotes."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _instructions(text: str, name: str) -> Iterator[Instruction]:
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
            # Comments and empty lines go on with what they stand in.
            if not _COMMENT_OR_EMPTY.fullmatch(line):
                cut = continued.sub("", line)
                joined, more = joined + cut, cut != line
        match = _KEYWORD.fullmatch(joined)
        if match is None:
            raise SourceError(f"{name}:{first + 1} is no instruction: {line.strip()}", hint="correct it there")
        keyword, words = match[1].upper(), match[2] or ""
        if keyword in {"RUN", "COPY", "ADD"}:
            body, number = _heredocs(words, lines, number, f"{name}:{first + 1}")
            words = "\n".join((words, *body))
        yield Instruction(keyword=keyword, text=words, line=first + 1, last=number)


def _escape(lines: list[str]) -> str:
    """The character that continues a line; directives stand at the very top."""
    for line in lines:
        match = _DIRECTIVE.fullmatch(line)
        if match is None:
            break
        if match[1].lower() == "escape":
            return match[2]
    return "\\"


def _heredocs(words: str, lines: list[str], number: int, where: str) -> tuple[list[str], int]:
    """The lines of the heredocs that an instruction opens, and the number of the line after them."""
    try:
        tokens = shlex.split(words, posix=False)
    except ValueError:
        tokens = words.split()
    body: list[str] = []
    # BuildKit 0.22 (Docker 28.2) and newer take the name after a space too, though not after `<<-` (buildkit#5778).
    joined = re.sub(r"(?m)^([0-9]*<<)\n", r"\1", "\n".join(tokens)).split("\n")
    for match in filter(None, map(_HEREDOC.fullmatch, joined)):
        while True:
            if number >= len(lines):
                raise SourceError(f"{where} opens a heredoc that nothing ends: {match[3]}", hint="correct it there")
            line, number = lines[number], number + 1
            if (line.lstrip("\t") if match[1] else line) == match[3]:
                break
            body.append(line)
    return body, number
