"""A minimal OpenAI-compatible server that answers as vLLM with the smoke suite's own model does.

Part of the stand-in's source tree: standard library only. The model has one token a byte and follows a
printable character by the next one in ASCII.
"""

from __future__ import annotations

import contextlib
import hmac
import importlib
import json
import os
import pwd
import signal
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
_SHORT = 3
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


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server

    def do_GET(self) -> None:
        """Answer a GET request."""
        if self._is_hostile():
            return
        self._answer(
            {
                "/health": self._health,
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
        with self._counted():
            self._answer(
                {
                    "/v1/completions": self._completion,
                    "/v1/chat/completions": self._chat,
                    "/v1/responses": self._responses,
                    "/tokenize": self._tokenize,
                    "/detokenize": self._detokenize,
                }
            )

    def _is_hostile(self) -> bool:
        """Answer as no server does that means well, if this is one of them."""
        asked = self.path == "/v1/completions"
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
    def _counted(self) -> Iterator[None]:
        """Count the request among those that are worked on."""
        with self.server.lock:
            self.server.running += 1
        try:
            yield
        finally:
            with self.server.lock:
                self.server.running -= 1

    def _answer(self, routes: dict[str, Any]) -> None:
        try:
            self._check_key()
            routes.get(self.path, self._nothing)()
        except Refusal as refusal:
            self._send(refusal.body, refusal.status)
        except BrokenPipeError:
            log("The client went away")

    def _nothing(self) -> None:
        raise Refusal(HTTPStatus.NOT_FOUND, "Not Found", "Not Found")

    def _check_key(self) -> None:
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

    def _stream(self, documents: Iterator[dict[str, Any]]) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        for document in documents:
            self.wfile.write(f"data: {json.dumps(document)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _health(self) -> None:
        unhealthy = self.server.broken("unhealthy") and self.server.asked
        self._send(None, HTTPStatus.SERVICE_UNAVAILABLE if unhealthy else HTTPStatus.OK)

    def _version(self) -> None:
        version = importlib.import_module("vllm.version").__version__
        self._send({"version": "0.0.1" if self.server.broken("wrong-version") else version})

    def _openapi(self) -> None:
        left_out = "/v1/responses" if self.server.broken("no-route") else None
        self._send({"openapi": "3.1.0", "paths": {route: {} for route in ROUTES if route != left_out}})

    def _metrics(self) -> None:
        kept = 1 if self.server.broken("keeps-cancelled") and self.server.asked else 0
        text = f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {self.server.running + kept}\n"
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
        self._send({"object": "list", "data": [{**vars(card(id=name)), "max_model_len": _CONTEXT}]})

    def _request(self) -> dict[str, Any]:
        request: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if request.get("model", self.server.model) != self.server.model and not self.server.broken("no-404"):
            message = f"The model `{request['model']}` does not exist."
            raise Refusal(HTTPStatus.NOT_FOUND, "NotFoundError", message, "model")
        if request.get("temperature", 1) < 0 and not self.server.broken("no-400"):
            message = f"temperature must be non-negative, got {request['temperature']}."
            refusal = Refusal(HTTPStatus.BAD_REQUEST, "BadRequestError", message, "temperature")
            if self.server.broken("bare-400"):
                refusal.body = {}
            raise refusal
        return request

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

    def _completion(self) -> None:
        request = self._request()
        if isinstance(request["prompt"], list):
            self._send_numbers(request)
            return
        self._misbehave()
        text = self._continued(request, request["prompt"])
        if self.server.broken("wrong-text"):
            text = text[::-1]
        self._send_text(request, request["prompt"], text, kind="text_completion", key="text")

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

    def _chat(self) -> None:
        request = self._request()
        self._misbehave()
        prompt = templated(request["messages"])
        text = self._continued(request, "" if self.server.broken("wrong-chat") else prompt)
        self._send_text(request, prompt, text, kind="chat.completion", key="message")

    def _responses(self) -> None:
        request = self._request()
        prompt = templated([{"role": "user", "content": request["input"]}])
        text = follow("" if self.server.broken("wrong-response") else prompt, request["max_output_tokens"])
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        usage = {
            "input_tokens": len(prompt),
            "output_tokens": len(text),
            "total_tokens": len(prompt) + len(text),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        frame = {"id": "resp_1", "object": "response", "created_at": 1, "model": self.server.model}
        self._send({**frame, "status": "incomplete", "output": [message], "usage": usage})

    def _continued(self, request: dict[str, Any], prompt: str) -> str:
        """What the model says, as the request limits it."""
        schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema")
        if schema and not self.server.broken("unstructured"):
            return json.dumps(schema["enum"][0])
        if len(prompt.encode()) > _CONTEXT and not self.server.broken("takes-too-long"):
            message = f"This model's maximum context length is {_CONTEXT} tokens."
            raise Refusal(HTTPStatus.BAD_REQUEST, "BadRequestError", message, "input_tokens")
        if self.server.broken("mixes-up") and self.server.running > 1:
            prompt = ""
        length = request["max_tokens"]
        text = follow(prompt, length - 1 if self.server.broken("too-short") and length <= _SHORT else length)
        for stop in request.get("stop") or () if not self.server.broken("ignores-stop") else ():
            text = text.partition(stop)[0]
        return text

    def _send_text(self, request: dict[str, Any], prompt: str, text: str, *, kind: str, key: str) -> None:
        wrong = 1 if self.server.broken("wrong-usage") else 0
        number = 1 if self.server.broken("ignores-n") else request.get("n") or 1
        usage = {
            "prompt_tokens": len(prompt.encode()) + wrong,
            "completion_tokens": len(text) * number,
            "total_tokens": len(prompt.encode()) + len(text) * number,
        }
        frame = {"id": "cmpl-1", "created": 1, "model": self.server.model}
        if request.get("stream"):
            with_usage = (request.get("stream_options") or {}).get("include_usage")
            self._stream(self._chunks(frame, text, usage if with_usage else None, kind=kind, key=key))
            return
        role = "user" if self.server.broken("wrong-role") else "assistant"
        content: Any = text if key == "text" else {"role": role, "content": text}
        reason = "length" if len(text) == request["max_tokens"] else "stop"
        logprobs = self._logprobs(text) if request.get("logprobs") else None
        choice = {key: content, "finish_reason": reason, "logprobs": logprobs}
        choices = [{"index": index, **choice} for index in range(number)]
        self._send({**frame, "object": kind, "choices": choices, "usage": usage})

    def _logprobs(self, text: str) -> dict[str, Any]:
        value = 0.5 if self.server.broken("wrong-logprobs") else -0.1
        tokens = [{"token": character, "logprob": value, "bytes": list(character.encode())} for character in text]
        return {"content": [{**token, "top_logprobs": [token]} for token in tokens]}

    def _chunks(
        self, frame: dict[str, Any], text: str, usage: dict[str, int] | None, *, kind: str, key: str
    ) -> Iterator[dict[str, Any]]:
        frame = {**frame, "object": kind if key == "text" else f"{kind}.chunk"}
        pieces = [text] if self.server.broken("stream-in-one-piece") else list(text)
        if self.server.broken("broken-stream"):
            del pieces[len(pieces) // 2]
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            content = {"text": piece} if key == "text" else {"delta": {"content": piece}}
            yield {**frame, "choices": [{"index": 0, **content, "finish_reason": "length" if last else None}]}
        if usage:
            yield {**frame, "choices": [], "usage": usage}

    def _tokenize(self) -> None:
        request = self._request()
        text = request["prompt"] if "prompt" in request else templated(request["messages"])
        tokens = list(text.encode())
        self._send({"count": len(tokens), "max_model_len": 512, "tokens": tokens})

    def _detokenize(self) -> None:
        tokens = self._request()["tokens"]
        if self.server.broken("wrong-tokens"):
            tokens = tokens[1:]
        self._send({"prompt": bytes(tokens).decode()})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
        """Log a request as uvicorn does."""
        log(f"{self.client_address[0]}:{self.client_address[1]} - {format % args}")


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
        self.running = 0
        self.lock = threading.Lock()

    def broken(self, fault: str) -> bool:
        """Whether it has a fault."""
        return fault in self._broken


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
