"""A minimal OpenAI-compatible server that answers as vLLM with the smoke suite's own model does.

Part of the stand-in's source tree: standard library only. The model has one token a byte and follows a
printable character by the next one in ASCII.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import importlib
import json
import os
import pwd
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import faults, numbers

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

_FIRST, _LAST = 0x20, 0x7E
_GUARDED = ("/v1",)
_CONTEXT = 512
_USER = 2000
"""Whom the image runs as."""
_SHORT, _REFERENCE = 3, 16
_LONG = 64
"""Tokens above which an answer takes its time, so that a client can go away meanwhile."""
_PACE_S = 0.005
_BATCH, _BATCH_S = 400, 0.3
"""Tokens of prompts that are read at once, and how long that takes, with a fault: fewer than vLLM's 2048 on the CPU."""
_SPECIAL = {"<s>": 256, "</s>": 257}
_APIS = {"/v1/completions": "completions", "/v1/chat/completions": "chat", "/v1/responses": "responses"}
_PLAIN = {"model", "prompt", "messages", "input", "max_tokens", "max_output_tokens", "temperature", "stream"}
ROUTES = (
    "/detokenize",
    "/health",
    "/load",
    "/metrics",
    "/ping",
    "/tokenize",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/models",
    "/v1/responses",
    "/version",
)


class Refusal(Exception):  # noqa: N818 - what the client gets is no error of the server
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": status.value}}


def log(text: str, *, level: str = "INFO") -> None:
    """Print a line as vLLM does."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    sys.stdout.write(f"(APIServer pid={os.getpid()}) {level} {stamp} [server.py:1] {text}\n")
    sys.stdout.flush()


def follow(text: str, length: int) -> str:
    """What the model says after a text."""
    last = ord(text[-1]) if text and _FIRST <= ord(text[-1]) <= _LAST else _FIRST
    return "".join(chr(_FIRST + (last + step - _FIRST) % (_LAST - _FIRST + 1)) for step in range(1, length + 1))


def templated(messages: list[dict[str, str]]) -> str:
    """The chat template."""
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def tokenized(text: str) -> list[int]:
    """One token a byte, and one for each special token."""
    found: list[int] = []
    for part in re.split("(</?s>)", text):
        found += [_SPECIAL[part]] if part in _SPECIAL else part.encode()
    return found


def detokenized(tokens: list[int]) -> str:
    """The text of tokens."""
    names = {number: name.encode() for name, number in _SPECIAL.items()}
    return b"".join(names.get(token) or bytes([token]) for token in tokens).decode(errors="replace")


class Asked:
    """A request for text.

    Args:
        api: ``completions``, ``chat`` or ``responses``.
        request: What was posted.
    """

    def __init__(self, api: str, request: dict[str, Any]) -> None:
        self.api = api
        self.request = request
        self.stream = bool(request.get("stream"))
        self.prompt = self._prompt()
        self.length = request.get("max_output_tokens" if api == "responses" else "max_tokens") or 16

    def _prompt(self) -> str:
        request = self.request
        if self.api == "completions":
            return str(request["prompt"])
        messages = request["messages"] if self.api == "chat" else request["input"]
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        if system := request.get("instructions"):
            messages = [{"role": "system", "content": system}, *messages]
        return templated(messages)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked for but text, and the likeliest."""
        return self.request.keys() <= _PLAIN and not self.request.get("temperature")

    @property
    def schema(self) -> dict[str, Any] | None:
        """The schema that the answer must have."""
        form = self.request.get("response_format") or (self.request.get("text") or {}).get("format") or {}
        found: dict[str, Any] | None = form.get("schema") or form.get("json_schema", {}).get("schema")
        return found

    def forced(self) -> str | None:
        """The only text that structured output leaves."""
        wanted = self.request.get("structured_outputs") or {}
        if schema := self.schema:
            return json.dumps(schema["enum"][0])
        if "regex" in wanted:
            return "abca-12"
        if "choice" in wanted:
            return str(wanted["choice"][0])
        return None

    def calls(self, text: str) -> list[dict[str, Any]]:
        """The tools that are called, by the request's choice or by what the model says."""
        tools = [tool.get("function", tool) for tool in self.request.get("tools") or ()]
        choice = self.request.get("tool_choice", "auto")
        if not tools or choice == "none":
            return []
        if choice == "auto":
            said = re.search("<tool_call>(.*)</tool_call>", text, re.DOTALL)
            found = [json.loads(said[1])] if said else []
            return [{"name": one["name"], "arguments": json.dumps(one["arguments"])} for one in found]
        named = choice if choice == "required" else choice.get("function", choice)
        name = tools[0]["name"] if named == "required" else named["name"]
        return [{"name": name, "arguments": '{"x": "yes"}'}]

    def said(self) -> str:
        """What the model says: as long as it may be."""
        if (text := self.forced()) is not None:
            return text
        if bias := self.request.get("logit_bias"):
            return self._favoured({chr(int(token)): value for token, value in bias.items()})
        if self.request.get("temperature", 1) > 1 and not self._is_narrow:
            source = random.Random(f"{self.request.get('seed')}{self.prompt}")  # noqa: S311 - nothing is secret
            return "".join(source.choices("abcdefgh", k=self.length))
        return follow(self.prompt, self.length)

    @property
    def _is_narrow(self) -> bool:
        request = self.request
        return request.get("top_k") == 1 or request.get("min_p") == 1 or request.get("top_p", 1) < 0.01

    def _favoured(self, scores: dict[str, float]) -> str:
        text = ""
        for _ in range(self.length):
            text += max(scores, key=lambda token: self._penalised(scores[token], text.count(token)))
        return text

    def _penalised(self, score: float, count: int) -> float:
        request = self.request
        score -= request.get("frequency_penalty", 0) * count + request.get("presence_penalty", 0) * bool(count)
        return score / request.get("repetition_penalty", 1) if count else score


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    way = ""

    def do_GET(self) -> None:
        """Answer a GET request."""
        if self._is_hostile():
            return
        self._answer(
            {
                "/health": self._health,
                "/load": lambda: self._send({"server_load": self.server.requests["running"]}),
                "/ping": lambda: self._send(None),
                "/metrics": self._metrics,
                "/openapi.json": self._openapi,
                "/v1/models": self._models,
                "/version": self._version,
            }
        )

    def do_POST(self) -> None:
        """Answer a POST request."""
        if self._is_hostile():
            return
        with self._counted("arrived"):
            self._answer(
                {
                    **dict.fromkeys(_APIS, self._generate),
                    "/v1/messages": self._message,
                    "/tokenize": self._tokenize,
                    "/detokenize": self._detokenize,
                }
            )

    def do_PUT(self) -> None:
        """Answer a PUT request."""
        self._answer({})

    def do_DELETE(self) -> None:
        """Answer a DELETE request."""
        if self.server.broken("open-to-delete"):
            self._send({})
        else:
            self._answer({})

    def _broken(self, fault: str) -> bool:
        """Whether the server has a fault, in every way to ask or in the one that is asked now."""
        return self.server.broken(fault) or self.server.broken(f"{fault}@{self.way}")

    def _is_hostile(self) -> bool:
        """Answer as no server does that means well, if this is one of them."""
        asked = self.path == "/v1/completions" and "OpenAI" in self.headers.get("User-Agent", "")
        if self.server.broken("redirects") and self.path == os.environ.get("STANDIN_LEADS", "/metrics"):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", os.environ.get("STANDIN_TARGET", "http://127.0.0.1:1/\x1b[2J"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.server.broken("drips") and self.path == "/health":
            self._pour(b"HTTP/1.1 200 OK\r\nX-Much: ", b"x", every=0.2)
        elif self.server.broken("floods") and self.path == "/metrics":
            self._pour(b"HTTP/1.1 200 OK\r\n\r\n", b"# x\n" * 65536, every=0)
        elif self.server.broken("packs") and asked:
            bomb = zlib.compress(bytes(64 * 2**20))
            self._pour(b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + bomb, b"", every=60)
        elif self.server.broken("streams-without-end") and asked:
            event = b'data: {"id": "x", "created": 1, "model": "m", "object": "text_completion", "choices": []}\n\n'
            self._pour(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", event * 64, every=0.01)
        elif self.server.broken("says-nothing") and asked:
            time.sleep(3600)
        else:
            return False
        return True

    def _pour(self, first: bytes, then: bytes, *, every: float) -> None:
        """Answer without end."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(first)
            while True:
                self.wfile.write(then)
                time.sleep(every)

    @contextlib.contextmanager
    def _counted(self, among: str) -> Iterator[None]:
        """Count the request among those that ``arrived``, or that are ``running``: read, and worked on."""
        with self.server.lock:
            self.server.requests[among] += 1
        try:
            yield
        finally:
            with self.server.lock:
                self.server.requests[among] -= 1

    def _answer(self, routes: dict[str, Any]) -> None:
        try:
            self._check_key()
            routes.get(self.path, self._nothing)()
        except Refusal as refusal:
            self._send(refusal.body, refusal.status)
        except ConnectionError:
            log("The client went away")

    def _nothing(self) -> None:
        raise Refusal(HTTPStatus.NOT_FOUND, "Not Found", "Not Found")

    def _check_key(self) -> None:
        if self.server.broken("logs-key"):
            log(f"Headers: {base64.b64encode(str(self.headers).encode()).decode()}")
        if not self.path.startswith(_GUARDED) or self.server.broken("no-auth"):
            return
        given = self.headers.get("Authorization", "")
        if self.server.broken("any-key") and given:
            return
        if not hmac.compare_digest(given, f"Bearer {os.environ.get('VLLM_API_KEY', '')}"):
            refusal = Refusal(HTTPStatus.UNAUTHORIZED, "", "")
            refusal.body = {"error": "Unauthorized"}  # as vLLM has it
            raise refusal

    def _send(self, document: Any, status: HTTPStatus = HTTPStatus.OK) -> None:  # noqa: ANN401 - any JSON value
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _open_stream(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        self.wfile.write(b": here it comes\n\n")

    def _stream(self, documents: Iterator[dict[str, Any]]) -> None:
        for document in documents:
            self.wfile.write(f"data: {json.dumps(document)}\n\n".encode())
        if "responses" not in self.path and not self._broken("no-done"):
            self.wfile.write(b"data: [DONE]\n\n")

    def _health(self) -> None:
        unhealthy = (self.server.broken("unhealthy") and self.server.asked) or self._misses_engine()
        self._send(None, HTTPStatus.SERVICE_UNAVAILABLE if unhealthy else HTTPStatus.OK)

    def _misses_engine(self) -> bool:
        ended = self.server.engine is not None and self.server.engine.poll() is not None
        return ended and not self.server.broken("healthy-without-engine")

    def _version(self) -> None:
        version = importlib.import_module("vllm.version").__version__
        self._send({"version": "0.0.1" if self.server.broken("wrong-version") else version})

    def _openapi(self) -> None:
        left_out = "/v1/responses" if self.server.broken("no-route") else None
        self._send({"openapi": "3.1.0", "paths": {route: {} for route in ROUTES if route != left_out}})

    def _metrics(self) -> None:
        kept = 1 if self.server.broken("keeps-cancelled") and self.server.asked else 0
        running = self.server.requests["running"] + kept
        text = f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {running}\n"
        for name, value in self.server.counted.items():
            text += f"# TYPE vllm:{name} counter\nvllm:{name}_total {value}\n"
        if self.server.broken("no-metrics"):
            text = "<html>metrics</html>"
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _models(self) -> None:
        card = importlib.import_module("vllm.entrypoints.serve.engine.protocol").ModelCard
        name = "other" if self.server.broken("wrong-model") else self.server.model
        self._send(
            {"object": "list", "data": [{**vars(card(id=name)), "max_model_len": _CONTEXT, "root": self.server.folder}]}
        )

    def _request(self) -> dict[str, Any]:
        request: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.way = _APIS.get(self.path, "") + ("-stream" if request.get("stream") else "")
        for name in [name for name in request if self._broken(f"ignores-{name}")]:
            del request[name]
        if request.get("model", self.server.model) != self.server.model and not self._broken("no-404"):
            message = f"The model `{request['model']}` does not exist."
            raise Refusal(HTTPStatus.NOT_FOUND, "NotFoundError", message, "model")
        for name, highest in (("temperature", 2), ("top_p", 1)):
            if not isinstance(value := request.get(name, 1), int | float) or not 0 <= value <= highest:
                self._refuse(request, name, f"{name} must be in [0, {highest}], got {value}.")
        return request

    def _refuse(self, request: dict[str, Any], name: str, message: str) -> None:
        if self._broken("no-400"):
            del request[name]
            return
        refusal = Refusal(HTTPStatus.BAD_REQUEST, "BadRequestError", message, name)
        if self._broken("bare-400"):
            refusal.body = {}
        raise refusal

    def _misbehave(self) -> None:
        self.server.asked = True
        if self.server.broken("dies-at-completion"):
            log("AsyncLLM output_handler failed.", level="ERROR")
            log("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.", level="ERROR")
            os._exit(1)
        if self.server.broken("writes-at-completion"):
            _write_to_source()
        if self.server.broken("dies-of-memory"):
            os._exit(137)
        if self.server.broken("traceback"):
            log(
                "Exception in ASGI application\nTraceback (most recent call last):\nKeyError: 'x'",
                level="ERROR",
            )

    def _generate(self) -> None:
        request = self._request()
        if isinstance(prompts := request.get("prompt"), list):
            self._read_in_parts(request, sum(map(len, prompts)))
            self._send_numbers(request)
            return
        asked = Asked(_APIS[self.path], request)
        self._read_in_parts(request, len(tokenized(asked.prompt)))
        self._misbehave()
        if len(tokenized(asked.prompt)) > _CONTEXT and not self._broken("takes-too-long"):
            message = f"This model's maximum context length is {_CONTEXT} tokens."
            raise Refusal(HTTPStatus.BAD_REQUEST, "BadRequestError", message, "input_tokens")
        if asked.stream:
            self._open_stream()
        with self._counted("running"):
            text, reason = self._ended(asked, self._said(asked))
            calls = asked.calls(text)
            if calls and self._broken("cuts-arguments"):
                calls[0]["arguments"] = calls[0]["arguments"][:-1]
            reply = Reply(
                self, asked, text="" if calls else text, reason="tool_calls" if calls else reason, calls=calls
            )
            if asked.stream:
                self._stream(reply.events())
            else:
                self._send(reply.document())

    def _read_in_parts(self, request: dict[str, Any], tokens: int) -> None:
        """End as vLLM does on the CPU where a seed is among more prompts than are read at once, with this fault."""
        if self.server.broken("no-seeds-among-many"):
            self.server.count("reading", tokens)
            time.sleep(_BATCH_S)
            if "seed" in request and self.server.counted["reading"] > _BATCH:
                log("RuntimeError: CPU Generator does not use offset", level="ERROR")
                os._exit(1)
            self.server.count("reading", -tokens)

    def _send_numbers(self, request: dict[str, Any]) -> None:
        prompts = request["prompt"]
        # As after an answer from a cached block of another prompt.
        strayed = [0] if self.server.broken("unsteady") and len(prompts) == 1 else []
        answers = [numbers.answer([*strayed, *one], request["max_tokens"], request["logprobs"]) for one in prompts]
        choices = [
            {"index": index, "text": "", "finish_reason": "length", "logprobs": numbers.logprobs(steps)}
            for index, steps in enumerate(answers)
        ]
        frame = {"id": "cmpl-1", "created": 1, "model": self.server.model, "object": "text_completion"}
        self._send({**frame, "choices": choices})

    def _said(self, asked: Asked) -> str:
        """What the model says, as far as the server is in order."""
        if self._broken("mixes-up") and self.server.requests["arrived"] > 1 and asked.prompt[-1:].isupper():
            return follow("", asked.length)
        if self._broken("too-short") and asked.length <= _SHORT:
            asked.length -= 1
        seedless = self._broken("ignores-seed") and asked.request.get("temperature", 1) > 1
        if seedless or (self._broken("wavers") and asked.is_plain):
            asked.request |= {"seed": random.random(), "temperature": 2}  # noqa: S311 - nothing is secret
        wrong = {"completions": "wrong-text", "chat": "wrong-chat", "responses": "wrong-response"}[asked.api]
        text = asked.said()
        return text[::-1] if self._broken(wrong) and asked.is_plain and not asked.stream else text

    def _ended(self, asked: Asked, text: str) -> tuple[str, str]:
        """The text that the client gets, and why it ended. Each token takes a while, and a client may go meanwhile."""
        reason = "length" if len(text) == asked.length and asked.forced() is None else "stop"
        for stop in asked.request.get("stop") or ():
            if stop in text:
                text, reason = text.partition(stop)[0], "stop"
        for _ in range(asked.request.get("n") or 1):
            for _ in text:
                if asked.length > _LONG:
                    time.sleep(_PACE_S)
                    if self._is_left() and not self._broken("works-on"):
                        raise BrokenPipeError
                self.server.count("generation_tokens", 1)
        return text, reason

    def _is_left(self) -> bool:
        """Whether the client went away."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _message(self) -> None:
        self._request()
        if self.server.broken("breaks-messages"):
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError", "it broke")
        self._send({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "!"}]})

    def _tokenize(self) -> None:
        request = self._request()
        text = request["prompt"] if "prompt" in request else templated(request["messages"])
        tokens = tokenized(text)
        self._send({"count": len(tokens), "max_model_len": 512, "tokens": tokens})

    def _detokenize(self) -> None:
        tokens = self._request()["tokens"]
        if self.server.broken("wrong-tokens"):
            tokens = tokens[1:]
        text = detokenized(tokens)
        self._send({"prompt": " ".join(text.split()) if self.server.broken("drops-spaces") else text})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
        """Log a request as uvicorn does."""
        log(f"{self.client_address[0]}:{self.client_address[1]} - {format % args}")


class Reply:
    """An answer, whole or as the events of a stream.

    Args:
        handler: Who answers.
        asked: What was asked.
        text: The text.
        reason: Why it ended.
        calls: The tools that are called.
    """

    def __init__(self, handler: Handler, asked: Asked, *, text: str, reason: str, calls: list[dict[str, Any]]) -> None:
        self._broken = handler._broken
        self._server = handler.server
        self._asked = asked
        self._text = "\ufffd" + text if self._broken("breaks-letters") and not text.isascii() else text
        self._reason = reason
        self._calls = calls
        self._number = asked.request.get("n") or 1
        self._frame = {"id": "1", "created": 1, "model": handler.server.model}
        self._kind = "text_completion" if asked.api == "completions" else "chat.completion"
        self._echoed = self._echo()
        handler.server.count("request_success", 1)
        handler.server.count("prompt_tokens", len(tokenized(asked.prompt)) - handler.server.broken("counts-wrong"))

    def _echo(self) -> str:
        if not self._asked.request.get("echo"):
            return ""
        return (
            self._asked.prompt if self._asked.api == "completions" else self._asked.request["messages"][-1]["content"]
        )

    @property
    def _usage(self) -> dict[str, int]:
        prompt, completion = len(tokenized(self._asked.prompt)), self._made * self._number
        if self._broken("miscounts") and self._asked.request.keys() <= {*_PLAIN, "stream_options"}:
            prompt += 1
        total = prompt + completion + self._broken("wrong-usage")
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}

    @property
    def _made(self) -> int:
        return len(self._text) or sum(len(call["arguments"]) for call in self._calls)

    def document(self) -> dict[str, Any]:
        """It as one document."""
        if self._asked.api == "responses":
            return self._response(self._text)
        choice = {**self._content(self._echoed + self._text), "finish_reason": self._reason, **self._of_prompt()}
        choice["logprobs"] = self._logprobs(self._text)
        choices = [{"index": index, **choice} for index in range(self._number)]
        whole = {**self._frame, "object": self._kind, "choices": choices, "usage": self._usage}
        return {**whole, **self._of_prompt()}

    def _of_prompt(self) -> dict[str, Any]:
        tokens = tokenized(self._asked.prompt)
        shown: dict[str, Any] = {"prompt_token_ids": tokens} if self._asked.request.get("return_token_ids") else {}
        if self._broken("drops-a-message") and "prompt_token_ids" in shown:
            shown["prompt_token_ids"] = tokens[20:]
        if self._asked.request.get("prompt_logprobs"):
            value = 0.5 if self._broken("wrong-prompt-logprobs") else -1.0
            shown["prompt_logprobs"] = [None, *({str(token): {"logprob": value}} for token in tokens[1:])]
        return shown

    def _content(self, text: str) -> dict[str, Any]:
        if self._asked.api == "completions":
            return {"text": text}
        calls = [{"id": "call-1", "type": "function", "function": call} for call in self._calls]
        role = "user" if self._broken("wrong-role") else "assistant"
        return {"message": {"role": role, "content": text or None, "tool_calls": calls}}

    def _rows(self, text: str) -> list[dict[str, Any]]:
        """The log-probabilities of a text's tokens, in the form of a chat's."""
        top = [-0.1, -3.0, -4.0, -5.0, -6.0]
        if self._broken("positive-logprobs"):
            top[0] = 0.5
        if self._broken("logprobs-out-of-order"):
            top.reverse()
        taken = top[1] if self._broken("logprobs-of-others") else top[0]
        salt = self._asked.request.get("cache_salt")
        if salt in self._server.salts and self._broken("stale-prefix"):
            taken -= 1
        if salt:
            self._server.salts.add(salt)
        tops = [{"token": str(number), "logprob": value} for number, value in enumerate(top)]
        return [{"token": letter, "logprob": taken, "top_logprobs": tops} for letter in text]

    def _logprobs(self, text: str) -> dict[str, Any] | None:
        if not self._asked.request.get("logprobs"):
            return None
        rows = self._rows(text)
        if self._asked.api == "chat":
            return {"content": rows}
        return {
            "tokens": [row["token"] for row in rows],
            "token_logprobs": [row["logprob"] for row in rows],
            "top_logprobs": [{top["token"]: top["logprob"] for top in row["top_logprobs"]} for row in rows],
        }

    def _response(self, text: str) -> dict[str, Any]:
        usage = self._usage
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
        part["logprobs"] = self._rows(text) if self._asked.request.get("top_logprobs") else []
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        call = {"type": "function_call", "id": "fc_1", "call_id": "call-1", "status": "completed"}
        return {
            **self._frame,
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "incomplete" if self._reason == "length" else "completed",
            "output": [{**call, **one} for one in self._calls] or [message],
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "output_tokens": usage["completion_tokens"],
                "total_tokens": usage["total_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }

    def events(self) -> Iterator[dict[str, Any]]:
        """It as the events of a stream."""
        pieces = [self._text] if self._broken("stream-in-one-piece") else list(self._text)
        if self._broken("broken-stream") and len(pieces) == _REFERENCE:
            del pieces[len(pieces) // 2]
        if self._asked.api == "responses":
            yield from self._numbered(pieces)
            return
        with_usage = (self._asked.request.get("stream_options") or {}).get("include_usage")
        for index in range(self._number):
            yield from self._chunks(index, pieces)
        if with_usage:
            yield {**self._chunk([]), "usage": self._usage}
        if self._broken("more-after-usage"):
            yield self._chunk([])

    def _numbered(self, pieces: list[str]) -> Iterator[dict[str, Any]]:
        deltas: list[dict[str, Any]] = [{"type": "response.output_text.delta", "delta": piece} for piece in pieces]
        first = {"type": "response.created", "response": {"id": "resp_1"}}
        last = {"type": "response.completed", "response": self._response("".join(pieces))}
        for number, event in enumerate([first, *deltas, last]):
            yield {**event, "sequence_number": number + self._broken("numbers-wrongly")}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            **self._frame,
            "object": self._kind.replace("chat.completion", "chat.completion.chunk"),
            "choices": choices,
        }

    def _chunks(self, index: int, pieces: list[str]) -> Iterator[dict[str, Any]]:
        if self._asked.api == "chat":
            role = "user" if self._broken("wrong-role") else "assistant"
            yield self._chunk([{"index": index, "delta": {"role": role, "content": self._echoed}}])
            for number, call in enumerate(self._calls):
                first, rest = call["arguments"][:3], call["arguments"][3:]
                parts = [{"name": call["name"], "arguments": first}, {"arguments": rest}]
                for part in parts:
                    delta = {"tool_calls": [{"index": number, "function": part}]}
                    yield self._chunk([{"index": index, "delta": delta}])
        elif self._echoed:
            yield self._chunk([{"index": index, "text": self._echoed}])
        for piece in pieces:
            content = {"text": piece} if self._asked.api == "completions" else {"delta": {"content": piece}}
            yield self._chunk([{"index": index, **content, "logprobs": self._logprobs(piece)}])
        ended: dict[str, Any] = {"text": ""} if self._asked.api == "completions" else {"delta": {}}
        last = self._chunk([{"index": index, **ended, "finish_reason": self._reason}])
        yield {**last, "prompt_token_ids": self._of_prompt().get("prompt_token_ids")}


class Server(ThreadingHTTPServer):
    """The server.

    Args:
        arguments: The command line.
        broken: How it is broken.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, arguments: Namespace, broken: frozenset[str]) -> None:
        super().__init__(("0.0.0.0", arguments.port), Handler)  # noqa: S104 - in a container
        self.model = arguments.served_model_name or arguments.model
        self._broken = broken
        self.asked = False
        self.requests = {"arrived": 0, "running": 0}
        self.lock = threading.Lock()
        self.folder = os.environ.get("STANDIN_ROOT", arguments.model)
        self.counted = dict.fromkeys(("request_success", "prompt_tokens", "generation_tokens", "reading"), 0)
        self.salts: set[str | None] = set()
        self.engine = None if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0" else _started_engine()

    def broken(self, fault: str) -> bool:
        """Whether it has a fault."""
        return fault in self._broken

    def count(self, name: str, number: int) -> None:
        """Add to a metric."""
        with self.lock:
            self.counted[name] += number


def _started_engine() -> subprocess.Popen[bytes]:
    """A process with the title of vLLM's engine, which does nothing and ends with the server."""
    argv = ["VLLM::EngineCore", "-I", "-S", "-c", "import sys; sys.stdin.read()"]
    return subprocess.Popen(argv, executable=sys.executable, stdin=subprocess.PIPE)


def _write_to_source() -> None:
    """Leave something in the source folder."""
    Path(__file__).with_name("written.txt").write_text("written\n", encoding="utf-8")


def serve(arguments: Namespace) -> int:
    """Serve until SIGTERM.

    Returns:
        The exit status.
    """
    broken = faults.active()
    log(f"vLLM API server version {importlib.import_module('vllm.version').__version__}")
    for ending in (faults.AT_START[fault] for fault in broken & faults.AT_START.keys()):
        sys.stdout.write(ending.log + "\n")
        return ending.exit_code
    json.loads(Path(arguments.model, "config.json").read_text(encoding="utf-8"))
    if "writes-to-its-source" in broken:
        _write_to_source()
    if "asks-who-it-is" in broken:
        log(f"Started by {pwd.getpwuid(os.getuid()).pw_name}")
    if "looks-at-home" in broken:
        log(f"Found at home: {sorted(Path.home().iterdir())}")
    if "commands-the-terminal" in broken:
        log("\x1b]52;c;ZWNobyBmb3JnZWQ=\x07\x1b[2J\u202eforged\rPASSED")
    while "prints-without-end" in broken:
        sys.stdout.write("endless " * 8192)
    if "hangs" in broken or ("hangs-for-anybody" in broken and os.getuid() != _USER):
        log("Waiting for something that never comes")
        signal.pause()
    server = Server(arguments, broken)
    if "ignores-sigterm" in broken:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        # In a thread: shutdown() waits for the loop that the handler interrupted.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    log(f"Starting vLLM server on http://0.0.0.0:{arguments.port}")
    server.serve_forever(poll_interval=0.05)
    log("Application shutdown complete.")
    return 1 if "bad-exit" in broken else 0
