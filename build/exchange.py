"""One request and its answer over HTTP, within a deadline and a number of bytes, and with no password but the given."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.auth import AuthBase

from build.deadline import within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOOPBACK = re.compile(r"(?:127\.[0-9.]+|localhost|\[::1\])(?::[0-9]+)?")
_CHUNK_BYTES = 1 << 16
_CONNECT_S = 10


def is_loopback(address: str) -> bool:
    """Whether ``host`` or ``host:port`` is this machine's loopback interface by its name."""
    return bool(_LOOPBACK.fullmatch(address))


class TooLargeError(Exception):
    """An answer has more bytes than may be."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status.
        headers: Case does not matter in their names.
        content: The whole body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return self.status < 400  # noqa: PLR2004 - HTTP's statuses of errors

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        """The body as a JSON document.

        Raises:
            ValueError: It is not one.
        """
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


class _GivenOnly(AuthBase):
    """Leaves a request as it is: without this, requests looks into the user's netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Session(requests.Session):
    """Connections that are kept. What leads to another host goes there without credentials, the netrc's included."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        before, after = str(response.request.url), str(prepared_request.url)
        if "Authorization" in prepared_request.headers and self.should_strip_auth(before, after):  # type: ignore[no-untyped-call]
            del prepared_request.headers["Authorization"]


class Exchange:
    """Asks servers.

    Args:
        seconds: What one request may take, from the name's resolution to the answer's last byte.
        is_untrusted: Whether those who answer may lead nowhere else: no redirect is followed, and no proxy asked.
    """

    def __init__(self, *, seconds: float, is_untrusted: bool = False) -> None:
        self._seconds = seconds
        self._is_untrusted = is_untrusted
        self._sessions: dict[bool, requests.Session] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        limit: int,
        headers: Mapping[str, str],
        form: Mapping[str, str] | bytes | None = None,
        verify: bool = True,
        seconds: float | None = None,
    ) -> Answer:
        """Send a request.

        Args:
            method: HTTP method. Only GET follows redirects, and none of those that are untrusted.
            url: Where to; loopback addresses are never asked through a proxy, as Docker has it.
            limit: Bytes that the body of the answer may have.
            headers: Of the request.
            form: What is posted: fields of a form, or a body as it is.
            verify: Whether a server with TLS must prove who it is.
            seconds: What this one may take, if that is less.

        Raises:
            TimeoutError: It took longer than it may.
            TooLargeError: The answer has more bytes than it may.
            requests.RequestException: There was no answer.
        """

        def ask() -> Answer:
            session = self._session(url)
            with (
                _unverified(verify),
                session.request(
                    method,
                    url,
                    headers=dict(headers),
                    data=form,
                    timeout=(_CONNECT_S, self._seconds),
                    allow_redirects=method == "GET" and not self._is_untrusted,
                    stream=True,
                    verify=verify,
                ) as answer,
            ):
                return Answer(status=answer.status_code, headers=answer.headers, content=_read(answer, limit))

        try:
            return within(min(seconds or self._seconds, self._seconds), ask)
        except TimeoutError:
            # Its thread may still use them.
            self._sessions = {}
            raise

    def close(self) -> None:
        """Drop the connections that are kept."""
        for session in self._sessions.values():
            session.close()
        self._sessions = {}

    def _session(self, url: str) -> requests.Session:
        direct = self._is_untrusted or is_loopback(urlsplit(url).netloc)
        if direct not in self._sessions:
            session = _Session()
            session.auth = _GivenOnly()
            session.trust_env = not direct
            self._sessions[direct] = session
        return self._sessions[direct]


@contextlib.contextmanager
def _unverified(verify: bool) -> Iterator[None]:  # noqa: FBT001 - as requests has it
    """Without urllib3's warning where it is the engine's configuration that a server need not prove who it is."""
    with warnings.catch_warnings():
        if not verify:
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        yield


def _read(answer: requests.Response, limit: int) -> bytes:
    body = bytearray()
    for chunk in answer.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"more than {limit / 2**20:.0f} MiB")
    return bytes(body)
