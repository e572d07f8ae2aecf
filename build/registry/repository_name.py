"""Where images are pushed to: a repository's name, and how its registry is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build.host.address import is_loopback

if TYPE_CHECKING:
    from build.engine import credentials

EMBEDDED_REPOSITORY = "llm-d-dev"
"""What the embedded registry calls the repository of a state folder's images."""


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
    login: credentials.Login


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
    def address(self) -> str:
        """Base of its API, unless the engine is configured otherwise. Docker too speaks HTTP to loopback addresses."""
        return self.address_by("http" if is_loopback(self.host) else "https")

    def address_by(self, scheme: str) -> str:
        """Base of its API with ``http`` or ``https``."""
        if self.access:
            return f"http://{self.access.reached}/v2"
        host = "registry-1.docker.io" if self.host == "docker.io" else self.host
        return f"{scheme}://{host}/v2"
