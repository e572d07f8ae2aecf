"""The client of an image registry's HTTP API.

Specification: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from tenacity import RetryCallState, retry, retry_if_exception, stop_after_attempt, stop_after_delay

from build.engine import credentials
from build.errors import RegistryError
from build.host.address import is_loopback
from build.registry import refusal
from build.registry.exchange import Answer, Exchange, TooLargeError
from build.registry.manifest import IMAGES, LISTS, Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from build.registry.repository_name import RepositoryName

_ACCEPT = ", ".join((*IMAGES, *LISTS))

_REQUEST_S = 20
_HANDSHAKE_S = 5
_TOGETHER_S = 60
_MANIFEST_BYTES = 4 << 20
"""The size that a registry must accept (distribution-spec v1.1, Pushing Manifests). Usual manifests have some kB."""
_DOCUMENT_BYTES = 32 << 20
_DONE = range(200, 300)


@dataclass(frozen=True, kw_only=True)
class _Document:
    """The body of an upload."""

    content: bytes
    media_type: str


class _OverloadedError(Exception):
    """An answer that is worth a retry.

    Args:
        status: HTTP status of the answer.
        after: Seconds to wait, from the answer; None without them.
    """

    def __init__(self, status: int, after: float | None) -> None:
        super().__init__(f"status {status}" + (f", try again after {after:.0f} s" if after is not None else ""))
        self.after = after


def _may_get_better(error: BaseException) -> bool:
    """Return whether a retry may help. An error status below 500 is final, except 429."""
    if isinstance(error, _OverloadedError):
        return error.after is None or bool(error.after < _TOGETHER_S)
    return isinstance(error, (TimeoutError, requests.Timeout))


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _OverloadedError) and error.after is not None:
        return error.after
    return float(min(0.5 * 2 ** (state.attempt_number - 1), 5.0))


class Registry:
    """The client of one repository.

    Args:
        name: The repository.
        insecure: Whether the engine contacts its host without TLS, or without verifying TLS.
    """

    def __init__(self, name: RepositoryName, *, insecure: bool = False) -> None:
        self.name = name
        self._exchange = Exchange(seconds=_REQUEST_S)
        self._insecure = insecure or is_loopback(name.host)
        # The engine's order. On loopback, HTTP comes first: nearly all registries there use it.
        self._schemes = ["https", "http"] if self._insecure else ["https"]
        if is_loopback(name.host):
            self._schemes.reverse()
        if name.access:
            self._schemes = ["http"]
        self._authorization: str | None = None

    @property
    def stored(self) -> credentials.Stored:
        """The credentials: the embedded registry's own login, else those that ``docker login`` stored."""
        if self.name.access:
            return credentials.Stored(host=self.name.host, login=self.name.access.login, trouble=None)
        return credentials.stored(self.name.host, os.environ)

    def require_reachable(self) -> None:
        """Check that the registry answers, before long work.

        Raises:
            RegistryError: The host does not answer, or is not a registry.
        """
        if self._get("/").status == requests.codes.not_found:
            raise self._no_registry("answers 404 to GET /v2/")

    def manifest(self, tag: str) -> Manifest | None:
        """Return the manifest with a tag or digest, or None.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        answer = self._get(f"/{self.name.path}/manifests/{tag}", limit=_MANIFEST_BYTES)
        if answer.status == requests.codes.not_found:
            return None
        try:
            content_type = answer.headers.get("Content-Type", "")
            return Manifest.parse(answer.content, answer.json(), content_type=content_type)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise self._no_registry(f"does not serve a manifest under {tag}") from error

    def tags(self) -> list[str]:
        """Return all tags. A missing repository has none.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        document = self._document(f"/{self.name.path}/tags/list")
        # distribution 2.8 answers `null` after the last tag was removed.
        tags = document.get("tags") or ()
        if not isinstance(tags, (list, tuple)):
            raise self._no_registry("does not serve a list of tags")
        return [str(tag) for tag in tags]

    def blob(self, digest: str) -> Mapping[str, Any]:
        """Return a JSON blob of a manifest, empty if it is missing.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        return self._document(f"/{self.name.path}/blobs/{digest}")

    def has_blob(self, digest: str) -> bool:
        """Return whether a layer or configuration exists. A redirection to its storage counts and is not followed.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        answer = self._get(f"/{self.name.path}/blobs/{digest}", method="HEAD")
        return answer.status != int(requests.codes.not_found)

    def put_manifest(self, tag: str, content: bytes, media_type: str) -> None:
        """Point a tag at a manifest whose configuration and layers exist. An existing tag moves.

        The caller checks the result.

        Args:
            tag: Tag to set.
            content: Bytes of the manifest.
            media_type: Media type of the manifest.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        path = f"/{self.name.path}/manifests/{tag}"
        self._get(path, method="PUT", document=_Document(content=content, media_type=media_type))

    def delete(self, digest: str) -> None:
        """Remove a manifest and all its tags. Garbage collection removes its layers.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        self._get(f"/{self.name.path}/manifests/{digest}", method="DELETE")

    def untag(self, tag: str) -> None:
        """Remove a tag without its manifest.

        Registries need not support that (distribution-spec v1.1, Deleting tags). distribution 2.8 removes the manifest
        with all its tags instead. So a tag of the embedded registry is first pointed at its own empty index, which is
        then deleted.

        Raises:
            RegistryError: The registry does not answer, refuses, or does not support it.
        """
        if not self.name.access:
            self._get(f"/{self.name.path}/manifests/{tag}", method="DELETE")
            return
        content = json.dumps({"schemaVersion": 2, "mediaType": LISTS[0], "manifests": [], "annotations": {"for": tag}})
        self.put_manifest(tag, content.encode(), LISTS[0])
        self.delete(f"sha256:{hashlib.sha256(content.encode()).hexdigest()}")

    def _document(self, path: str) -> Mapping[str, Any]:
        answer = self._get(path)
        if not answer.ok:
            return {}
        try:
            return dict(answer.json())
        except (ValueError, TypeError) as error:
            raise self._no_registry(f"does not serve a JSON document at {path}") from error

    def _get(
        self, path: str, *, method: str = "GET", limit: int = _DOCUMENT_BYTES, document: _Document | None = None
    ) -> Answer:
        try:
            answer = self._ask(method, path, limit, document)
        except TooLargeError as error:
            raise self._no_registry(f"answers {method} /v2{path} with {error}") from error
        except (_OverloadedError, TimeoutError, requests.RequestException, ValueError) as error:
            raise self._silent(error) from error
        if answer.status in {requests.codes.unauthorized, requests.codes.forbidden}:
            raise self._refusal(answer)
        if document and answer.status not in _DONE:
            raise self._not_named(answer, path.rpartition("/")[2])
        if not answer.ok and answer.status != requests.codes.not_found:
            raise self._no_registry(f"answers {answer.status} to {method} /v2{path}")
        return answer

    def _silent(self, error: Exception) -> RegistryError:
        by_tls = isinstance(error, requests.exceptions.SSLError)
        hint = "check its address and the network; `python -m build engine up` starts the embedded one"
        return RegistryError(
            f"registry {self.name.host} does not answer: {_reason(error)}",
            hint=refusal.untrusted(self.name.host) if by_tls else hint,
            may_pass=(isinstance(error, requests.ConnectionError) and not by_tls) or _may_get_better(error),
        )

    def _refusal(self, answer: Answer) -> RegistryError:
        said = refusal.said(answer)
        refused = f"registry {self.name.host} refuses access to {self.name.path}"
        trouble = self.stored.trouble
        return RegistryError(
            ": ".join(part for part in (refused, said, trouble) if part),
            hint="`python -m build engine up` gives the embedded registry a new password"
            if self.name.access
            else refusal.advice(
                said if answer.status != requests.codes.unauthorized else "unauthorized", self.name.host
            ),
        )

    def _not_named(self, answer: Answer, tag: str) -> RegistryError:
        said = refusal.said(answer) or f"it answered {answer.status}"
        return RegistryError(
            f"registry {self.name.host} does not accept {self.name.path}:{tag}: {said}",
            hint=refusal.advice(said, self.name.host),
        )

    def _no_registry(self, why: str) -> RegistryError:
        return RegistryError(
            f"registry {self.name.host} {why}", hint="check that this is the address of an image registry"
        )

    @retry(
        retry=retry_if_exception(_may_get_better),
        stop=stop_after_attempt(3) | stop_after_delay(_TOGETHER_S - _REQUEST_S),
        wait=_pause,
        reraise=True,
    )
    def _ask(self, method: str, path: str, limit: int, document: _Document | None) -> Answer:
        answer = self._send(method, path, limit, document)
        if answer.status == requests.codes.unauthorized and self._authenticate(answer):
            answer = self._send(method, path, limit, document)
        _require_lasting(answer)
        return answer

    def _send(self, method: str, path: str, limit: int, document: _Document | None) -> Answer:
        """Send a request. Keep the first scheme that the server speaks."""
        if self._schemes[1:] and (answer := self._first(method, path, limit, document)):
            self._schemes = self._schemes[:1]
            return answer
        answer = self._send_by(self._schemes[-1], method, path, limit, document)
        self._schemes = self._schemes[-1:]
        return answer

    def _first(self, method: str, path: str, limit: int, document: _Document | None) -> Answer | None:
        """Send a request with the first scheme. Return None if the server does not speak it."""
        scheme = self._schemes[0]
        try:
            # A server without TLS may wait forever for the end of a line.
            seconds = _HANDSHAKE_S if scheme == "https" else None
            answer = self._send_by(scheme, method, path, limit, document, seconds=seconds)
        except requests.ConnectionError:
            return None
        except TimeoutError:
            if scheme == "http":
                raise
            return None
        # The answer of Go, nginx and Apache to a client without TLS.
        return None if answer.status == requests.codes.bad_request and b"HTTPS" in answer.content else answer

    def _send_by(
        self,
        scheme: str,
        method: str,
        path: str,
        limit: int,
        document: _Document | None,
        *,
        seconds: float | None = None,
    ) -> Answer:
        headers = {"Accept": _ACCEPT}
        if document:
            headers["Content-Type"] = document.media_type
        if self._authorization:
            headers["Authorization"] = self._authorization
        address = self.name.address_by(scheme) + path
        return self._exchange.send(
            method,
            address,
            limit=limit,
            headers=headers,
            form=document.content if document else None,
            verify=not self._insecure,
            seconds=seconds,
        )

    def _authenticate(self, answer: Answer) -> bool:
        """Answer the challenge of a 401 with the stored credentials. Return whether a retry is worthwhile.

        https://distribution.github.io/distribution/spec/auth/token/
        """
        challenges = refusal.challenges(answer.headers.get("WWW-Authenticate", ""))
        bearer = challenges.get("bearer", {})
        if "realm" in bearer:
            token = self._token(bearer)
            self._authorization = f"Bearer {token}" if token else None
            return bool(token)
        login = self.stored.login
        if "basic" not in challenges or login is None or login.identity_token:
            return False
        self._authorization = login.basic
        return True

    def _token(self, challenge: Mapping[str, str]) -> str | None:
        """Get a token from the realm, with the identity token, the login or anonymously. Return None on refusal."""
        realm = challenge["realm"]
        self._require_safe(realm)
        asked = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        login = self.stored.login
        headers, form, method = {}, None, "GET"
        if login and login.identity_token:
            # https://distribution.github.io/distribution/spec/auth/oauth/
            form = {"grant_type": "refresh_token", "refresh_token": login.identity_token, "client_id": "llm-d-dev"}
            form, method = {**form, **asked}, "POST"
        else:
            realm += ("&" if "?" in realm else "?") + urllib.parse.urlencode(asked)
            headers = {"Authorization": login.basic} if login else {}
        trusted = not (self._insecure and self._is_own(realm))
        answer = self._exchange.send(method, realm, limit=_MANIFEST_BYTES, headers=headers, form=form, verify=trusted)
        _require_lasting(answer)
        try:
            document = answer.json() if answer.ok else {}
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError):
            return None
        return token if isinstance(token, str) else None

    def _require_safe(self, realm: str) -> None:
        """Refuse to send credentials over an insecure connection."""
        scheme = urllib.parse.urlsplit(realm).scheme
        if scheme == "https" or (scheme == "http" and self._is_own(realm) and self._schemes == ["http"]):
            return
        raise RegistryError(
            f"registry {self.name.host} refers to {realm} for a token, which is neither https nor its own host",
            hint="check the registry's configuration; no credentials were sent",
        )

    def _is_own(self, url: str) -> bool:
        there, here = urllib.parse.urlsplit(url), urllib.parse.urlsplit(f"//{self.name.host}")
        return there.hostname == here.hostname or (is_loopback(there.netloc) and is_loopback(here.netloc))


def _require_lasting(answer: Answer) -> None:
    """Raise an error for an answer that is worth a retry."""
    if answer.status == requests.codes.too_many_requests or answer.status >= 500:  # noqa: PLR2004 - HTTP
        after = answer.headers.get("Retry-After", "")
        raise _OverloadedError(answer.status, float(after) if after.isdecimal() else None)


def _reason(error: Exception) -> str:
    return "connection refused" if "refused" in str(error) else str(error) or type(error).__name__
