"""What a benchmark found, against its goal."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row.

    Attributes:
        name: What was measured.
        value: The figure, in ``unit``.
        goal: What it is to reach, in ``unit``.
        unit: Such as ``s`` or ``kB``; ``x`` for a ratio.
        at_least: Whether more is better.
        detail: The medians that a ratio was made of, and the like.
    """

    name: str
    value: float
    goal: float
    unit: str
    at_least: bool = False
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "figure": round(self.value, 3),
            "goal": self.goal,
            "unit": self.unit,
            "better": "more" if self.at_least else "less",
            "met": self.met,
            "detail": self.detail,
        }


def table(figures: Sequence[Figure]) -> Table:
    """For a person."""
    shown = Table("benchmark", "figure", "goal", "met", "detail")
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        shown.add_row(
            figure.name,
            f"{figure.value:.2f} {figure.unit}",
            f"{sign} {figure.goal:g} {figure.unit}",
            "[green]yes[/]" if figure.met else "[red]no[/]",
            figure.detail,
        )
    return shown


def medians(runs: int, **ways: Callable[[], Callable[[], object]]) -> dict[str, float]:
    """Median seconds of several ways to do a thing, taken in turns so that the machine's moods hit all alike.

    Args:
        runs: Repetitions of each, after one of each that does not count.
        ways: Each prepares a repetition and returns what is to be timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, prepare in ways.items():
            timed = prepare()
            # What the one before has left to be written to disk is not this one's.
            os.sync()
            start = time.monotonic()
            timed()
            if run:
                seconds[name].append(time.monotonic() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}
