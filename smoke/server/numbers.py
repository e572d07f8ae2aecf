"""What the suite's own model says in numbers: asked for, kept in a base's verdict, compared with an overlay's.

Log-probabilities are natural logarithms. Where the likeliest tokens are as good as equal, either may be taken; what
follows then has another prompt and is not compared.

The tolerances were measured. On the CPU real vLLM 0.32.0 was asked 24 times by 3 rounds, on one and two threads, at
once and alone, with and without prefix caching: the largest difference was 0.00001. On a GPU vLLM computes in float16,
which on a processor put the same computation off by 0.007; there a base's own spread counts as well.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from smoke.server.tiny_model import QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import openai
    from openai.types import CompletionChoice

TOLERANCE = {"cpu": 0.001, "cuda": 0.05}
"""How far answers may be from a base's, by flavor."""

STEADY = {"cpu": 0.001, "cuda": 0.5}
"""How far answers of one server may be apart. A cached block of another prompt makes differences above 1."""

_SPREADS = 4
LENGTH = 8
"""Tokens of an answer."""

TOP = 5
"""How many log-probabilities are asked for, of each."""

_BLOCK = 128  # of the KV cache: vLLM's on the CPU (vllm/platforms/cpu.py, 0.32.0), a multiple of those on GPUs
_COLD = 0.02
# A token that is so many temperatures less likely than the best is sampled once in e**10 times.
_SURE = 10
_SEED = 7
_NUMBERED = "token_id:"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One question.

    Attributes:
        title: What it is, in words.
        tokens: Its tokens.
        temperature: 0, or so little that the answer must be the same.
    """

    title: str
    tokens: tuple[int, ...]
    temperature: float = 0.0


def _prompts() -> Iterator[Prompt]:
    """Make twenty prompts: short, around one block of the KV cache and over several, with shared blocks, and cold."""
    raw = np.random.PCG64(_SEED).random_raw(4096) % np.uint64(len(QUIET))
    left = iter([QUIET[int(number)] for number in raw])

    def some(length: int) -> tuple[int, ...]:
        return tuple(itertools.islice(left, length))

    for length in (1, 2, 3, 5, 9, 17, _BLOCK - 1, _BLOCK, _BLOCK + 1, 200, 300, 400, 500):
        yield Prompt(title=f"{length} tokens", tokens=some(length))
    one, two = some(_BLOCK), some(_BLOCK)
    # First, so that a cache that looks at a block alone takes this one's last block for the second of the next.
    yield Prompt(title="three blocks", tokens=one + some(_BLOCK) + two + some(10))
    yield Prompt(title="two of these blocks and 5 tokens", tokens=one + two + some(5))
    yield Prompt(title="two of these blocks and 40 tokens", tokens=one + two + some(40))
    yield Prompt(title="two of these blocks but for one token", tokens=one + two[:-1] + some(21))
    for length in (4, 20, 150):
        title = f"{length} tokens at temperature {_COLD}"
        yield Prompt(title=title, tokens=some(length), temperature=_COLD)


PROMPTS = tuple(_prompts())
"""What is asked."""

# Each costs as many steps as all together. The last differs from what is cached by the last token of a block.
_ALONE = (*PROMPTS[::3], PROMPTS[16])

_BY_TITLE = {prompt.title: prompt for prompt in PROMPTS}


@checked(frozen=True, kw_only=True)
class Step:
    """One token of an answer.

    Attributes:
        token: The token.
        top: Log-probabilities of the likeliest tokens and of this one.
    """

    token: str
    top: dict[str, float]


Answers = dict[str, tuple[Step, ...]]
"""An answer to each prompt, by its title."""


@checked(frozen=True, kw_only=True)
class Record:
    """What a base answered.

    Attributes:
        place: Digest of where it ran: engine, flavor and GPUs.
        spread: How far its own answers to the same prompts were apart.
        answers: Its answers.
    """

    place: str
    spread: float = Field(ge=0, allow_inf_nan=False)
    answers: Answers

    def tolerance(self, flavor: str) -> float:
        """How far an overlay's answers may be from these."""
        return max(TOLERANCE[flavor], _SPREADS * self.spread)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Answers of one server.

    Attributes:
        first: To all prompts at once.
        others: To these again: all at once, when they are cached, and some alone, when nothing is.
    """

    first: Answers
    others: tuple[Answers, ...]

    @property
    def worst(self) -> Difference:
        """The largest difference between them."""
        return max((worst(self.first, other) for other in self.others), key=lambda found: found.size)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where an answer leaves another one.

    Attributes:
        title: Of the prompt.
        number: Which token of the answer, from 1.
        before: That token in the one.
        now: That token in the other.
        size: The least that the log-probabilities must have moved by.
    """

    title: str
    number: int
    before: str
    now: str
    size: float

    def __str__(self) -> str:
        token = f"is {self.now}, not {self.before}" if self.now != self.before else f"{self.now}"
        return f"prompt of {self.title}: token {self.number} {token}, log-probabilities {self.size:.2g} apart"


# --- Asking ----------------------------------------------------------------------------------------------


async def ask(client: openai.AsyncOpenAI, model: str) -> Rounds:
    """Ask everything at once, twice, and some of it alone."""
    first = await _together(client, model)
    return Rounds(first=first, others=(await _together(client, model), await _alone(client, model)))


async def _together(client: openai.AsyncOpenAI, model: str) -> Answers:
    """Ask everything at once, but what has a seed by itself.

    A seed ends vLLM's worker on the CPU where a prompt is read in parts, as it is among many (0.32.0,
    vllm/v1/worker/gpu_model_runner.py: "CPU Generator does not use offset").
    """
    answers: Answers = {}
    for _, group in itertools.groupby(PROMPTS, key=lambda prompt: prompt.temperature):
        answers |= await _ask(client, model, list(group))
    return answers


async def _alone(client: openai.AsyncOpenAI, model: str) -> Answers:
    """Ask some of it, one prompt after the other, each as if nothing had been asked before."""
    answers: Answers = {}
    for prompt in _ALONE:
        # What was cached of other prompts is not taken for one with another salt.
        answers |= await _ask(client, model, [prompt], cache_salt=prompt.title)
    return answers


async def _ask(client: openai.AsyncOpenAI, model: str, prompts: list[Prompt], **further: str) -> Answers:
    answer = await client.completions.create(
        model=model,
        prompt=[list(prompt.tokens) for prompt in prompts],
        max_tokens=LENGTH,
        temperature=prompts[0].temperature,
        seed=_SEED,
        logprobs=TOP,
        extra_body={"ignore_eos": True, "return_tokens_as_token_ids": True, **further},
    )
    choices = sorted(answer.choices, key=lambda choice: choice.index)
    return {prompt.title: _steps(choice) for prompt, choice in zip(prompts, choices, strict=True)}


def _steps(choice: CompletionChoice) -> tuple[Step, ...]:
    found = choice.logprobs
    assert found is not None, "the answer has no logprobs"
    columns = found.tokens or (), found.token_logprobs or (), found.top_logprobs or ()
    return tuple(_step(token, {**top, token: logprob}) for token, logprob, top in zip(*columns, strict=True))


def _step(token: str, top: Mapping[str, float]) -> Step:
    """A step of an answer, without what vLLM writes before a token's number."""
    return Step(
        token=token.removeprefix(_NUMBERED), top={name.removeprefix(_NUMBERED): value for name, value in top.items()}
    )


# --- Comparing -------------------------------------------------------------------------------------------


def worst(before: Answers, now: Answers) -> Difference:
    """The largest difference of answers from those of another round, to prompts that are in it."""
    found = [one for title, steps in now.items() for one in _differences(title, before.get(title, ()), steps)]
    return max(found, key=lambda one: one.size)


def first(before: Answers, now: Answers, *, tolerance: float) -> Difference | None:
    """The first difference that is larger than a tolerance, of the prompt with the largest; None if there is none."""
    found = worst(before, now)
    if found.size <= tolerance:
        return None
    title = found.title
    return next(one for one in _differences(title, before.get(title, ()), now[title]) if one.size > tolerance)


def _differences(title: str, before: tuple[Step, ...], now: tuple[Step, ...]) -> Iterator[Difference]:
    """One for each token, until the answers part: what follows then has another prompt."""
    slack = _SURE * _BY_TITLE[title].temperature if title in _BY_TITLE else 0.0
    for number in range(1, max(len(before), len(now)) + 1):
        if number > min(len(before), len(now)):
            yield Difference(title=title, number=number, before="there", now="missing", size=math.inf)
            return
        one, other = before[number - 1], now[number - 1]
        size = max(_distance(one.top, other.top), (_lost(one, other.token) - slack) / 2)
        yield Difference(title=title, number=number, before=one.token, now=other.token, size=size)
        if one.token != other.token:
            return


def _lost(step: Step, token: str) -> float:
    """How much less likely a token was than the one that was taken, at least. A tie of so much may flip."""
    return step.top[step.token] - step.top.get(token, min(step.top.values()))


def _distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """How far log-probabilities are apart, at least: a token that is not listed has no more than the last that is."""
    if not all(map(math.isfinite, (*one.values(), *other.values()))):
        return math.inf
    least = min(one.values()), min(other.values())
    return max(
        abs(one[token] - other[token])
        if token in one and token in other
        else max(0.0, one[token] - least[1] if token in one else other[token] - least[0])
        for token in one.keys() | other.keys()
    )
