"""Which flavor of bases is meant: the one that is asked for, or the one that fits the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.engine import names
from build.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.context import Context


AUTO = "auto"
"""Instead of a flavor: the one that fits the engine."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A flavor, and why it is that one.

    Attributes:
        name: Of :data:`build.engine.names.FLAVORS`.
        why: The reason, in words.
        automatic: Whether the engine decided.
    """

    name: str
    why: str
    automatic: bool

    def __str__(self) -> str:
        """One line for a person."""
        return f"flavor {self.name}: {self.why}"


def chosen(context: Context, asked: str) -> Chosen:
    """The flavor that is meant; for :data:`AUTO` the one that fits the engine, which is said.

    Args:
        context: Console and engine.
        asked: The flavor that is asked for, or :data:`AUTO`.

    Raises:
        EngineError: The engine has to be asked, and none answers.
    """
    if asked != AUTO:
        return Chosen(name=asked, why="as asked for", automatic=False)
    by = context.engine.capabilities.passes_gpus
    why = f"the engine can pass a GPU ({by})" if by else "the engine can pass no GPU"
    return _said(context, Chosen(name=names.CUDA if by else names.CPU, why=why, automatic=True))


def chosen_without_engine(context: Context, asked: str) -> Chosen:
    """As :func:`chosen`, for what needs no engine: where none answers, ``auto`` is cpu."""
    try:
        return chosen(context, asked)
    except EngineError as error:
        return _said(context, Chosen(name=names.CPU, why=error.what, automatic=True))


def implied(asked: str, given: Mapping[str, Sequence[str]]) -> Chosen | None:
    """The flavor whose own options were given; None where none was.

    Args:
        asked: The flavor that is asked for, or :data:`AUTO`.
        given: Options that were given, by the flavor that they belong to.

    Raises:
        UsageError: They belong to another flavor than the one that is asked for, or to several.
    """
    found = {name: ", ".join(words) for name, words in given.items() if words}
    for name, words in found.items():
        if asked not in (AUTO, name):
            raise UsageError(f"{words} is for bases of the {name} flavor, not of {asked}", hint=f"add --flavor {name}")
    if len(found) > 1:
        raise UsageError(
            "; ".join(f"{words} is for bases of the {name} flavor" for name, words in found.items()),
            hint="leave out those of one flavor",
        )
    return next((Chosen(name=name, why=f"{words} was given", automatic=False) for name, words in found.items()), None)


def _said(context: Context, choice: Chosen) -> Chosen:
    context.console.note(str(choice))
    return choice
