"""The server answers the openai client as OpenAI's API has it, and refuses as vLLM does."""

from __future__ import annotations

import asyncio
import json
import math
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import openai
import pytest

from smoke import model
from smoke.launch import MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionUserMessageParam

    from smoke.server import Server

_PROMPT = "Go on: abc"
_MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": _PROMPT}]
_LENGTH = 16
_LONGEST = 2**21
"""Characters of a prompt that is longer than any context, for a server that does not say how long its own is."""
_AT_ONCE = 32
_IDLE_S = 5.0
_POLL_S = 0.1


def _complete(client: openai.OpenAI, name: str) -> openai.types.Completion:
    return client.completions.create(model=name, prompt=_PROMPT, max_tokens=_LENGTH, temperature=0)


def _chat(client: openai.OpenAI, name: str) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(model=name, messages=_MESSAGES, max_tokens=_LENGTH, temperature=0)


def _assert_adds_up(usage: CompletionUsage | None, *, finish_reason: str | None, prompt_tokens: int) -> None:
    assert usage is not None, "the answer has no usage"
    said = f"usage says {usage.prompt_tokens} + {usage.completion_tokens} = {usage.total_tokens} tokens"
    assert usage.prompt_tokens == prompt_tokens, f"{said}, the prompt has {prompt_tokens}"
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, said
    assert 0 < usage.completion_tokens <= _LENGTH, f"{said}, {_LENGTH} were allowed"
    cut_off = usage.completion_tokens == _LENGTH
    assert (finish_reason == "length") == cut_off, f"{said}, but the finish reason is {finish_reason!r}"


def _tokens(server: Server, **prompt: Any) -> list[int]:  # noqa: ANN401 - as the route takes it
    answer = server.post("/tokenize", {"model": server.model, **prompt})
    assert answer.ok, f"/tokenize answered {answer.status} {answer.text}"
    tokens: list[int] = answer.json()["tokens"]
    return tokens


def _assert_right(text: str | None) -> None:
    expected = model.continuation(_PROMPT, _LENGTH)
    assert text == expected, f"{_PROMPT!r} went on with {text!r}, not {expected!r}"


def _assert_refused(error: openai.APIStatusError, *, code: int) -> None:
    body: Any = error.body
    assert error.status_code == code, f"it was refused with {error.status_code}"
    assert isinstance(body, dict), f"the body is no error of vLLM's: {body!r}"
    assert body.get("message"), f"the error has no message: {body!r}"
    assert body.get("type"), f"the error has no type: {body!r}"
    assert body.get("code") == code, f"the error's code is not {code}: {body!r}"


def test_models(client: openai.OpenAI, *, foreseeable: bool) -> None:
    """The server lists the model that it serves."""
    names = [listed.id for listed in client.models.list()]
    assert names, "it lists no model"
    if foreseeable:
        assert names == [MODEL_NAME], f"it lists {names}, not {MODEL_NAME!r}"


def test_tokens(server: Server) -> None:
    """The server turns a text into tokens and these back into the text."""
    tokens = _tokens(server, prompt=_PROMPT, add_special_tokens=False)
    answer = server.post("/detokenize", {"model": server.model, "tokens": tokens})
    assert answer.ok, f"/detokenize answered {answer.status} {answer.text}"
    text = answer.json()["prompt"]
    assert text == _PROMPT, f"{_PROMPT!r} came back as {text!r}"


def test_completion(client: openai.OpenAI, name: str, server: Server) -> None:
    """The server completes a prompt, and the usage adds up."""
    answer = _complete(client, name)
    _assert_adds_up(
        answer.usage,
        finish_reason=answer.choices[0].finish_reason,
        prompt_tokens=len(_tokens(server, prompt=_PROMPT)),
    )


def test_completion_is_right(client: openai.OpenAI, name: str, *, foreseeable: bool) -> None:
    """The server completes a prompt with what the model's weights say."""
    if not foreseeable:
        pytest.skip("not applicable: what this model says is not known beforehand")
    _assert_right(_complete(client, name).choices[0].text)


def test_completion_stream(client: openai.OpenAI, name: str) -> None:
    """The server streams a completion in pieces that make up the whole, and its usage at the end."""
    whole = _complete(client, name)
    with client.completions.create(
        model=name,
        prompt=_PROMPT,
        max_tokens=_LENGTH,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    pieces = [choice.text for chunk in chunks for choice in chunk.choices]
    _assert_streamed(pieces, whole.choices[0].text)
    assert chunks[-1].usage == whole.usage, f"the stream ended with {chunks[-1]!r}"


def test_chat(client: openai.OpenAI, name: str, server: Server) -> None:
    """The server answers a chat as the assistant, and the usage adds up."""
    answer = _chat(client, name)
    choice = answer.choices[0]
    assert choice.message.role == "assistant", f"it answered as {choice.message.role!r}"
    assert choice.message.content, "the answer is empty"
    _assert_adds_up(
        answer.usage,
        finish_reason=choice.finish_reason,
        prompt_tokens=len(_tokens(server, messages=_MESSAGES)),
    )


def test_chat_is_right(client: openai.OpenAI, name: str, *, foreseeable: bool) -> None:
    """The server answers a chat with what the model's template and weights say."""
    if not foreseeable:
        pytest.skip("not applicable: what this model says is not known beforehand")
    _assert_right(_chat(client, name).choices[0].message.content)


def test_chat_stream(client: openai.OpenAI, name: str) -> None:
    """The server streams the answer to a chat in pieces that make up the whole."""
    whole = _chat(client, name).choices[0].message.content
    with client.chat.completions.create(
        model=name, messages=_MESSAGES, max_tokens=_LENGTH, temperature=0, stream=True
    ) as stream:
        pieces = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
    _assert_streamed(pieces, whole)


def _assert_streamed(pieces: Sequence[str], whole: str | None) -> None:
    streamed = "".join(pieces)
    assert streamed == whole, f"the stream gave {streamed!r}, the whole is {whole!r}"
    assert len([piece for piece in pieces if piece]) > 1, "the stream came in one piece"


def test_length(client: openai.OpenAI, name: str) -> None:
    """The server stops after as many tokens as it was allowed, and says that this was why."""
    answer = client.completions.create(model=name, prompt=_PROMPT, max_tokens=3, temperature=0)
    assert answer.usage is not None, "the answer has no usage"
    said = answer.usage.completion_tokens, answer.choices[0].finish_reason
    assert said == (3, "length"), f"allowed 3 tokens, it gave {said[0]} and ended for {said[1]!r}"


def test_stop(client: openai.OpenAI, name: str) -> None:
    """The server stops before a stop sequence, and says that this was why."""
    whole = _complete(client, name).choices[0].text
    stop = whole[len(whole) // 2 :][:2]
    answer = client.completions.create(
        model=name, prompt=_PROMPT, max_tokens=_LENGTH, temperature=0, stop=[stop]
    ).choices[0]
    expected = whole[: whole.index(stop)]
    assert answer.text == expected, f"{whole!r} stopped at {stop!r} is {answer.text!r}, not {expected!r}"
    assert answer.finish_reason == "stop", f"it stopped for {answer.finish_reason!r}"


def test_n(client: openai.OpenAI, name: str) -> None:
    """The server gives as many answers as it was asked for, and counts the tokens of all."""
    answer = client.completions.create(
        model=name, prompt=_PROMPT, max_tokens=4, temperature=0.5, n=3, seed=1, extra_body={"ignore_eos": True}
    )
    numbers = sorted(choice.index for choice in answer.choices)
    assert numbers == [0, 1, 2], f"asked for 3 answers, it gave those numbered {numbers}"
    assert answer.usage is not None, "the answer has no usage"
    assert answer.usage.completion_tokens == 12, f"3 answers of 4 tokens are {answer.usage.completion_tokens} tokens"  # noqa: PLR2004


def test_logprobs(client: openai.OpenAI, name: str) -> None:
    """The server gives log-probabilities: none above 0, no more than 1 in all, and the likeliest token is taken."""
    choice = client.chat.completions.create(
        model=name, messages=_MESSAGES, max_tokens=4, temperature=0, logprobs=True, top_logprobs=5
    ).choices[0]
    assert choice.logprobs is not None, "the answer has no logprobs"
    tokens = choice.logprobs.content or []
    text = "".join(token.token for token in tokens)
    assert text == choice.message.content, f"the tokens make up {text!r}, the text is {choice.message.content!r}"
    for token in tokens:
        likeliest = max(token.top_logprobs, key=lambda top: top.logprob)
        _assert_probabilities(token.token, [top.logprob for top in token.top_logprobs])
        assert token.logprob == likeliest.logprob, f"{token.token!r} was taken, {likeliest.token!r} is likelier"


def _assert_probabilities(token: str, values: Iterable[float]) -> None:
    values = tuple(values)
    shown = ", ".join(f"{value:.3f}" for value in values)
    assert all(math.isfinite(value) and value <= 0 for value in values), f"at {token!r}: {shown} are no logarithms"
    total = sum(map(math.exp, values))
    assert total <= 1 + 1e-3, f"at {token!r}: the probabilities sum up to {total:.3f}"


def test_structured_output(client: openai.OpenAI, name: str) -> None:
    """The server keeps to a JSON schema."""
    allowed = ("yes", "no")
    schema: dict[str, object] = {"type": "string", "enum": allowed}
    text = (
        client.chat.completions.create(
            model=name,
            messages=_MESSAGES,
            max_tokens=2 * _LENGTH,
            temperature=0,
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        )
        .choices[0]
        .message.content
    )
    assert text in [json.dumps(word) for word in allowed], f"{text!r} is none of {allowed}"


def test_responses(client: openai.OpenAI, name: str, *, foreseeable: bool) -> None:
    """The server answers the responses API, and the usage adds up."""
    answer = client.responses.create(model=name, input=_PROMPT, max_output_tokens=_LENGTH, temperature=0)
    usage = answer.usage
    assert usage is not None, "the answer has no usage"
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens, f"the usage does not add up: {usage!r}"
    if foreseeable:
        _assert_right(answer.output_text)


def test_many_at_once(
    connect_async: Callable[[], openai.AsyncOpenAI], name: str, server: Server, *, foreseeable: bool
) -> None:
    """The server keeps requests apart that come at once, and drops one whose client went away."""
    prompts = [f"{_PROMPT}{chr(ord('A') + number)}" for number in range(_AT_ONCE)]
    texts = asyncio.run(_ask_at_once(connect_async, name, prompts))
    assert all(texts), f"{sum(not text for text in texts)} of {len(texts)} answers are empty"
    if foreseeable:
        expected = [model.continuation(prompt, _LENGTH) for prompt in prompts[1:]]
        wrong = [number for number, text in enumerate(texts) if text != expected[number]]
        assert not wrong, f"{len(wrong)} of {len(texts)} answers are wrong, such as {texts[wrong[0]]!r}"
        _assert_idle(server)


def _assert_idle(server: Server) -> None:
    deadline = time.monotonic() + _IDLE_S
    while server.load() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    assert not server.load(), f"{_IDLE_S:g} s after the last answer it still works on {server.load():g} requests"


async def _ask_at_once(connect: Callable[[], openai.AsyncOpenAI], name: str, prompts: Sequence[str]) -> list[str]:
    """Texts for all prompts but the first, whose answer is not waited for."""
    async with connect() as client:

        async def ask(prompt: str) -> str:
            answer = await client.completions.create(model=name, prompt=prompt, max_tokens=_LENGTH, temperature=0)
            return answer.choices[0].text

        stream = await client.completions.create(
            model=name, prompt=prompts[0], max_tokens=256, temperature=0, stream=True
        )
        others = [asyncio.create_task(ask(prompt)) for prompt in prompts[1:]]
        await anext(aiter(stream))
        await stream.close()
        return list(await asyncio.gather(*others))


def test_bad_parameter(client: openai.OpenAI, name: str) -> None:
    """The server refuses a parameter out of range with 400 and says why."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=name, prompt=_PROMPT, max_tokens=1, temperature=-1)
    _assert_refused(refused.value, code=400)


def test_too_long(client: openai.OpenAI, name: str, server: Server) -> None:
    """The server refuses a prompt longer than its context with 400 and says why."""
    # No tokenizer makes less than a token of a space and a changing letter.
    letters = (
        f" {chr(ord('a') + number % 26)}" for number in range(server.context + 1 if server.context else _LONGEST)
    )
    prompt = "".join(letters)
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=name, prompt=prompt, max_tokens=1)
    _assert_refused(refused.value, code=400)


def test_unknown_model(client: openai.OpenAI) -> None:
    """The server refuses a model that it does not serve with 404 and says why."""
    with pytest.raises(openai.NotFoundError) as refused:
        client.completions.create(model="no-such-model", prompt=_PROMPT, max_tokens=1)
    _assert_refused(refused.value, code=404)


def test_no_key(server: Server) -> None:
    """The server lets nobody in without an API key."""
    status = server.get("/v1/models", authorized=False).status
    assert status == HTTPStatus.UNAUTHORIZED, f"a request without a key was answered with {status}"


def test_wrong_key(connect: Callable[[str], openai.OpenAI]) -> None:
    """The server lets nobody in with another API key than its own."""
    with connect("wrong") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
