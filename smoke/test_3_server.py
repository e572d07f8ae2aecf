"""The server starts and says what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build import labels

if TYPE_CHECKING:
    from build.engine import Image
    from build.expectation import Expectation
    from smoke.server import Server

_SHOWN = 300

# What vLLM 0.31 to 0.33 serve for a model that generates text.
_ROUTES = frozenset(
    {
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
    }
)


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
    missing = sorted(_ROUTES - answer.json()["paths"].keys())
    assert not missing, f"no {', '.join(missing)}"


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
