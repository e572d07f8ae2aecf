"""The build arguments of a base with their origins, checked before the build."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from build.errors import SourceError, UsageError
from build.llmd import needs
from build.llmd.dockerfile import predefined

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from build.llmd.dockerfile import Dockerfile
    from build.llmd.needs import Missing
    from build.llmd.versions import Unread

_NAME = re.compile(r"[A-Za-z_]\w*")
_COMMAND_LINE = "--build-arg"


@dataclass(frozen=True, kw_only=True)
class Given:
    """One build argument.

    Attributes:
        name: Name of the argument.
        value: Value of the argument.
        origin: Origin of the value, ``file:line`` or in words.
        remark: Remark for the reader of the plan.
    """

    name: str
    value: str
    origin: str
    remark: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the document for ``--json``."""
        found = {"name": self.name, "value": self.value, "from": self.origin}
        return found if self.remark is None else {**found, "remark": self.remark}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """All build arguments of a build.

    Attributes:
        given: Arguments with a given value, sorted by name.
        defaults: The Dockerfile's defaults for the others.
        left_out: Versions of the tree that this Dockerfile does not declare.
        unset: Arguments that a stage declares and that have no value.
    """

    given: tuple[Given, ...]
    defaults: tuple[Given, ...]
    left_out: tuple[Given, ...]
    unset: tuple[Given, ...]

    @property
    def values(self) -> dict[str, str]:
        """The given values by name."""
        return {one.name: one.value for one in self.given}

    @property
    def remarks(self) -> tuple[str, ...]:
        """The remarks for the reader of the plan, one sentence each."""
        return tuple(f"{one.name}: {one.remark}" for one in (*self.given, *self.unset) if one.remark)


def parse(words: Iterable[str]) -> tuple[Given, ...]:
    """Parse ``NAME=VALUE`` words of the command line. The last one of each name counts.

    Raises:
        UsageError: A word has another form.
    """
    found: dict[str, Given] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise UsageError(f"{_COMMAND_LINE} {word!r} is not NAME=VALUE", hint=f"example: {_COMMAND_LINE} MAX_JOBS=8")
        found[name] = Given(name=name, value=value, origin=_COMMAND_LINE)
    return tuple(found.values())


def choose(
    dockerfile: Dockerfile,
    *,
    versions: Sequence[Given],
    decided: Sequence[Given],
    asked: Sequence[Given],
    unread: Sequence[Unread] = (),
) -> Arguments:
    """Merge all arguments of a build. Later sources override earlier ones.

    Args:
        dockerfile: Dockerfile that declares the arguments.
        versions: Versions that the tree states for all its Dockerfiles.
        decided: Arguments that the nightly sets.
        asked: Arguments from settings and command line.
        unread: Lines of the tree's version files that were not understood.

    Raises:
        UsageError: A requested argument has no effect in this Dockerfile.
        SourceError: The Dockerfile does not declare an argument that the nightly sets, or a required argument has no
            value, or its line was not understood. The message names file and line.
    """
    _require_declared(dockerfile, decided, SourceError, hint="give a commit of llm-d that declares it with --llm-d-ref")
    _require_declared(dockerfile, asked, UsageError, hint="correct the name, or leave it out")
    for one in asked:
        if not predefined(one.name) and not dockerfile.reaches_a_stage(one.name):
            raise UsageError(
                f"{one.name} ({one.origin}) has no effect: {_place(dockerfile, one.name)} declares it before the first "
                "FROM and no stage does",
                hint="leave it out",
            )
    left_out = tuple(one for one in versions if one.name not in dockerfile.names)
    merged = {one.name: one for one in versions if one not in left_out}
    for one in (*decided, *asked):
        merged[one.name] = _instead(one, merged.get(one.name) or _default(dockerfile, one.name))
    _require_read(dockerfile, [one for one in unread if one.name not in merged])
    values = {one.name: one.value for one in merged.values()}
    for name, (value, source) in dockerfile.late(values).items():
        # BuildKit would use an empty value.
        merged[name] = Given(name=name, value=value, origin=f"{dockerfile.name}:{source.line} ({source.name})")
    given = tuple(merged[name] for name in sorted(merged))
    values = {one.name: one.value for one in given}
    _require_complete(dockerfile, needs.missing(dockerfile, values))
    return Arguments(
        given=given,
        defaults=_defaults(dockerfile, values),
        left_out=left_out,
        unset=_unset(dockerfile, values),
    )


def _instead(one: Given, before: Given | None) -> Given:
    """Return an argument, with a remark if it replaces another value."""
    if before is None or before.value == one.value:
        return one
    return replace(one, remark=f"instead of {before.value or 'nothing'} ({before.origin})")


def _default(dockerfile: Dockerfile, name: str) -> Given | None:
    value = dockerfile.value(name, {})
    if value is None:
        return None
    line = [one.line for one in dockerfile.arguments if one.name == name and one.default is not None][-1]
    return Given(name=name, value=value, origin=f"{dockerfile.name}:{line}")


def _unset(dockerfile: Dockerfile, given: Mapping[str, str]) -> tuple[Given, ...]:
    seen, unseen = "the Dockerfile handles that", "whether a step needs one is unknown"
    return tuple(
        Given(
            name=one.name,
            value="",
            origin=f"{dockerfile.name}:{one.line}",
            remark=f"has no value ({dockerfile.name}:{one.line}); {seen if dockerfile.mentions(one.name) else unseen}",
        )
        for one in sorted(dockerfile.unset(given), key=lambda one: one.name)
    )


def _require_read(dockerfile: Dockerfile, unread: Sequence[Unread]) -> None:
    for one in unread:
        if one.name in dockerfile.names:
            raise SourceError(
                f"{one.place} needs a shell to evaluate: {one.text}",
                hint=f"give its value with {_COMMAND_LINE} {one.name}=VALUE",
            )


def _defaults(dockerfile: Dockerfile, given: Mapping[str, str]) -> tuple[Given, ...]:
    lines = {one.name: one.line for one in dockerfile.arguments if one.default is not None and one.name not in given}
    values = {name: dockerfile.value(name, given) for name in lines}
    return tuple(
        Given(name=name, value=value, origin=f"{dockerfile.name}:{lines[name]}")
        for name, value in sorted(values.items())
        if value is not None
    )


def _require_declared(
    dockerfile: Dockerfile, given: Sequence[Given], kind: type[SourceError | UsageError], *, hint: str
) -> None:
    for one in given:
        if one.name not in dockerfile.names and not predefined(one.name):
            near = difflib.get_close_matches(one.name, sorted(dockerfile.names), n=1)
            other = near[0] if near else dockerfile.arguments[-1].name if dockerfile.arguments else None
            instead = f"; {_place(dockerfile, other)} declares {other}" if other else ", nor any other"
            raise kind(f"{dockerfile.name} does not declare {one.name} (from {one.origin}){instead}", hint=hint)


def _place(dockerfile: Dockerfile, name: str) -> str:
    line = next(argument.line for argument in dockerfile.arguments if argument.name == name)
    return f"{dockerfile.name}:{line}"


def _require_complete(dockerfile: Dockerfile, missing: Sequence[Missing]) -> None:
    if missing:
        named = "; ".join(f"{dockerfile.name}:{one.line}: {one.name} ({one.why})" for one in missing)
        raise SourceError(
            f"required build arguments have no value: {named}",
            hint=f"give {_COMMAND_LINE} {missing[0].name}=VALUE; VALUE may be empty",
        )
