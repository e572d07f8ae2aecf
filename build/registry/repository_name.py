"""The name of a repository for images, and the access to its registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build.host.address import is_loopback

if TYPE_CHECKING:
    from build.engine import credentials

EMBEDDED_REPOSITORY = "llm-d-dev"
"""Repository of a state folder's images in the embedded registry."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """The access to a registry whose address differs from the host in its images' names.

    Attributes:
        address: ``host:port`` in its images' names, for the engine.
        reached: ``host:port`` for this process.
        login: Login that it accepts.
    """

    address: str
    reached: str
    login: credentials.Login


@dataclass(frozen=True, kw_only=True)
class RepositoryName:
    """The name of a repository in a registry.

    Attributes:
        host: Host of the registry, with port.
        path: Path of the repository.
        access: Access to the registry; None for the host and the login of ``docker login``.
    """

    host: str
    path: str
    access: Access | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, name: str) -> RepositoryName:
        """Parse ``host/path``."""
        host, _, path = name.partition("/")
        return cls(host=host, path=path)

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def address(self) -> str:
        """The base URL of the API, unless the engine is configured otherwise. Docker also uses HTTP for loopback."""
        return self.address_by("http" if is_loopback(self.host) else "https")

    def address_by(self, scheme: str) -> str:
        """Return the base URL of the API with ``http`` or ``https``."""
        if self.access:
            return f"http://{self.access.reached}/v2"
        host = "registry-1.docker.io" if self.host == "docker.io" else self.host
        return f"{scheme}://{host}/v2"
