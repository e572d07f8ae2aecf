"""An answer of a server under test, which may have no end or lead elsewhere."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from smoke.server import openai_client, server
from smoke.server.openai_client import connect, connect_async
from smoke.server.server import Server, WrongAnswerError
from tests.unit.loopback import Answer, Asked, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that answers with more than is read."""
    for module in (server, openai_client):
        monkeypatch.setattr(module, "ANSWER_LIMIT", 2**20)
    with serving(lambda _asked: Answer(body=b" " * 2**21)) as address:
        yield Server(url=f"http://{address}", key="")


async def _listed(server: Server) -> None:
    async with connect_async(server) as client:
        await client.models.list()


WAYS: dict[str, Callable[[Server], object]] = {
    "requests": lambda server: server.get("/v1/models"),
    "openai": lambda server: connect(server, "").models.list(),
    "openai at once": lambda server: asyncio.run(_listed(server)),
}


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_an_answer_is_read_up_to_a_number_of_bytes(talkative: Server, ask: Callable[[Server], object]) -> None:
    with pytest.raises(WrongAnswerError, match="/v1/models was answered with more than 1 MiB"):
        ask(talkative)


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_no_redirect_is_followed(ask: Callable[[Server], object]) -> None:
    asked: list[str] = []

    def service(one: Asked) -> Answer:
        asked.append(one.path)
        return Answer(status=302, headers={"Location": "/elsewhere"})

    with serving(service) as address, pytest.raises(WrongAnswerError, match="a redirect to '/elsewhere'"):
        ask(Server(url=f"http://{address}", key=""))
    assert asked == ["/v1/models"]


@pytest.mark.parametrize("way", ["openai", "openai at once"])
def test_an_answer_that_goes_on_has_a_deadline(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Between two looks at the clock, more time passes than an answer may take.
    clock = SimpleNamespace(monotonic=itertools.count(step=1000).__next__)
    with serving(lambda _asked: Answer(body=b"{}")) as address:
        monkeypatch.setattr(openai_client, "time", clock)
        with pytest.raises(TimeoutError, match="/v1/models was not answered to its end within 120 s"):
            WAYS[way](Server(url=f"http://{address}", key=""))
