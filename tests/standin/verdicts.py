"""Verdicts as a smoke run of today's suite gives them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from build.gate import demands, fingerprints
from build.gate.verdict import Verdict
from smoke.server.numbers import LENGTH, PROMPTS, TOP, Record, Step
from smoke.suite import recorded
from tests.standin import numbers

if TYPE_CHECKING:
    from build.engine.image import Image


def passing(image: Image, **configuration: Any) -> Verdict:  # noqa: ANN401 - any JSON value
    """A verdict that opens the gate, with another configuration if need be."""
    found = Verdict(
        image_id=image.id,
        diff_ids=image.diff_ids,
        passed=(),
        failed=(),
        configuration={"suite": fingerprints.rules(), "model": "f" * 64, "exact": True, "expect": [], **configuration},
        finished="2026-01-02T03:04:05Z",
    )
    return replace(found, passed=tuple(demands.missing(found, image)))


def numbered(step: dict[str, float]) -> Step:
    """A step of an answer by the numbers of its tokens."""
    top = {token.removeprefix("token_id:"): value for token, value in step.items()}
    return Step(token=next(iter(top)), top=top)


def numbers_on(host: str) -> Record:
    """What a server of the stand-in answers on an engine without GPUs."""
    answers = {
        prompt.title: tuple(numbered(step) for step in numbers.answer(list(prompt.tokens), LENGTH, TOP))
        for prompt in PROMPTS
    }
    return Record(place=recorded.place(host, "cpu", ()), spread=0.0, answers=answers)
