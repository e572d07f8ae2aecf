"""One question, asked of each of the server's APIs for text, whole or streamed; the answer in one form."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import openai

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from smoke.server.server import Server

PROMPT = "Go on: abc"
LENGTH = 16
_COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,"
"""A prompt that other models than the suite's own are sure how to go on after."""

SURE = 1.0
"""By how much a token's log-probability must lead, so that rounding does not choose another one."""

_AT_ONCE = 32
_NO_STREAM = "the stream said {}"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to ask.

    Attributes:
        api: ``completions``, ``chat`` or ``responses``.
        stream: Whether the answer is streamed.
    """

    api: str
    stream: bool

    @classmethod
    def parse(cls, word: str) -> Way:
        """The way of a name such as ``chat-stream``."""
        return cls(api=word.removesuffix("-stream"), stream=word.endswith("-stream"))


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token of an answer: its text, its log-probability, and those of the likeliest tokens in its place."""

    text: str
    logprob: float
    top: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How many tokens an answer says that it took."""

    prompt: int
    completion: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answered.

    Attributes:
        texts: Each choice's text; the choices are in the order of their numbers.
        reasons: Why each ended: ``stop``, ``length`` or ``tool_calls``.
        numbers: Each choice's number.
        usage: Tokens that it took, if it says so.
        tokens: The first choice's tokens, if log-probabilities were asked for.
        calls: Names and arguments of the tools that the first choice calls.
        pieces: Texts of the chunks that brought some; one if it was not streamed.
        events: What each event of the stream said; empty if it was not streamed.
        document: The answer, as it is when it is not streamed.
    """

    texts: tuple[str, ...]
    reasons: tuple[str | None, ...]
    numbers: tuple[int, ...]
    usage: Usage | None
    tokens: tuple[Token, ...]
    calls: tuple[tuple[str, str], ...]
    pieces: tuple[str, ...]
    events: tuple[str, ...]
    document: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The first choice's text."""
        return self.texts[0] if self.texts else ""


@dataclass(frozen=True, kw_only=True)
class Knock:
    """What a route answers to a request that asks for nothing."""

    status: int
    document: Any


@dataclass(kw_only=True)
class Asking:
    """Asks a server, up to 32 questions at once.

    Attributes:
        server: The server.
        connect: Makes a client.
        exact: Whether it serves the suite's own model.
    """

    server: Server
    connect: Callable[[], openai.AsyncOpenAI]
    exact: bool
    _asked: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    _client: openai.AsyncOpenAI | None = None
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    @property
    def prompt(self) -> str:
        """A prompt that the model is sure how to go on after."""
        return PROMPT if self.exact else _COUNTING

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The client, made in the loop that it is used in."""
        if self._client is None:
            self._client = self.connect()
        return self._client

    async def ask(
        self,
        way: Way,
        prompt: Any = None,  # noqa: ANN401 - as the routes take it
        *,
        length: int = LENGTH,
        **parameters: Any,  # noqa: ANN401 - as the routes take it
    ) -> Answer:
        """Ask in one way.

        Args:
            way: The way.
            prompt: The prompt, or the messages of a chat; by default :attr:`prompt`.
            length: Tokens that the answer may have.
            parameters: Further parameters, as ``/v1/completions`` has them. Without a temperature it is 0.

        Raises:
            openai.APIError: It was refused.
        """
        body = _body(way, self.prompt if prompt is None else prompt, length, {"temperature": 0, **parameters})
        resources: dict[str, Any] = {
            "completions": self.client.completions,
            "chat": self.client.chat.completions,
            "responses": self.client.responses,
        }
        create = resources[way.api].with_streaming_response.create
        model = body.pop("model", self.server.model)
        asked = {name: body.pop(name) for name in ("prompt", "messages", "input") if name in body}
        async with self._turn, create(model=model, stream=way.stream, **asked, extra_body=body) as response:
            if not way.stream:
                return _answer(way.api, await response.json(), events=())
            lines = [line async for line in response.iter_lines()]
        events = tuple(line.removeprefix("data:").strip() for line in lines if line.startswith("data:"))
        documents = [json.loads(event) for event in events if event != "[DONE]"]
        whole = _last(documents) if way.api == "responses" else _merged(documents)
        return _answer(way.api, whole, events=events)

    async def leave(self, way: Way, *, length: int) -> bool:
        """Ask for a long answer, and go away as soon as the server works on it.

        Returns:
            Whether it was seen to work on it; else it had answered before that.

        Raises:
            openai.APIError: It refused.
        """
        asked = asyncio.ensure_future(self.ask(way, length=length, ignore_eos=True))
        works = False
        while not works and not asked.done():
            works = await asyncio.to_thread(self.server.load) > 0
        if asked.done():
            await asked
            return False
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return True

    async def knock(self, method: str, route: str, *, key: str) -> Knock:
        """Ask a route for nothing in particular, with some API key or none."""
        headers = {"Authorization": f"Bearer {key}" if key else openai.Omit()}
        try:
            async with self._turn:
                ask = getattr(self.client, method)
                document = await ask(self.server.url + route, cast_to=object, options={"headers": headers})
        except openai.APIStatusError as error:
            return Knock(status=error.status_code, document=error.body)
        return Knock(status=HTTPStatus.OK, document=document)

    async def reference(self, api: str) -> tuple[Answer, int]:
        """What the model says to :attr:`prompt` at temperature 0, and how many tokens of it the model is sure of."""
        found: tuple[Answer, int] = await self._once(
            f"reference of {api}", lambda: self._reference(Way(api=api, stream=False))
        )
        return found

    async def _reference(self, way: Way) -> tuple[Answer, int]:
        if self.exact:
            return await self.ask(way), LENGTH
        shown = await self.ask(way, logprobs=2)
        sure = next((n for n, token in enumerate(shown.tokens) if _margin(token) < SURE), len(shown.tokens))
        return await self.ask(way, length=max(1, sure)), sure

    async def tokens(self, **prompt: Any) -> list[int]:  # noqa: ANN401 - as the route takes it
        """The tokens of a ``prompt`` or of ``messages``."""
        answer = await self._once(f"tokens of {prompt}", lambda: self.post("/tokenize", prompt))
        found: list[int] = answer["tokens"]
        return found

    async def post(self, route: str, document: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
        """POST a document with the model's name to a route."""
        body = {"model": self.server.model, **document}
        async with self._turn:
            return await self.client.post(self.server.url + route, body=body, cast_to=object)

    async def _once(self, name: str, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - what is asked for
        if name not in self._asked:
            self._asked[name] = asyncio.ensure_future(ask())
        return await asyncio.shield(self._asked[name])


def _margin(token: Token) -> float:
    first, second, *_ = (*sorted(token.top, reverse=True), 0.0, 0.0)
    return first - second


def _body(way: Way, prompt: Any, length: int, parameters: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - as the routes take it
    """The request, in the words of the way's API."""
    body = dict(parameters)
    logprobs = body.pop("logprobs", None)
    schema = body.pop("schema", None)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if way.api == "responses":
        body |= {"input": prompt, "max_output_tokens": length}
        body |= {"text": {"format": {"type": "json_schema", "name": "answer", "schema": schema}}} if schema else {}
        shown = {"include": ["message.output_text.logprobs"], "top_logprobs": logprobs}
    else:
        body |= {"prompt": prompt} if way.api == "completions" else {"messages": messages}
        body |= {"max_tokens": length}
        named = {"name": "answer", "schema": schema}
        body |= {"response_format": {"type": "json_schema", "json_schema": named}} if schema else {}
        shown = {"logprobs": logprobs} if way.api == "completions" else {"logprobs": True, "top_logprobs": logprobs}
    return body | (shown if logprobs else {})


def _last(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The answer of a stream of the responses API."""
    last = documents[-1] if documents else {}
    assert "response" in last, _NO_STREAM.format(last)
    response: dict[str, Any] = last["response"]
    return response


def _merged(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The answer that a stream's chunks make up."""
    whole: dict[str, Any] = {"choices": {}}
    for chunk in chunks:
        assert "choices" in chunk, _NO_STREAM.format(chunk)
        whole |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for choice in chunk["choices"]:
            _add(whole["choices"].setdefault(choice["index"], {"index": choice["index"]}), choice)
    return {**whole, "choices": list(whole["choices"].values())}


def _add(into: dict[str, Any], choice: Mapping[str, Any]) -> None:
    """Add to a choice what a chunk brings of it."""
    for name, value in choice.items():
        if isinstance(value, str) and name in ("text", "content", "reasoning", "arguments"):
            into[name] = into.get(name, "") + value
        elif name == "tool_calls":
            for call in value or ():
                _add(into.setdefault(name, {}).setdefault(call["index"], {}), call)
        elif isinstance(value, dict):
            _add(into.setdefault("message" if name == "delta" else name, {}), value)
        elif isinstance(value, list):
            into[name] = [*into.get(name, ()), *value]
        elif value is not None:
            into[name] = value


def _answer(api: str, document: Mapping[str, Any], *, events: tuple[str, ...]) -> Answer:
    read = _of_responses(document) if api == "responses" else _of_choices(document)
    pieces = _pieces([json.loads(event) for event in events if event != "[DONE]"])
    return Answer(**read, pieces=pieces if events else (read["texts"] or ("",))[:1], events=events, document=document)


def _pieces(documents: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    pieces = [document.get("delta") for document in documents if document.get("type") == "response.output_text.delta"]
    choices = [choice for document in documents for choice in document.get("choices", ())]
    pieces += [choice.get("text") or _said(choice.get("delta") or {}) for choice in choices]
    return tuple(piece for piece in pieces if isinstance(piece, str) and piece)


def _said(message: Mapping[str, Any]) -> str:
    return (message.get("reasoning") or "") + (message.get("content") or "")


def _of_choices(document: Mapping[str, Any]) -> dict[str, Any]:
    choices = sorted(document["choices"], key=lambda choice: choice["index"])
    messages = [choice.get("message") or {} for choice in choices]
    usage = document.get("usage")
    calls = messages[0].get("tool_calls") if messages else ()
    functions = [call["function"] for call in (calls.values() if isinstance(calls, dict) else calls or ())]
    return {
        "texts": tuple(choice.get("text") or _said(message) for choice, message in zip(choices, messages, strict=True)),
        "reasons": tuple(choice.get("finish_reason") for choice in choices),
        "numbers": tuple(choice["index"] for choice in choices),
        "usage": usage
        and Usage(prompt=usage["prompt_tokens"], completion=usage["completion_tokens"], total=usage["total_tokens"]),
        "tokens": _tokens((choices[0].get("logprobs") or {}) if choices else {}),
        "calls": tuple((function["name"], function.get("arguments", "")) for function in functions),
    }


def _tokens(logprobs: Mapping[str, Any]) -> tuple[Token, ...]:
    """The tokens of a chat's or a completion's log-probabilities."""
    if "content" in logprobs:
        return tuple(
            Token(text=one["token"], logprob=one["logprob"], top=tuple(top["logprob"] for top in one["top_logprobs"]))
            for one in logprobs["content"]
        )
    columns = (logprobs.get(name) or () for name in ("tokens", "token_logprobs", "top_logprobs"))
    return tuple(
        Token(text=text, logprob=0.0 if value is None else value, top=tuple((top or {}).values()))
        for text, value, top in zip(*columns, strict=True)
    )


def _of_responses(document: Mapping[str, Any]) -> dict[str, Any]:
    parts = [part for item in document["output"] for part in item.get("content") or () if "text" in part]
    calls = [item for item in document["output"] if item["type"] == "function_call"]
    usage = document.get("usage")
    reason = "length" if document["status"] == "incomplete" else "stop"
    return {
        "texts": ("".join(part["text"] for part in parts),),
        "reasons": ("tool_calls" if calls and reason == "stop" else reason,),
        "numbers": (0,),
        "usage": usage
        and Usage(prompt=usage["input_tokens"], completion=usage["output_tokens"], total=usage["total_tokens"]),
        "tokens": _tokens({"content": [one for part in parts for one in part.get("logprobs") or ()]}),
        "calls": tuple((item["name"], item["arguments"]) for item in calls),
    }
