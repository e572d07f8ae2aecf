"""The server computes what its base computes, and the same each time: tokens and log-probabilities."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from smoke.server import numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    import openai

    from smoke.server.numbers import Rounds
    from smoke.suite.image_run import Run


@pytest.fixture(scope="module")
def rounds(connect_async: Callable[[], openai.AsyncOpenAI], name: str, *, foreseeable: bool) -> Rounds:
    """What the server answers."""
    if not foreseeable:
        pytest.skip("not applicable: what this model says is not known beforehand")

    async def ask() -> Rounds:
        async with connect_async() as client:
            return await numbers.ask(client, name)

    return asyncio.run(ask())


def test_steady(rounds: Rounds, run: Run) -> None:
    """The server gives a prompt the same numbers again, alone as among others, with and without a cache."""
    worst = rounds.worst
    assert worst.size <= numbers.STEADY[run.flavor], f"the same server, asked again: {worst}"


def test_as_base(rounds: Rounds, run: Run, note: Callable[[str], None]) -> None:
    """The server gives the numbers that its base gave, unless they are changed on purpose."""
    base = run.record_of_base(rounds)
    if isinstance(base, str):
        note(base)
        return
    difference = numbers.first(base.answers, rounds.first, tolerance=base.tolerance(run.flavor))
    if difference and run.options.numbers_changed:
        run.numbers = f"changed: {difference}"
        note(run.numbers)
        return
    assert difference is None, f"{difference}. Is that on purpose? --numbers changed"
