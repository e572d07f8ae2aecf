"""openai clients that give a server under test no more than it is due: no redirect, no answer without end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx2
import openai

from smoke.server.server import ANSWER_LIMIT, WrongAnswerError, refuse_redirect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from smoke.server.server import Server

_NO_KEY = "none"  # the client wants one


def connect(server: Server, key: str) -> openai.OpenAI:
    """Make a client with an API key. It repeats nothing, and uses no proxy."""
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key=key or _NO_KEY,
        max_retries=0,
        timeout=server.answer_s,
        http_client=openai.DefaultHttpxClient(
            trust_env=False,
            follow_redirects=False,
            headers=_PLAIN,
            limits=_LIMITS,
            event_hooks={"response": [lambda response: _bound(response, server.answer_s)]},
        ),
    )


def connect_async(server: Server) -> openai.AsyncOpenAI:
    """Make a client for many requests at once, with the server's API key."""

    async def bound(response: httpx2.Response) -> None:
        _bound(response, server.answer_s)

    return openai.AsyncOpenAI(
        base_url=f"{server.url}/v1",
        api_key=server.key or _NO_KEY,
        max_retries=0,
        timeout=server.answer_s,
        http_client=openai.DefaultAsyncHttpxClient(
            trust_env=False, follow_redirects=False, headers=_PLAIN, limits=_LIMITS, event_hooks={"response": [bound]}
        ),
    )


# Nothing that is unpacked: a megabyte may become a thousand.
_PLAIN = {"Accept-Encoding": "identity"}


# No connection is used again: a server drops idle ones after seconds, and a slow machine may be asking right then.
_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=0)


class _Meter:
    """What is left of an answer's bytes and time."""

    def __init__(self, route: str, seconds: float) -> None:
        self._route = route
        self._seconds = seconds
        self._left = ANSWER_LIMIT
        self._deadline = time.monotonic() + seconds

    def count(self, chunk: bytes) -> bytes:
        self._left -= len(chunk)
        if self._left < 0:
            raise WrongAnswerError(f"{self._route} was answered with more than {ANSWER_LIMIT / 2**20:.0f} MiB")
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"{self._route} was not answered to its end within {self._seconds:g} s")
        return chunk


class _Bounded(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """The body of an answer, as far as it may go."""

    def __init__(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream, meter: _Meter) -> None:
        self._stream = stream
        self._meter = meter

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._stream, httpx2.SyncByteStream)
        yield from map(self._meter.count, self._stream)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._stream, httpx2.AsyncByteStream)
        async for chunk in self._stream:
            yield self._meter.count(chunk)

    def close(self) -> None:
        assert isinstance(self._stream, httpx2.SyncByteStream)
        self._stream.close()

    async def aclose(self) -> None:
        assert isinstance(self._stream, httpx2.AsyncByteStream)
        await self._stream.aclose()


def _bound(response: httpx2.Response, seconds: float) -> None:
    """Bound an answer whose body is still to come.

    Raises:
        WrongAnswerError: It is one that is not to be taken.
    """
    route = response.request.url.path
    refuse_redirect(route, response.status_code, response.headers)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise WrongAnswerError(f"{route} was answered with the encoding {encoding!a}, which was not asked for")
    response.stream = _Bounded(response.stream, _Meter(route, seconds))
