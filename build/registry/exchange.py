"""HTTP requests with a deadline, a size limit, and only the given credentials."""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.auth import AuthBase

from build.host.address import is_loopback
from build.host.deadline import within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHUNK_BYTES = 1 << 16
_CONNECT_S = 10


class TooLargeError(Exception):
    """An answer exceeds its size limit."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a request.

    Attributes:
        status: HTTP status.
        headers: Headers with case-insensitive names.
        content: Body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is not an error."""
        return self.status < 400  # noqa: PLR2004 - HTTP's statuses of errors

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        """The body as a JSON document.

        Raises:
            ValueError: The body is not JSON.
        """
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


class _GivenOnly(AuthBase):
    """Authentication that does nothing. It keeps requests from reading the user's netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Session(requests.Session):
    """A session that drops credentials on a redirection to another host and does not use the netrc."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        before, after = str(response.request.url), str(prepared_request.url)
        if "Authorization" in prepared_request.headers and self.should_strip_auth(before, after):  # type: ignore[no-untyped-call]
            del prepared_request.headers["Authorization"]


class Exchange:
    """The sender of requests.

    Args:
        seconds: Time limit of a request, from name resolution to the last byte of the answer.
        is_untrusted: Whether to follow no redirection, use no proxy, and use each connection once: a busy server may
            close a kept connection just as the next request arrives (uvicorn does so after five seconds).
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
            method: HTTP method. Only GET follows redirections, and not from untrusted servers.
            url: URL. Loopback addresses never use a proxy, like in Docker.
            limit: Maximum bytes of the answer's body.
            headers: Headers of the request.
            form: Fields of a form, or the body.
            verify: Whether to verify the server's certificate.
            seconds: Time limit of this request, if lower.

        Raises:
            TimeoutError: The request exceeded its time limit.
            TooLargeError: The answer exceeds its size limit.
            requests.RequestException: The server did not answer.
        """

        def ask() -> Answer:
            with (
                self._session(url) as session,
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
            # The thread may still use them.
            self._sessions = {}
            raise

    def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            session.close()
        self._sessions = {}

    @contextlib.contextmanager
    def _session(self, url: str) -> Iterator[requests.Session]:
        """Yield the session for a URL: a kept one, or for an untrusted server a new one."""
        if self._is_untrusted:
            with _session(direct=True) as session:
                yield session
            return
        direct = is_loopback(urlsplit(url).netloc)
        if direct not in self._sessions:
            self._sessions[direct] = _session(direct=direct)
        yield self._sessions[direct]


def _session(*, direct: bool) -> requests.Session:
    made = _Session()
    made.auth = _GivenOnly()
    made.trust_env = not direct
    return made


@contextlib.contextmanager
def _unverified(verify: bool) -> Iterator[None]:  # noqa: FBT001 - the name in requests
    """Suppress urllib3's warning if the engine's configuration disables verification."""
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
