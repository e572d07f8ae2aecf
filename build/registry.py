"""An image registry, asked over its HTTP API.

Specification: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import docker.auth
import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from build.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
)
_TIMEOUT_S = 30
_LOOPBACK = re.compile(r"^(?:127\.[0-9.]+|localhost|\[::1\])(?::[0-9]+)?$")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a registry serves under a tag.

    Attributes:
        digest: Of the manifest.
        config: Digest of the image's configuration; None for an index of several images.
        size: Bytes of all layers, compressed.
    """

    digest: str
    config: str | None
    size: int


@dataclass(frozen=True, kw_only=True)
class Login:
    """What a registry lets in.

    Attributes:
        user: Name.
        password: Never shown.
    """

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a registry is spoken to that is not simply what its images' names say.

    Attributes:
        address: ``host:port`` at the beginning of its images' names; the engine finds it there.
        reached: ``host:port`` at which this process finds it.
        login: What it lets in.
    """

    address: str
    reached: str
    login: Login


@dataclass(frozen=True, kw_only=True)
class RepositoryName:
    """Where images are pushed to.

    Attributes:
        host: Registry, with its port.
        path: Repository on it.
        access: How the registry is spoken to; None: as its name and ``docker login`` say.
    """

    host: str
    path: str
    access: Access | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, name: str) -> RepositoryName:
        """From ``host/path``."""
        host, _, path = name.partition("/")
        return cls(host=host, path=path)

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def auth_config(self) -> dict[str, str] | None:
        """What the engine is handed for a push; None leaves that to ``docker login``."""
        if self.access is None:
            return None
        return {"username": self.access.login.user, "password": self.access.login.password}

    @property
    def address(self) -> str:
        """Base of its API. Docker speaks plain HTTP to loopback registries only; so do we."""
        if self.access:
            return f"http://{self.access.reached}/v2"
        scheme = "http" if _LOOPBACK.match(self.host) else "https"
        host = "registry-1.docker.io" if self.host == "docker.io" else self.host
        return f"{scheme}://{host}/v2"


class _Transient(Exception):  # noqa: N818 - never leaves this module
    """An answer that may be better next time."""


class Registry:
    """Reads manifests of one repository.

    Args:
        name: The repository.
    """

    def __init__(self, name: RepositoryName) -> None:
        self.name = name
        self._session = requests.Session()
        # As Docker does it: a registry on this machine is never asked through a proxy.
        self._session.trust_env = not _LOOPBACK.match(name.host)
        if name.access:
            self._session.auth = (name.access.login.user, name.access.login.password)

    def require_reachable(self) -> None:
        """Check that the registry answers, before long work that would be for nothing.

        Raises:
            RegistryError: It does not, or it is no registry.
        """
        if self._get("/").status_code == requests.codes.not_found:
            raise self._no_registry("answers 404 to GET /v2/")

    def manifest(self, tag: str) -> Manifest | None:
        """What the registry serves under a tag or digest; None if there is no such thing.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        answer = self._get(f"/{self.name.path}/manifests/{tag}")
        if answer.status_code == requests.codes.not_found:
            return None
        try:
            document: Mapping[str, Any] = answer.json()
            return Manifest(
                # Of what arrived, whatever the header Docker-Content-Digest says.
                digest=f"sha256:{hashlib.sha256(answer.content).hexdigest()}",
                config=document.get("config", {}).get("digest"),
                size=sum(layer["size"] for layer in document.get("layers", ())),
            )
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise self._no_registry(f"serves no manifest under {tag}") from error

    def tags(self) -> list[str]:
        """Every tag; none if there is no such repository.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        answer = self._get(f"/{self.name.path}/tags/list")
        # `null` is what distribution 2.8 answers when all are gone.
        return list(answer.json().get("tags") or ()) if answer.ok else []

    def blob(self, digest: str) -> Mapping[str, Any]:
        """A JSON document that a manifest refers to; empty if it is gone.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        answer = self._get(f"/{self.name.path}/blobs/{digest}")
        return dict(answer.json()) if answer.ok else {}

    def delete(self, digest: str) -> None:
        """Remove a manifest and every tag that names it; its layers go when garbage is collected.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        address = f"{self.name.address}/{self.name.path}/manifests/{digest}"
        try:
            answer = self._session.delete(address, timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            raise self._no_registry(f"does not answer: {_reason(error)}") from error
        if answer.status_code not in {requests.codes.accepted, requests.codes.not_found}:
            raise self._no_registry(f"answers {answer.status_code} to DELETE of a manifest")

    def _get(self, path: str) -> requests.Response:
        try:
            answer = self._ask(path)
        except (_Transient, requests.RequestException) as error:
            raise RegistryError(
                f"registry {self.name.host} does not answer: {_reason(error)}",
                hint="check its address and the network; `python -m build engine up` starts the embedded one",
                may_pass=not isinstance(error, requests.exceptions.SSLError),
            ) from error
        if answer.status_code in {requests.codes.unauthorized, requests.codes.forbidden}:
            raise RegistryError(
                f"registry {self.name.host} refuses access to {self.name.path}",
                hint="`python -m build engine up` gives the embedded registry a new password"
                if self.name.access
                else f"`docker login {self.name.host}`, or set another registry",
            )
        if answer.status_code not in {requests.codes.ok, requests.codes.not_found}:
            raise self._no_registry(f"answers {answer.status_code} to GET /v2{path}")
        return answer

    def _no_registry(self, why: str) -> RegistryError:
        return RegistryError(
            f"registry {self.name.host} {why}", hint="check that the address is that of an image registry"
        )

    @retry(
        # What can get better; an error status below 500 is the registry's final word.
        retry=retry_if_exception_type((_Transient, requests.Timeout)),
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=0.5, max=5),
        reraise=True,
    )
    def _ask(self, path: str) -> requests.Response:
        headers = {"Accept": _ACCEPT}
        answer = self._session.get(self.name.address + path, headers=headers, timeout=_TIMEOUT_S)
        if answer.status_code == requests.codes.unauthorized and not self.name.access and self._authenticate(answer):
            answer = self._session.get(self.name.address + path, headers=headers, timeout=_TIMEOUT_S)
        if answer.status_code == requests.codes.too_many_requests or answer.status_code >= 500:  # noqa: PLR2004 - HTTP
            raise _Transient(f"status {answer.status_code}")
        return answer

    def _authenticate(self, refusal: requests.Response) -> bool:
        """Get what a 401 asks for, with the credentials that ``docker login`` stored.

        https://distribution.github.io/distribution/spec/auth/token/
        """
        kind, _, rest = refusal.headers.get("WWW-Authenticate", "").partition(" ")
        stored = docker.auth.load_config().resolve_authconfig(self.name.host) or {}
        login = (stored["username"], stored["password"]) if stored.get("username") else None
        if kind.lower() == "basic":
            self._session.auth = login
            return login is not None
        challenge = dict(_CHALLENGE.findall(rest))
        if kind.lower() != "bearer" or "realm" not in challenge:
            return False
        asked = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        answer = requests.get(challenge["realm"], params=asked, auth=login, timeout=_TIMEOUT_S)
        if not answer.ok:
            return False
        document = answer.json()
        self._session.headers["Authorization"] = f"Bearer {document.get('token') or document.get('access_token')}"
        return True


def _reason(error: Exception) -> str:
    return "connection refused" if "refused" in str(error) else str(error) or type(error).__name__
