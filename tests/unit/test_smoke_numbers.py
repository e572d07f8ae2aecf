"""Numbers compared: what counts as the same, and what is said of what does not."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build.gate import verdict
from smoke.server import numbers, tiny_model
from smoke.server.numbers import Record, Step
from smoke.suite import recorded
from tests.standin.verdicts import passing
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TITLE = numbers.PROMPTS[0].title
COLD = numbers.PROMPTS[-1].title
TOLERANCE = 0.001
CONTEXT = 512

SEEDS = st.integers(0, 2**32 - 1)


def step(scores: NDArray[np.float64], taken: int | None = None) -> Step:
    """What a server says of a token, by the scores of all tokens."""
    logarithms = scores - np.log(np.exp(scores).sum())
    token = int(logarithms.argmax()) if taken is None else taken
    likeliest = [*np.argsort(logarithms)[::-1][:5], token]
    return Step(token=str(token), top={str(one): float(logarithms[one]) for one in likeliest})


def scores_of(seed: int, steps: int = 6) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 2.5, (steps, 40))


@settings(deadline=None)
@given(seed=SEEDS, ties=st.booleans())
def test_noise_within_the_tolerance_passes_also_where_it_breaks_a_tie(seed: int, ties: bool) -> None:  # noqa: FBT001
    scores, generator = scores_of(seed), np.random.default_rng(seed + 1)
    if ties:
        order = np.argsort(scores[2])
        scores[2, order[-2]] = scores[2, order[-1]]
    # Scores that move by a third of it move log-probabilities by two thirds at most.
    noisy = scores + generator.uniform(-TOLERANCE / 3, TOLERANCE / 3, scores.shape)
    before, now = (tuple(map(step, one)) for one in (scores, noisy))
    assert numbers.first({TITLE: before}, {TITLE: now}, tolerance=TOLERANCE) is None


@settings(deadline=None)
@given(seed=SEEDS, number=st.integers(0, 5), rank=st.integers(1, 5), by=st.floats(2 * TOLERANCE, 5))
def test_one_log_probability_that_moved_further_is_found(seed: int, number: int, rank: int, by: float) -> None:
    scores = scores_of(seed)
    before = tuple(map(step, scores))
    top = before[number].top
    moved = sorted(top, key=lambda token: top[token])[-rank]
    now = list(before)
    now[number] = replace(before[number], top={**top, moved: top[moved] - by})
    found = numbers.first({TITLE: before}, {TITLE: tuple(now)}, tolerance=TOLERANCE)
    assert found is not None
    assert (found.title, found.number) == (TITLE, number + 1)
    assert found.size == pytest.approx(by)


@settings(deadline=None)
@given(seed=SEEDS)
def test_another_token_than_the_likeliest_is_found(seed: int) -> None:
    scores = scores_of(seed)
    order = np.argsort(scores[3])
    scores[3, order[-1]] += 1
    before, now = (tuple(step(one) for one in scores) for _ in range(2))
    now = (*now[:3], step(scores[3], taken=int(order[-3])), *now[4:])
    found = numbers.first({TITLE: before}, {TITLE: now}, tolerance=TOLERANCE)
    assert found is not None
    assert (found.number, found.before, found.now) == (4, str(order[-1]), str(order[-3]))
    assert f"token 4 is {order[-3]}, not {order[-1]}" in str(found)


def test_what_follows_a_tie_is_another_question() -> None:
    tie = np.array([3.0, 3.0, 1.0, 0.0, -1.0, -2.0])
    before = (step(tie, taken=0), step(np.arange(6.0)))
    now = (step(tie, taken=1), step(-np.arange(6.0)))
    assert numbers.first({TITLE: before}, {TITLE: now}, tolerance=TOLERANCE) is None


def test_a_cold_sample_may_take_what_is_nearly_as_likely_and_nothing_else() -> None:
    scores = np.array([3.0, 2.9, 1.0, 0.0, -1.0, -2.0])
    before = (step(scores, taken=0),)
    assert numbers.first({COLD: before}, {COLD: (step(scores, taken=1),)}, tolerance=TOLERANCE) is None
    assert numbers.first({TITLE: before}, {TITLE: (step(scores, taken=1),)}, tolerance=TOLERANCE)
    assert numbers.first({COLD: before}, {COLD: (step(scores, taken=2),)}, tolerance=TOLERANCE)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_difference(value: float) -> None:
    before = (step(np.arange(6.0)),)
    now = (replace(before[0], top={**before[0].top, "4": value}),)
    assert numbers.worst({TITLE: before}, {TITLE: now}).size == math.inf


@pytest.mark.parametrize("now", [(), (step(np.arange(6.0)),) * 3])
def test_an_answer_of_another_length_is_a_difference(now: tuple[Step, ...]) -> None:
    assert numbers.worst({TITLE: (step(np.arange(6.0)),) * 2}, {TITLE: now}).size == math.inf


def test_of_several_prompts_the_one_that_is_farthest_off_is_told_by_its_first_token() -> None:
    before = {prompt.title: tuple(map(step, scores_of(1))) for prompt in numbers.PROMPTS}
    far = numbers.PROMPTS[3].title
    now = dict(before)
    for title, by in ((numbers.PROMPTS[1].title, 0.01), (far, 0.02)):
        now[title] = tuple(
            replace(one, top={token: value - by * number for token, value in one.top.items()})
            for number, one in enumerate(before[title])
        )
    found = numbers.first(before, now, tolerance=TOLERANCE)
    assert found is not None
    assert (found.title, found.number) == (far, 2)


def test_prompts_are_twenty_that_fit_and_fill_several_blocks() -> None:
    assert len({prompt.title for prompt in numbers.PROMPTS}) == len({prompt.tokens for prompt in numbers.PROMPTS}) == 20
    lengths = [len(prompt.tokens) for prompt in numbers.PROMPTS]
    assert max(lengths) + 8 <= CONTEXT
    assert sum(length > 256 for length in lengths) >= 5
    assert {token for prompt in numbers.PROMPTS for token in prompt.tokens} <= set(tiny_model.QUIET)


RECORD = Record(place="here", spread=0.0, answers={TITLE: (step(np.arange(6.0)),)})


def test_a_base_with_a_wider_spread_allows_more() -> None:
    assert RECORD.tolerance("cpu") == TOLERANCE
    assert replace(RECORD, spread=0.1).tolerance("cuda") == pytest.approx(0.4)
    assert RECORD.tolerance("cuda") == numbers.TOLERANCE["cuda"]


def test_a_record_is_what_was_kept_with_the_verdict(tmp_path: Path) -> None:
    base = FakeEngine().hold("llm-d-dev:nightly", kind="base")
    verdict.record(tmp_path, passing(base, **recorded.entry(RECORD)))
    assert recorded.of(tmp_path, base, place="here") == RECORD
    assert "another engine" in str(recorded.of(tmp_path, base, place="there"))


@pytest.mark.parametrize("entry", [{}, {"record": None}, {"record": {"place": "here"}}, {"record": {"answers": 1}}])
def test_a_verdict_without_numbers_compares_with_nothing(tmp_path: Path, entry: dict[str, object]) -> None:
    base = FakeEngine().hold("llm-d-dev:nightly", kind="base")
    verdict.record(tmp_path, passing(base, **entry))
    assert str(recorded.of(tmp_path, base, place="here")).startswith("not compared: ")


def test_without_a_base_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    assert str(recorded.of(tmp_path, None, place="here")).startswith("not compared: ")


def test_a_spread_without_bound_is_no_record() -> None:
    with pytest.raises(ValueError, match="finite"):
        Record(**{**asdict(RECORD), "spread": math.inf})
