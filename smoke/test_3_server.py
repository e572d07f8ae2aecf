"""The server starts and says what it is."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from build.engine import labels

if TYPE_CHECKING:
    from build.config.expectation import Expectation
    from build.engine.image import Image
    from smoke.server.server import Server

_SHOWN = 300

_HELLO = [{"role": "user", "content": "Hello."}]
# What vLLM 0.31 to 0.33 serve for a model that generates text, what is posted there, and what the answer must have.
_ROUTES: dict[str, tuple[dict[str, Any] | None, str]] = {
    "/detokenize": ({"tokens": [1]}, "prompt"),
    "/health": (None, ""),
    "/load": (None, "server_load"),
    "/metrics": (None, "vllm:"),
    "/ping": (None, ""),
    "/tokenize": ({"prompt": "Hello."}, "tokens"),
    "/v1/chat/completions": ({"messages": _HELLO, "max_tokens": 1}, "choices"),
    "/v1/completions": ({"prompt": "Hello.", "max_tokens": 1}, "choices"),
    "/v1/messages": ({"messages": _HELLO, "max_tokens": 1}, "content"),
    "/v1/models": (None, "data"),
    "/v1/responses": ({"input": "Hello.", "max_output_tokens": 1}, "output"),
    "/version": (None, "version"),
}


def test_health(server: Server) -> None:
    """The server becomes healthy in time."""
    assert server.healthy(), "/health does not answer 200 any more"


def test_version(server: Server, image: Image) -> None:
    """The server's /version is what the image's label says."""
    expected = image.labels.get(labels.VERSION)
    if not expected:
        pytest.skip(f"not applicable: the image has no label {labels.VERSION}")
    answer = server.get("/version").json()
    assert answer == {"version": expected}, f"/version says {answer}, the label {expected!r}"


def test_routes(server: Server) -> None:
    """The server's OpenAPI document has every route that clients of vLLM count on."""
    answer = server.get("/openapi.json")
    assert answer.ok, f"/openapi.json answered {answer.status}"
    missing = sorted(_ROUTES.keys() - answer.json()["paths"].keys())
    assert not missing, f"no {', '.join(missing)}"


def test_calls(server: Server, *, foreseeable: bool) -> None:
    """Each route that clients count on answers, and no other one below /v1 fails when it is asked for nothing."""
    wrong = []
    for route, (document, content) in _ROUTES.items():
        answer = server.get(route) if document is None else server.post(route, {"model": server.model, **document})
        if not foreseeable and "chat template" in answer.text:
            continue  # a model that is not made for chats
        if not answer.ok or content not in answer.text:
            wrong.append(f"{route} answered {answer.status} {answer.text[:_SHOWN]!r}")
    for route, methods in server.get("/openapi.json").json()["paths"].items():
        if route in _ROUTES or not route.startswith("/v1/") or "post" not in methods:
            continue
        answer = server.post(route.replace("{", "").replace("}", ""), {})
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            wrong.append(f"{route} answered {answer.status} {answer.text[:_SHOWN]!r}")
    assert not wrong, "; ".join(wrong)


def test_metrics(server: Server) -> None:
    """The server's /metrics are in Prometheus' text format, vLLM's own among them."""
    names = [metric.name for metric in server.metrics()]
    assert any(name.startswith("vllm:") for name in names), f"none of {len(names)} metrics is vLLM's"


def test_expectation(server: Server, expectation: Expectation) -> None:
    """The server shows each text that the run expects: the change that the image was made for."""
    answer = server.get(expectation.route)
    shown = f"{answer.status} {answer.text[:_SHOWN]!r}"
    assert answer.ok, f"GET {expectation.route} answered {shown}"
    assert expectation.text in answer.text, f"{expectation.text!r} is not in GET {expectation.route}: {shown}"
