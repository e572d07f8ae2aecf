"""The image also serves where nothing of its own choice is left to it, as on OpenShift.

A second server of a base, or of any image with ``--any-user``, after the first is gone: as an arbitrary user of
group 0, without capabilities, on a root that cannot be written to. ``/tmp`` and the folders of caches are writable.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
import requests

from smoke.server import tiny_model
from smoke.server.server import POLL_S

if TYPE_CHECKING:
    import openai

    from smoke.server.server import ContainerServer
    from smoke.suite.image_run import Run

_PROMPT = "Go on: abc"
_LENGTH = 8


def test_health(anybodys_server: ContainerServer) -> None:
    """The server becomes healthy in time as an arbitrary user of group 0 on a read-only root."""
    assert anybodys_server.healthy(), "/health does not answer 200 any more"


def test_completion(anybodys_server: ContainerServer, anybodys_client: openai.OpenAI, *, foreseeable: bool) -> None:
    """That server answers a completion."""
    answer = anybodys_client.completions.create(
        model=anybodys_server.model, prompt=_PROMPT, max_tokens=_LENGTH, temperature=0
    )
    assert answer.usage, "the answer has no usage"
    assert 0 < answer.usage.completion_tokens <= _LENGTH, f"{_LENGTH} tokens were allowed: {answer.usage}"
    if foreseeable:
        text, expected = answer.choices[0].text, tiny_model.continuation(_PROMPT, _LENGTH)
        assert text == expected, f"{_PROMPT!r} went on with {text!r}, not {expected!r}"


def test_dead_engine(run: Run, anybodys_server: ContainerServer) -> None:
    """When its engine is killed, that server says so: /health answers 503, or it ends. Nothing is asked of it then."""
    assert run.launch is not None, "it was started"
    if not anybodys_server.end_engine(run.launch.pythons):
        pytest.skip("not applicable: its engine has no process of its own")
    run.server = None  # what it prints from now on does not count
    deadline = time.monotonic() + anybodys_server.answer_s
    while (status := _health(anybodys_server)) == HTTPStatus.OK and time.monotonic() < deadline:
        time.sleep(POLL_S)
    assert status in (HTTPStatus.SERVICE_UNAVAILABLE, None), f"without its engine /health answers {status}"


def _health(server: ContainerServer) -> int | None:
    """What it answers to /health, None if it is gone."""
    try:
        return server.get("/health").status
    except (requests.RequestException, KeyError):
        return None
