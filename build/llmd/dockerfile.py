"""The stages of a Dockerfile and the build arguments that it declares.

Arguments are read like in BuildKit: several in one instruction, before the first ``FROM``, and redeclared in stages
(Dockerfile reference, "ARG", "Understand how ARG and FROM interact"). :meth:`Dockerfile.of_stage` leaves out the stages
that a build of one stage does not run.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import SourceError
from build.llmd.instructions import read, words
from build.llmd.references import REFERENCE, expand, names_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from build.llmd.instructions import Instruction

_FROM = re.compile(r"(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<name>\S+))?", re.IGNORECASE)
_OTHER_STAGE = re.compile(r"(?:--|,)from=([^\s,]+)")

# BuildKit sets these (Dockerfile reference, "Automatic platform ARGs in the global scope").
AUTOMATIC = frozenset(
    f"{where}{what}" for where in ("TARGET", "BUILD") for what in ("PLATFORM", "OS", "ARCH", "VARIANT")
) | {"TARGETSTAGE"}
# Valid without a declaration (Dockerfile reference, "Predefined ARGs", "BuildKit built-in build args").
_PREDEFINED = re.compile(r"(?:HTTP|HTTPS|FTP|NO|ALL)_PROXY|BUILDKIT_\w+|BUILDX_\w+|SOURCE_DATE_EPOCH", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One declaration of an argument.

    Attributes:
        name: Name of the argument.
        default: Default as written; None without one.
        line: Line of the declaration.
        stage: Number of the stage, from 0; None before the first ``FROM``.
    """

    name: str
    default: str | None
    line: int
    stage: int | None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a Dockerfile.

    Attributes:
        name: Name after ``AS``; None without one.
        image: Image or stage after ``FROM``, as written.
        instructions: Instructions of the stage, ``FROM`` first.
    """

    name: str | None
    image: str
    instructions: tuple[Instruction, ...]

    def refers_to(self, other: Stage, number: int) -> bool:
        """Return whether it is based on another stage, or copies from it. A variable in a name matches any text."""
        words = {self.image}
        for one in self.instructions:
            if one.keyword in {"COPY", "ADD", "RUN"}:
                words |= set(_OTHER_STAGE.findall(one.text.partition("\n")[0]))
        return any(_may_be(word, name) for word in words for name in (other.name, str(number)) if name)


def _may_be(word: str, name: str) -> bool:
    pattern = ".*".join(map(re.escape, REFERENCE.sub("\0", word.strip("\"'")).split("\0")))
    return re.fullmatch(pattern, name, re.IGNORECASE) is not None


def predefined(name: str) -> bool:
    """Return whether an argument is valid without a declaration."""
    return _PREDEFINED.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """A parsed Dockerfile.

    Attributes:
        name: Name for messages.
        instructions: Instructions in order.
    """

    name: str
    instructions: tuple[Instruction, ...]

    @classmethod
    def read(cls, path: Path, *, name: str) -> Dockerfile:
        """Read a file.

        Raises:
            SourceError: The file is not readable.
        """
        try:
            return cls.parse(path.read_text(encoding="utf-8"), name=name)
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{path} cannot be read: {error}", hint="give another tree with --llm-d PATH") from error

    @classmethod
    def parse(cls, text: str, *, name: str) -> Dockerfile:
        """Parse a text.

        Raises:
            SourceError: The text ends within a heredoc.
        """
        return cls(name=name, instructions=tuple(read(text.removeprefix("\ufeff"), name)))

    @functools.cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """All declarations in order."""
        found: list[Argument] = []
        stage: int | None = None
        for instruction in self.instructions:
            if instruction.keyword == "FROM":
                stage = 0 if stage is None else stage + 1
            elif instruction.keyword == "ARG":
                for word in words(instruction.text):
                    name, equals, default = word.partition("=")
                    value = default if equals else None
                    found.append(Argument(name=name, default=value, line=instruction.line, stage=stage))
        return tuple(found)

    @functools.cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order."""
        starts = [number for number, one in enumerate(self.instructions) if one.keyword == "FROM"]
        found = []
        for start, end in zip(starts, [*starts[1:], len(self.instructions)], strict=True):
            match = _FROM.match(self.instructions[start].text)
            image, name = (match["image"], match["name"]) if match else ("", None)
            found.append(Stage(name=name, image=image, instructions=self.instructions[start:end]))
        return tuple(found)

    def stage(self, name: str) -> str | None:
        """Return the name of a stage in its spelling there, or None without such a stage."""
        return next((one.name for one in self.stages if one.name and one.name.lower() == name.lower()), None)

    def of_stage(self, name: str | None) -> Dockerfile:
        """Return the part that a build of one stage runs: the stage and all stages that it depends on.

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
        """Return the arguments and variables at the end of the last stage, as far as the Dockerfile states them.

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
            for word in words(instruction.text) if instruction.keyword in {"ARG", "ENV"} else ():
                name, equals, text = word.partition("=")
                value = expand(text, held) if equals else None
                if instruction.keyword == "ARG":
                    value = given.get(name, values.get(name) if value is None else value)
                held |= {} if value is None else {name: value}
        return held

    def unset(self, given: Mapping[str, str]) -> tuple[Argument, ...]:
        """Return the arguments that a stage declares and that have no value, the first declaration of each."""
        held = {one.name for one in self.arguments if one.default is not None} | given.keys() | AUTOMATIC
        found: dict[str, Argument] = {}
        for one in self.arguments:
            if one.stage is not None and one.name not in held:
                found.setdefault(one.name, one)
        return tuple(found.values())

    def mentions(self, name: str) -> bool:
        """Return whether an instruction refers to an argument."""
        return any(name in names_in(one.text) for one in self.instructions)

    @property
    def names(self) -> frozenset[str]:
        """The names of the declared arguments."""
        return frozenset(argument.name for argument in self.arguments)

    @property
    def global_arguments(self) -> tuple[Argument, ...]:
        """The declarations before the first ``FROM``."""
        return tuple(argument for argument in self.arguments if argument.stage is None)

    @property
    def shadowed(self) -> frozenset[str]:
        """The automatic arguments that BuildKit does not set, because they are declared before the first ``FROM``.

        A redeclaration in a stage takes the value from there, which is empty (BuildKit of Docker 26.1; llm-d at
        055360044cd8: ``TARGETPLATFORM``). Platforms with a default count too: it is the author's (llm-d of 2025).
        """
        return frozenset(
            one.name
            for one in self.global_arguments
            if one.name in AUTOMATIC and (one.default is None or one.name.endswith("PLATFORM"))
        )

    def reaches_a_stage(self, name: str) -> bool:
        """Return whether an argument has an effect: it is declared in a stage, or used before or by a ``FROM``."""
        in_stage = any(argument.name == name for argument in self.arguments if argument.stage is not None)
        texts = [argument.default or "" for argument in self.global_arguments]
        texts += [instruction.text for instruction in self.instructions if instruction.keyword == "FROM"]
        return in_stage or any(name in names_in(text) for text in texts)

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the values of the arguments before the first ``FROM``, without those that have none."""
        values: dict[str, str] = {}
        for argument in self.global_arguments:
            if argument.name in given:
                values[argument.name] = given[argument.name]
            elif argument.default is not None:
                values[argument.name] = expand(argument.default, values)
        return values

    def value(self, name: str, given: Mapping[str, str]) -> str | None:
        """Return an argument's value in the last stage that declares it, or None without a value."""
        values = self.values(given)
        found = values.get(name)
        for argument in self.arguments:
            if argument.name == name and argument.stage is not None:
                own = None if argument.default is None else expand(argument.default, values)
                found = given.get(name, values.get(name) if own is None else own)
        return found

    def late(self, given: Mapping[str, str]) -> dict[str, tuple[str, Argument]]:
        """Return the arguments before the first ``FROM`` whose default refers to a later declaration.

        BuildKit uses an empty value there (llm-d at 055360044cd8: ``BUILD_BASE_IMAGE_SUFFIX``).

        Returns:
            The intended value and the later declaration, by name.
        """
        final = self.values(given)
        found: dict[str, tuple[str, Argument]] = {}
        seen: set[str] = set()
        for argument in self.global_arguments:
            later = {
                one.name: one for one in self.global_arguments if one.line > argument.line and one.name not in seen
            }
            names = [name for name in names_in(argument.default or "") if name in later and name in final]
            if names and argument.name not in given:
                found[argument.name] = (expand(argument.default or "", final), later[names[0]])
            seen.add(argument.name)
        return found


def with_secret(text: str, *, name: str, secret_id: str, target: str, variables: Iterable[str]) -> str:
    """Return a Dockerfile whose ``RUN`` steps have a secret and variables with its path. Neither stays in the image.

    Args:
        text: Text of the Dockerfile.
        name: Name for messages.
        secret_id: Id of the secret.
        target: Mount path of the secret.
        variables: Variables to set to ``target``.
    """
    lines = text.splitlines()
    for instruction in reversed(Dockerfile.parse(text, name=name).instructions):
        if instruction.keyword == "RUN":
            mount = f"--mount=type=secret,id={secret_id},target={target}"
            first = lines[instruction.line - 1]
            lines[instruction.line - 1] = re.sub(r"^(\s*\w+)", rf"\1 {mount}", first, count=1)
        elif instruction.keyword == "FROM":
            # An ARG is set for the stage's steps, but not in the image.
            words = " ".join(f"{variable}={target}" for variable in variables)
            lines.insert(instruction.last, f"ARG {words}")
    return "\n".join(lines) + "\n"
