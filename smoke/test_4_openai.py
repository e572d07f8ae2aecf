"""The server answers the openai client as OpenAI's API has it, and refuses as vLLM does.

A check that is a coroutine is asked of each way that it names. They all run at once, before the first that is not.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import openai
import pytest

from smoke.server import tiny_model
from smoke.server.ask import LENGTH, PROMPT, Answer, Way
from smoke.server.launch import MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionUserMessageParam

    from smoke.server.ask import Asking
    from smoke.server.server import Server

_MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": PROMPT}]
_LONGEST = 2**21
"""Characters of a prompt that is longer than any context, for a server that does not say how long its own is."""
_AT_ONCE = 32
_LEAVINGS, _SEEN = 8, 10
_TRIES = 3
_POLL_S = 0.02
_LONG = 4096
_ROUNDING = 0.1
_FEWEST = 4
"""Tokens that a model must be sure of, so that answers can be compared."""
_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}

_WAYS = ("completions", "completions-stream", "chat", "chat-stream", "responses", "responses-stream")
_STREAMS = ("completions-stream", "chat-stream", "responses-stream")
_CHOICES = ("completions", "completions-stream", "chat", "chat-stream")
_CHATS = ("chat", "chat-stream", "responses", "responses-stream")


def _each(*words: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", [pytest.param(Way.parse(word), id=word) for word in words])


# --- What the client's own classes make of the answers ---------------------------------------------------


def _complete(client: openai.OpenAI, name: str) -> openai.types.Completion:
    return client.completions.create(model=name, prompt=PROMPT, max_tokens=LENGTH, temperature=0)


def _chat(client: openai.OpenAI, name: str) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(model=name, messages=_MESSAGES, max_tokens=LENGTH, temperature=0)


def _assert_sums_up(usage: CompletionUsage | None) -> None:
    assert usage is not None, "the answer has no usage"
    said = f"usage says {usage.prompt_tokens} + {usage.completion_tokens} = {usage.total_tokens} tokens"
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, said


def _assert_right(text: str | None) -> None:
    expected = tiny_model.continuation(PROMPT, LENGTH)
    assert text == expected, f"{PROMPT!r} went on with {text!r}, not {expected!r}"


def test_models(client: openai.OpenAI, *, foreseeable: bool) -> None:
    """The server lists the model that it serves."""
    names = [listed.id for listed in client.models.list()]
    assert names, "it lists no model"
    if foreseeable:
        assert names == [MODEL_NAME], f"it lists {names}, not {MODEL_NAME!r}"


def test_completion(client: openai.OpenAI, name: str) -> None:
    """The server completes a prompt, and the usage adds up."""
    answer = _complete(client, name)
    assert answer.choices, "the answer has no choice"
    _assert_sums_up(answer.usage)


def test_completion_is_right(client: openai.OpenAI, name: str, *, foreseeable: bool) -> None:
    """The server completes a prompt with what the model's weights say."""
    if not foreseeable:
        pytest.skip("not applicable: what this model says is not known beforehand")
    _assert_right(_complete(client, name).choices[0].text)


def test_completion_stream(client: openai.OpenAI, name: str) -> None:
    """The server streams a completion that the client reads to its end, with the usage there."""
    with client.completions.create(
        model=name,
        prompt=PROMPT,
        max_tokens=LENGTH,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    assert any(choice.text for chunk in chunks for choice in chunk.choices), "the stream brought no text"
    _assert_sums_up(chunks[-1].usage)


def test_chat(client: openai.OpenAI, name: str) -> None:
    """The server answers a chat as the assistant, and the usage adds up."""
    answer = _chat(client, name)
    message: Any = answer.choices[0].message
    assert message.role == "assistant", f"it answered as {message.role!r}"
    assert message.content or getattr(message, "reasoning", None), "the answer is empty"
    _assert_sums_up(answer.usage)


def test_chat_is_right(client: openai.OpenAI, name: str, *, foreseeable: bool) -> None:
    """The server answers a chat with what the model's template and weights say."""
    if not foreseeable:
        pytest.skip("not applicable: what this model says is not known beforehand")
    _assert_right(_chat(client, name).choices[0].message.content)


def test_chat_stream(client: openai.OpenAI, name: str) -> None:
    """The server streams the answer to a chat, as the assistant, and the client reads it to its end."""
    with client.chat.completions.create(
        model=name, messages=_MESSAGES, max_tokens=LENGTH, temperature=0, stream=True
    ) as stream:
        choices = [choice for chunk in stream for choice in chunk.choices]
    assert choices, "the stream brought no choice"
    assert choices[0].delta.role == "assistant", f"it answered as {choices[0].delta.role!r}"
    assert choices[-1].finish_reason, "the stream ended without a finish reason"


def test_responses(client: openai.OpenAI, name: str, *, foreseeable: bool) -> None:
    """The server answers the responses API, and the usage adds up."""
    answer = client.responses.create(model=name, input=PROMPT, max_output_tokens=LENGTH, temperature=0)
    usage = answer.usage
    assert usage is not None, "the answer has no usage"
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens, f"the usage does not add up: {usage!r}"
    if foreseeable:
        _assert_right(answer.output_text)


# --- Each property in each way to ask --------------------------------------------------------------------


async def _reference(asking: Asking, way: Way) -> tuple[str, int]:
    """The answer that others are compared with, and how many tokens were allowed."""
    answer, length = await asking.reference(way.api)
    if length < _FEWEST:
        pytest.skip("not asked: this model is not sure of its answer, and rounding may choose another one")
    return answer.text, length


@_each(*_WAYS)
async def test_usage(asking: Asking, way: Way) -> None:
    """An answer counts the tokens of its prompt and its own, a stream at its end, and says why it ended."""
    answer = await asking.ask(way, **(_USAGE if way.stream and way.api != "responses" else {}))
    usage = answer.usage
    assert usage is not None, "the answer has no usage"
    said = f"usage says {usage.prompt} + {usage.completion} = {usage.total} tokens"
    if asking.exact or way.api != "responses":
        messages = [{"role": "user", "content": asking.prompt}]
        prompt = {"prompt": asking.prompt} if way.api == "completions" else {"messages": messages}
        tokens = await asking.tokens(**prompt)
        assert usage.prompt == len(tokens), f"{said}, the prompt has {len(tokens)}"
    assert usage.total == usage.prompt + usage.completion, said
    assert 0 < usage.completion <= LENGTH, f"{said}, {LENGTH} were allowed"
    cut_off = usage.completion == LENGTH
    assert (answer.reasons == ("length",)) == cut_off, f"{said}, but the finish reasons are {answer.reasons}"


@_each(*_WAYS)
async def test_text(asking: Asking, way: Way) -> None:
    """At temperature 0 the answer is the same in each way and each time, and a stream's pieces make it up."""
    expected, length = await _reference(asking, way)
    answer = await asking.ask(way, length=length)
    assert answer.text == expected, f"it said {answer.text!r}, before that {expected!r}"
    pieces = "".join(answer.pieces)
    assert pieces == answer.text, f"the pieces make up {pieces!r}, the whole is {answer.text!r}"


@_each(*_STREAMS)
async def test_streamed(asking: Asking, way: Way) -> None:
    """A streamed answer comes in pieces. vLLM joins pieces that wait, so only a long answer in one piece is wrong."""
    longest = asking.server.context // 2 or LENGTH
    for length in (LENGTH, longest, longest):
        answer = await asking.ask(way, length=length, ignore_eos=True)
        if len(answer.pieces) > 1:
            return
    pytest.fail(f"a stream of {longest} tokens came in {len(answer.pieces)} pieces")


@_each("completions-stream", "chat-stream")
async def test_ends(asking: Asking, way: Way) -> None:
    """A stream says its end once, then its usage if that was asked for, then ``[DONE]``, and nothing more."""
    with_usage, without = await asyncio.gather(asking.ask(way, **_USAGE), asking.ask(way))
    for answer in (with_usage, without):
        events = answer.events
        assert events[-1:] == ("[DONE]",), f"the stream ended with {events[-1:]}, not [DONE]"
        assert events.count("[DONE]") == 1, f"the stream said [DONE] {events.count('[DONE]')} times"
        choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
        reasons = [choice.get("finish_reason") for choice in choices]
        assert all(reason is None for reason in reasons[:-1]), f"the finish reasons were {reasons}"
        assert reasons[-1], "the last chunk has no finish reason"
    counted = [bool(json.loads(event).get("usage")) for event in with_usage.events[:-1]]
    assert counted == [False] * (len(counted) - 1) + [True], f"usage was in chunks {counted}, not only in the last"
    last = json.loads(with_usage.events[-2])["choices"]
    assert not last, f"the chunk with the usage has choices: {last}"
    assert without.usage is None, f"usage was not asked for: {without.usage}"


@_each("responses-stream")
async def test_events(asking: Asking, way: Way) -> None:
    """A stream of the responses API numbers its events, opens with the response and ends with it."""
    events = [json.loads(event) for event in (await asking.ask(way)).events]
    kinds = [event["type"] for event in events]
    assert kinds[:1] == ["response.created"], f"the stream began with {kinds[:1]}"
    assert kinds[-1] in ("response.completed", "response.incomplete"), f"the stream ended with {kinds[-1]}"
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(len(events))), f"its events are numbered {numbers}"


@_each(*_WAYS)
async def test_length(asking: Asking, way: Way) -> None:
    """The server stops after as many tokens as it was allowed, and says that this was why."""
    answer = await asking.ask(way, length=3, ignore_eos=True, **(_USAGE if way.stream else {}))
    assert answer.usage is not None, "the answer has no usage"
    said = answer.usage.completion, answer.reasons
    assert said == (3, ("length",)), f"allowed 3 tokens, it gave {said[0]} and ended for {said[1]}"


@_each(*_WAYS)
async def test_stop(asking: Asking, way: Way) -> None:
    """The server stops before a stop sequence, and says that this was why."""
    whole, length = await _reference(asking, way)
    stop = whole[len(whole) // 2 :][:2]
    answer = await asking.ask(way, length=length, stop=[stop])
    expected = whole[: whole.index(stop)]
    assert answer.text == expected, f"{whole!r} stopped at {stop!r} is {answer.text!r}, not {expected!r}"
    assert answer.reasons == ("stop",), f"it stopped for {answer.reasons}"


@_each(*_CHOICES)
async def test_n(asking: Asking, way: Way) -> None:
    """The server gives as many answers as it was asked for, and counts the tokens of all."""
    answer = await asking.ask(way, length=4, temperature=0.5, n=3, ignore_eos=True, **(_USAGE if way.stream else {}))
    assert answer.numbers == (0, 1, 2), f"asked for 3 answers, it gave those numbered {answer.numbers}"
    assert answer.reasons == ("length",) * 3, f"the answers ended for {answer.reasons}"
    assert answer.usage is not None, "the answer has no usage"
    assert answer.usage.completion == 12, f"3 answers of 4 tokens are {answer.usage.completion} tokens"  # noqa: PLR2004


@_each(*_WAYS)
async def test_logprobs(asking: Asking, way: Way) -> None:
    """Log-probabilities are not above 0, no more than 1 in all, in order, and the likeliest token is taken."""
    answer = await asking.ask(way, length=4, logprobs=5)
    assert answer.tokens, "the answer has no logprobs"
    text = "".join(token.text for token in answer.tokens)
    if asking.exact:
        assert text == answer.text, f"the tokens make up {text!r}, the text is {answer.text!r}"
    for token in answer.tokens:
        _assert_probabilities(token.text, token.top)
        assert list(token.top) == sorted(token.top, reverse=True), f"at {token.text!r}: {token.top} are not in order"
        assert token.logprob == token.top[0], f"{token.text!r} with {token.logprob:.3f} was taken, not the likeliest"


def _assert_probabilities(token: str, values: Iterable[float]) -> None:
    values = tuple(values)
    shown = ", ".join(f"{value:.3f}" for value in values)
    assert values, f"at {token!r}: there are no logprobs"
    assert all(math.isfinite(value) and value <= 0 for value in values), f"at {token!r}: {shown} are no logarithms"
    total = sum(map(math.exp, values))
    assert total <= 1 + 1e-3, f"at {token!r}: the probabilities sum up to {total:.3f}"


@_each("completions", "chat")
async def test_prompt_logprobs(asking: Asking, way: Way) -> None:
    """The server gives log-probabilities of the prompt: of each token but the first."""
    answer = await asking.ask(way, length=1, prompt_logprobs=1, return_token_ids=True)
    document: dict[str, Any] = dict(answer.document)
    of_prompt = document if way.api == "chat" else document["choices"][0]
    rows, tokens = of_prompt["prompt_logprobs"], of_prompt.get("prompt_token_ids")
    assert rows, "the answer has no logprobs of the prompt"
    assert rows[0] is None, f"the first token has logprobs: {rows[0]}"
    assert answer.usage is None or len(rows) == answer.usage.prompt, f"{len(rows)} logprobs of {answer.usage}"
    for number, row in enumerate(rows[1:], start=1):
        _assert_probabilities(f"token {number} of the prompt", [one["logprob"] for one in row.values()])
        assert not tokens or str(tokens[number]) in row, f"logprobs of {list(row)}, the prompt has {tokens[number]}"


@_each(*_CHOICES)
async def test_echo(asking: Asking, way: Way) -> None:
    """With ``echo`` the answer begins with the prompt, or with the assistant's own last words."""
    prompt: Any = asking.prompt
    more: dict[str, Any] = {}
    begins = asking.prompt
    if way.api == "chat":
        if not asking.exact:
            pytest.skip("not asked: this model's chat template may not take an assistant's words to go on with")
        begins = "abc"
        prompt = [{"role": "user", "content": "x"}, {"role": "assistant", "content": begins}]
        more = {"add_generation_prompt": False, "continue_final_message": True}
    without, echoed = await asyncio.gather(
        asking.ask(way, prompt, length=4, **more), asking.ask(way, prompt, length=4, echo=True, **more)
    )
    assert not without.text.startswith(begins), f"without echo it said {without.text!r}"
    assert echoed.text.startswith(begins), f"with echo it said {echoed.text!r}, not {begins!r} first"
    if asking.exact:
        assert echoed.text == begins + without.text, f"with echo it said {echoed.text!r}, without {without.text!r}"


_KEEPING: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.01},
    "top_p": {"temperature": 2, "top_p": 1e-4},
    "top_k": {"temperature": 2, "top_k": 1},
    "min_p": {"temperature": 2, "min_p": 1.0},
}


@_each("completions", "chat", "responses")
@pytest.mark.parametrize("name", list(_KEEPING))
async def test_sampling(asking: Asking, way: Way, name: str) -> None:
    """A sampling parameter that leaves only the likeliest token gives the answer of temperature 0, others do not."""
    expected, length = await _reference(asking, way)
    kept = await asking.ask(way, length=length, **_KEEPING[name])
    assert kept.text == expected, f"with {_KEEPING[name]} it said {kept.text!r}, not {expected!r}"
    if name == "temperature":
        texts = [(await asking.ask(way, length=length, temperature=2)).text for _ in range(_TRIES)]
        assert set(texts) != {expected}, f"at temperature 2 it always said {expected!r}"


_PENALTIES = {"presence_penalty": 2, "frequency_penalty": 2, "repetition_penalty": 8}
_PAIRS = ("17", "4X")


@_each("completions", "chat", "responses")
async def test_logit_bias(asking: Asking, way: Way) -> None:
    """A token that is much favoured is always taken."""
    token = (await asking.tokens(prompt="7", add_special_tokens=False))[-1]
    answer = await asking.ask(way, length=6, logit_bias={str(token): 100}, ignore_eos=True)
    assert set(answer.text.split("7")) <= {"", " "}, f"of only '7' it made {answer.text!r}"
    assert "7" in answer.text, f"of only '7' it made {answer.text!r}"


@_each("completions", "chat", "responses")
@pytest.mark.parametrize("name", list(_PENALTIES))
async def test_penalty(asking: Asking, way: Way, name: str) -> None:
    """A penalty makes tokens rarer that were said before."""
    if not asking.exact:
        pytest.skip("not asked: how close this model's tokens are is not known")

    async def most(pair: str, **penalty: Any) -> int:  # noqa: ANN401 - as the routes take it
        tokens = [(await asking.tokens(prompt=word, add_special_tokens=False))[0] for word in pair]
        bias = dict(zip(map(str, tokens), (100, 99), strict=True))
        text = (await asking.ask(way, length=8, logit_bias=bias, ignore_eos=True, **penalty)).text
        assert set(text) <= set(pair), f"of only {pair!r} it made {text!r}"
        return max(map(text.count, pair))

    without, penalised = await asyncio.gather(
        asyncio.gather(*map(most, _PAIRS)), asyncio.gather(*(most(pair, **{name: _PENALTIES[name]}) for pair in _PAIRS))
    )
    said = f"the most frequent of two tokens came {without} times, with {name} {penalised} times"
    assert sum(penalised) < sum(without), said


_ALLOWED = ("yes", "no")
_STRUCTURES: dict[str, tuple[dict[str, Any], str]] = {
    "choice": ({"structured_outputs": {"choice": list(_ALLOWED)}}, "yes|no"),
    "regex": ({"structured_outputs": {"regex": "[a-c]{4}-[0-9]{2}"}}, "[a-c]{4}-[0-9]{2}"),
    "json": ({"schema": {"type": "string", "enum": list(_ALLOWED)}}, '"yes"|"no"'),
}


@_each(*_WAYS)
@pytest.mark.parametrize("kind", list(_STRUCTURES))
async def test_structured_output(asking: Asking, way: Way, kind: str) -> None:
    """The server keeps to a choice, to a regular expression and to a JSON schema."""
    parameters, form = _STRUCTURES[kind]
    answer = await asking.ask(way, length=32, **parameters)
    assert re.fullmatch(form, answer.text), f"{answer.text!r} is not of the form {form}"
    assert answer.reasons == ("stop",), f"it ended for {answer.reasons}"


_LETTERS = "naïve 漢字 😀 é."


@_each(*_WAYS)
async def test_letters(asking: Asking, way: Way) -> None:
    """Letters of several bytes come whole, whatever tokens and pieces they are in."""
    answer = await asking.ask(way, length=64, structured_outputs={"choice": [_LETTERS]})
    assert answer.text == _LETTERS, f"of only {_LETTERS!r} it made {answer.text!r}"
    broken = [piece for piece in answer.pieces if "\ufffd" in piece]
    assert not broken, f"the stream has broken letters: {broken}"


_PICK, _OTHER = "f", "g"
_GIVEN = {"type": "object", "properties": {"x": {"enum": list(_ALLOWED)}}, "required": ["x"]}
_CALL = json.dumps({"name": _PICK, "arguments": {"x": "yes"}})
# A text that is a call in the words of vLLM's parser "hermes".
_HERMES: dict[str, Any] = {"structured_outputs": {"choice": [f"<tool_call>\n{_CALL}\n</tool_call>"]}}


def _with_tools(way: Way, choice: str) -> dict[str, Any]:
    """Parameters for a question with two tools.

    The penalty keeps a model from going on with spaces for ever. Strict tools would take the place of a forced text.
    """
    described = [
        {"name": name, "parameters": _GIVEN | {"additionalProperties": False}, "strict": choice != "auto"}
        for name in (_PICK, _OTHER)
    ]
    if way.api == "responses":
        tools: list[Any] = [{"type": "function", **one} for one in described]
        named: Any = {"type": "function", "name": _OTHER}
    else:
        tools = [{"type": "function", "function": one} for one in described]
        named = {"type": "function", "function": {"name": _OTHER}}
    return {"tools": tools, "tool_choice": named if choice == "named" else choice, "frequency_penalty": 2}


@_each(*_CHATS)
@pytest.mark.parametrize("choice", ["auto", "required", "named", "none"])
async def test_tools(asking: Asking, way: Way, choice: str) -> None:
    """The server has a model call tools: one that it chose, any, one by its name, and none."""
    if not asking.exact:
        pytest.skip("not asked: whether this model calls tools, and in what words, is not known")
    forced = _HERMES if choice == "auto" else {}
    answer = await asking.ask(way, length=200, **_with_tools(way, choice), **forced)
    names = {"auto": {_PICK}, "required": {_PICK, _OTHER}, "named": {_OTHER}, "none": set[str]()}[choice]
    called = [name for name, _ in answer.calls]
    assert set(called) <= names, f"it called {called}, with tool_choice {choice}"
    assert bool(called) == bool(names), f"it called {called} and said {answer.text!r}, with tool_choice {choice}"
    for name, arguments in answer.calls:
        assert _parsed(arguments) in ({"x": word} for word in _ALLOWED), f"{name} was called with {arguments!r}"
    ends = ("stop", "length") if choice == "none" else ("tool_calls", *(("stop",) if choice == "named" else ()))
    assert answer.reasons[0] in ends, f"it ended for {answer.reasons}, with tool_choice {choice}"


def _parsed(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text)
    except ValueError:
        return text


_TURNS = [
    {"role": "system", "content": "Zeroth of all."},
    {"role": "user", "content": "First question?"},
    {"role": "assistant", "content": "Second, an answer."},
    {"role": "user", "content": "Third and last: abc"},
]


@_each(*_CHATS)
async def test_conversation(asking: Asking, way: Way) -> None:
    """Each message of a conversation reaches the model, a system prompt too, and in its order."""
    prompt: Any = _TURNS
    more: dict[str, Any] = {"return_token_ids": True} if way.api == "chat" else {}
    if way.api == "responses":
        prompt, more = _TURNS[1:], {"instructions": _TURNS[0]["content"]}
    answer = await asking.ask(way, prompt, length=1, **more, **(_USAGE if way.stream else {}))
    if not asking.exact:
        pytest.skip("not asked: what this model's chat template makes of messages is not known")
    tokens = answer.document.get("prompt_token_ids") or await asking.tokens(messages=_TURNS)
    assert answer.usage is not None, "the answer has no usage"
    assert answer.usage.prompt == len(tokens), (
        f"usage says {answer.usage.prompt} tokens, the messages have {len(tokens)}"
    )
    text = (await asking.post("/detokenize", {"tokens": tokens}))["prompt"]
    expected = "".join(f"<{turn['role']}>{turn['content']}" for turn in _TURNS)
    assert text == expected, f"the model was given {text!r}, not {expected!r}"


_WORDINGS = {
    "spaces": " two  spaces,\ta tab\nand a line ",
    "unicode": "naïve 漢字 😀 e\u0301",
    "special": "a</s>b<s>",
}


@pytest.mark.parametrize("kind", ["plain", *_WORDINGS])
async def test_tokens(asking: Asking, kind: str) -> None:
    """The server turns a text into tokens and these back into the text."""
    if kind != "plain" and not asking.exact:
        pytest.skip("not asked: this model's tokenizer may change such a text")
    text = _WORDINGS.get(kind, PROMPT)
    tokens = await asking.tokens(prompt=text, add_special_tokens=False)
    again = (await asking.post("/detokenize", {"tokens": tokens}))["prompt"]
    assert again == text, f"{text!r} came back as {again!r}"
    if kind == "special":
        assert len(tokens) == 4, f"{text!r} has two special tokens, it became {tokens}"  # noqa: PLR2004


# --- What is refused -------------------------------------------------------------------------------------


async def _assert_refused(asked: Coroutine[Any, Any, Answer], *, code: int) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await asked
    status, body = refused.value.status_code, refused.value.body
    assert status == code, f"it was refused with {status}, not {code}: {body!r}"
    assert isinstance(body, dict), f"the body is no error of vLLM's: {body!r}"
    assert body.get("message"), f"the error has no message: {body!r}"
    assert body.get("type"), f"the error has no type: {body!r}"
    assert body.get("code") == code, f"the error's code is not {code}: {body!r}"


@_each(*_WAYS)
async def test_bad_parameter(asking: Asking, way: Way) -> None:
    """The server refuses parameters out of range, or of another kind, with 400 and says why."""
    for wrong in ({"temperature": -1}, {"top_p": 2}, {"temperature": "warm"}):
        await _assert_refused(asking.ask(way, length=1, **wrong), code=400)


@_each(*_WAYS)
async def test_too_long(asking: Asking, way: Way) -> None:
    """The server refuses a prompt longer than its context with 400 and says why."""
    # No tokenizer makes less than a token of a space and a changing letter.
    count = asking.server.context + 1 if asking.server.context else _LONGEST
    prompt = "".join(f" {chr(ord('a') + number % 26)}" for number in range(count))
    await _assert_refused(asking.ask(way, prompt, length=1), code=400)


@_each(*_WAYS)
async def test_unknown_model(asking: Asking, way: Way) -> None:
    """The server refuses a model that it does not serve with 404 and says why."""
    await _assert_refused(asking.ask(way, length=1, model="no-such-model"), code=404)


_METHODS = ("get", "post", "put", "delete")


@pytest.mark.parametrize("key", ["", "wrong"], ids=["none", "wrong"])
async def test_key(asking: Asking, key: str) -> None:
    """The server lets nobody in without its API key, whatever the route and the method."""
    if not asking.server.key:
        pytest.skip("not asked: no API key was given")
    listed = (await asking.knock("get", "/openapi.json", key=asking.server.key)).document["paths"]
    doors = [
        (method, re.sub(r"[{}]", "", route)) for route in listed if route.startswith("/v1/") for method in _METHODS
    ]
    found = await asyncio.gather(*(asking.knock(method, route, key=key) for method, route in doors))
    assert doors, "no route begins with /v1/"
    let_in = [
        f"{method.upper()} {route} ({answer.status})"
        for (method, route), answer in zip(doors, found, strict=True)
        if answer.status != HTTPStatus.UNAUTHORIZED
    ]
    assert not let_in, f"these were not refused with 401: {', '.join(let_in)}"


@_each("completions", "chat")
async def test_prefix_cache(asking: Asking, way: Way) -> None:
    """A prompt whose beginning is cached, and one that goes on otherwise, are answered as without the cache."""
    if not asking.exact:
        pytest.skip("not asked: by how much this model rounds is not known")
    # Not printable bytes: the suite's own model is least sure of what follows them.
    begin = "".join(chr(0x4E00 + number) for number in range(100))
    first, other = (f"{begin}{end}" for end in ("\u00e9\u00e8", "\u00fc\u00f6"))
    salt = uuid.uuid4().hex

    async def ask(prompt: str, salt: str) -> Answer:
        return await asking.ask(way, prompt, length=2, logprobs=2, ignore_eos=True, cache_salt=salt)

    alone = {first: await ask(first, salt), other: await ask(other, uuid.uuid4().hex)}
    for prompt, fresh in alone.items():
        cached = await ask(prompt, salt)
        off = abs(cached.tokens[0].logprob - fresh.tokens[0].logprob)
        assert off < _ROUNDING, f"with a cached prefix the first token's logprob is off by {off:.3f}"


# --- What needs the server for itself --------------------------------------------------------------------


@_each(*_WAYS)
def test_seed(asking: Asking, run_now: Callable[..., Any], way: Way) -> None:
    """The same seed gives the same answer, another seed another one.

    Among many requests a prompt is read in parts, and then a seed ends vLLM's worker on the CPU (0.32.0,
    vllm/v1/worker/gpu_model_runner.py: "CPU Generator does not use offset").
    """

    def ask(seed: int) -> str:
        answer: Answer = run_now(asking.ask(way, length=8, temperature=2, seed=seed, ignore_eos=True))
        return answer.text

    first = ask(1)
    # In another batch a device may round otherwise, and rarely that chooses another token.
    assert any(ask(1) == first for _ in range(_TRIES)), f"seed 1 did not give {first!r} again"
    assert any(ask(number + 2) != first for number in range(_TRIES)), f"all seeds give {first!r}"


def test_many_at_once(asking: Asking, run_now: Callable[..., Any]) -> None:
    """The server gives each of many requests at once its own answer, as its parameters say."""
    prompts = [f"{PROMPT}{chr(ord('A') + number)}" for number in range(_AT_ONCE)]
    if not asking.exact:
        texts = [answer.text for answer in run_now(_gathered(asking.ask(_WHOLE, prompt) for prompt in prompts))]
        assert all(texts), f"{sum(not text for text in texts)} of {len(texts)} answers are empty"
        return
    seven = run_now(asking.tokens(prompt="7", add_special_tokens=False))[-1]
    asked = [_neighbour(number, prompt, seven) for number, prompt in enumerate(prompts)]
    answers = run_now(
        _gathered(asking.ask(way, prompt, **more) for prompt, (way, more, _) in zip(prompts, asked, strict=True))
    )
    wrong = []
    for prompt, (way, more, expected), answer in zip(prompts, asked, answers, strict=True):
        alone = expected or run_now(_alone(asking, way, prompt, more, answer.text))
        if answer.text != alone:
            wrong.append(f"{prompt!r} with {more} was answered with {answer.text!r}, alone with {alone!r}")
    assert not wrong, f"{len(wrong)} of {len(answers)} answers are wrong: {wrong[0]}"


_WHOLE = Way(api="completions", stream=False)
_STREAM = Way(api="completions", stream=True)


async def _gathered(asked: Iterable[Awaitable[Answer]]) -> list[Answer]:
    return await asyncio.gather(*asked)


def _neighbour(number: int, prompt: str, seven: int) -> tuple[Way, dict[str, Any], str]:
    """How one of many is asked, and what the suite's own model says to that; nothing if that hangs on a seed."""
    whole = tiny_model.continuation(prompt, LENGTH)
    asked: list[tuple[Way, dict[str, Any], str]] = [
        (_WHOLE, {}, whole),
        (_STREAM, {}, whole),
        (Way(api="chat", stream=False), {}, whole),
        (_WHOLE, {"length": 5}, whole[:5]),
        (_WHOLE, {"stop": [whole[6:8]]}, whole[:6]),
        (_WHOLE, {"temperature": 2, "top_k": 1}, whole),
        (_WHOLE, {"logit_bias": {str(seven): 100}}, "7" * LENGTH),
        (_WHOLE, {"temperature": 2, "seed": number, "length": 6, "ignore_eos": True}, ""),
    ]
    return asked[number % len(asked)]


async def _alone(asking: Asking, way: Way, prompt: str, more: dict[str, Any], text: str) -> str:
    """What the model says when it is asked alone. In another batch a device may rarely choose another token."""
    for _ in range(_TRIES):
        alone = (await asking.ask(way, prompt, **more)).text
        if alone == text:
            break
    return alone


_COUNTERS = ("vllm:request_success_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total")


def test_counters(asking: Asking, server: Server, run_now: Callable[..., Any], *, alone: bool) -> None:
    """The server's metrics count the requests and their tokens, as the answers do."""
    before = server.totals(_COUNTERS)
    ways = [Way.parse(word) for word in (_WAYS if asking.exact else ("completions", "completions-stream"))]
    answers = run_now(_gathered(asking.ask(way, **(_USAGE if way.stream else {})) for way in ways))
    usages = [answer.usage for answer in answers]
    expected = [len(answers), sum(usage.prompt for usage in usages), sum(usage.completion for usage in usages)]
    # They are written after the answer is sent.
    _wait(server, lambda: all(map(_at_least, server.totals(_COUNTERS), before, expected)))
    counted = [now - then for now, then in zip(server.totals(_COUNTERS), before, strict=True)]
    said = f"metrics count {counted} requests, prompt tokens and generated tokens, it was asked for {expected}"
    assert all(one >= other for one, other in zip(counted, expected, strict=True)), said
    assert counted == expected or not alone, said


def _at_least(now: float, then: float, expected: float) -> bool:
    return now - then >= expected


@_each(*_WAYS)
def test_client_gone(
    asking: Asking, server: Server, run_now: Callable[..., Any], note: Callable[[str], None], way: Way
) -> None:
    """A client that goes away ends its request: the rest of a long answer is not made, and nothing is left of it.

    A scheduler can leave one process of a busy machine without time for seconds, so that the server hears late of the
    client. So a whole answer counts only if the server answered others meanwhile, and not once but several times.
    """
    # What is asked for has to fit, however long a chat template is.
    length = min(_LONG, (server.context or _LONG) * 3 // 4)
    went_on = 0
    for _ in range(_LEAVINGS):
        before = _generated(server)
        if not run_now(asking.leave(way, length=length)):
            continue
        seen = _seen_at_work(server)
        assert not server.load(), f"after the client went away it still works on {server.load():g} requests"
        if _generated(server) - before < length:
            return
        went_on += seen >= _SEEN
        assert went_on < _TRIES, f"a client went away {went_on} times, and each time all {length} tokens were made"
    note("not seen: the server was too busy to see when it worked")


def _generated(server: Server) -> float:
    return server.totals(("vllm:generation_tokens_total",))[0]


def _seen_at_work(server: Server) -> int:
    """How often the server says that it works, until it does not or an answer would have come."""
    loads: list[float] = []

    def is_idle() -> bool:
        loads.append(server.load())
        return not loads[-1]

    _wait(server, is_idle)
    return sum(map(bool, loads))


def _wait(server: Server, done: Callable[[], bool]) -> None:
    """Wait for what comes at once on a machine that is not busy."""
    deadline = time.monotonic() + server.answer_s
    while not done() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
