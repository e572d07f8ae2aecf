"""The numbers that the stand-in answers: made up of the tokens before, the same every time.

Part of the stand-in's source tree: standard library only.
"""

from __future__ import annotations

import random
from typing import Any

VOCABULARY = 258
SHIFT = 0.0
"""By how much the log-probabilities of one token in twenty are off."""


def answer(tokens: list[int], length: int, top: int) -> list[dict[str, float]]:
    """The likeliest tokens after some tokens, with their log-probabilities, step by step; the first is taken."""
    steps = []
    for _ in range(length):
        made = random.Random(repr(tokens))  # noqa: S311 - no secret
        names = made.sample(range(VOCABULARY), top)
        values = sorted((-made.uniform(0.5, 6) for _ in names), reverse=True)
        shift = SHIFT if made.random() < 0.05 else 0.0
        steps.append({f"token_id:{token}": value - shift for token, value in zip(names, values, strict=True)})
        tokens = [*tokens, names[0]]
    return steps


def logprobs(steps: list[dict[str, float]]) -> dict[str, Any]:
    """These steps as a choice of a completion has them."""
    taken = [next(iter(step)) for step in steps]
    return {
        "tokens": taken,
        "token_logprobs": [step[token] for step, token in zip(steps, taken, strict=True)],
        "top_logprobs": steps,
        "text_offset": [0] * len(steps),
    }
