"""The choice of the flavor of bases: the requested one, or the one that fits the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.engine import names
from build.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.context import Context


AUTO = "auto"
"""The value for the flavor that fits the engine."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A flavor with the reason for its choice.

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
    """Return the flavor to use. For :data:`AUTO`, take the one that fits the engine and show a note.

    Args:
        context: Console and engine.
        asked: Requested flavor, or :data:`AUTO`.

    Raises:
        EngineError: The choice needs the engine, and no engine answers.
    """
    if asked != AUTO:
        return Chosen(name=asked, why="as asked for", automatic=False)
    by = context.engine.capabilities.passes_gpus
    why = f"the engine can pass a GPU ({by})" if by else "the engine cannot pass a GPU"
    return _said(context, Chosen(name=names.CUDA if by else names.CPU, why=why, automatic=True))


def chosen_without_engine(context: Context, asked: str) -> Chosen:
    """Choose like :func:`chosen`, but take cpu for ``auto`` if no engine answers."""
    try:
        return chosen(context, asked)
    except EngineError as error:
        return _said(context, Chosen(name=names.CPU, why=error.what, automatic=True))


def implied(asked: str, given: Mapping[str, Sequence[str]]) -> Chosen | None:
    """Return the flavor whose own options were given, or None without such options.

    Args:
        asked: Requested flavor, or :data:`AUTO`.
        given: Given options, by the flavor that they belong to.

    Raises:
        UsageError: The options belong to another flavor than the requested one, or to several.
    """
    found = {name: ", ".join(words) for name, words in given.items() if words}
    for name, words in found.items():
        if asked not in (AUTO, name):
            raise UsageError(f"{words} is for bases of the {name} flavor, not of {asked}", hint=f"add --flavor {name}")
    if len(found) > 1:
        raise UsageError(
            "; ".join(f"{words} is for bases of the {name} flavor" for name, words in found.items()),
            hint="leave out the options of one flavor",
        )
    return next((Chosen(name=name, why=f"{words} was given", automatic=False) for name, words in found.items()), None)


def _said(context: Context, choice: Chosen) -> Chosen:
    context.console.note(str(choice))
    return choice
