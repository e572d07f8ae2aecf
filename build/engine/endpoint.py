"""The engine that the user chose, found by the rules of the ``docker`` program.

``DOCKER_HOST`` with ``DOCKER_TLS_VERIFY``, ``DOCKER_TLS`` and ``DOCKER_CERT_PATH``; else the context that
``DOCKER_CONTEXT`` or ``docker context use`` names (docker/cli 28, cli/command/cli.go and cli/flags/options.go).
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests.utils
from docker.tls import TLSConfig

from build.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker.api.client import APIClient

log = logging.getLogger(__name__)

_NO_TLS = ("unix://", "ssh://")


class _Tls(TLSConfig):
    """TLS settings that ignore a certificate bundle of the environment.

    requests prefers ``REQUESTS_CA_BUNDLE`` to the authority set on a session (psf/requests#3829).
    """

    def configure_client(self, client: APIClient) -> None:
        super().configure_client(client)
        client.proxies = requests.utils.get_environ_proxies(client.base_url.replace("tcp://", "https://"))
        client.trust_env = False


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The TLS settings of an engine's connection.

    Attributes:
        folder: Folder with ``ca.pem``, ``cert.pem`` and ``key.pem``, as far as they exist.
        verify: Whether to verify the engine's certificate.
    """

    folder: Path
    verify: bool

    def sdk(self) -> TLSConfig:
        """Return the settings for Docker's Python SDK.

        Raises:
            docker.errors.TLSParameterError: The files do not match.
        """
        ca, cert, key = (self.folder / f"{name}.pem" for name in ("ca", "cert", "key"))
        return _Tls(
            client_cert=(str(cert), str(key)) if cert.exists() and key.exists() else None,
            ca_cert=str(ca) if ca.exists() else None,
            verify=self.verify,
        )


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The address of an engine.

    Attributes:
        host: Address in the form of ``DOCKER_HOST`` (``unix:///…``, ``ssh://…``, ``tcp://…``).
        origin: Where the address came from, in words.
        tls: TLS settings; None for a connection without TLS.
    """

    host: str
    origin: str
    tls: Tls | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point ``docker``, buildx and testcontainers at this engine, whatever else is set."""
        return {
            "DOCKER_HOST": self.host,
            "DOCKER_CONTEXT": "",
            "DOCKER_TLS": "1" if self.tls else "",
            "DOCKER_TLS_VERIFY": "1" if self.tls and self.tls.verify else "",
            "DOCKER_CERT_PATH": str(self.tls.folder) if self.tls else "",
        }


def configuration_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the ``docker`` program's configuration."""
    return Path(environment.get("DOCKER_CONFIG") or Path.home() / ".docker")


def read_configuration(environment: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """Return the ``docker`` program's ``config.json``, and why it could not be read, in words.

    ``docker`` accepts no byte order mark, comments or trailing commas: it warns and goes on.
    """
    file = configuration_folder(environment) / "config.json"
    try:
        return parsed(file.read_text(encoding="utf-8"), called=f"Docker's {file}")
    except FileNotFoundError:
        return {}, None
    except (OSError, UnicodeDecodeError) as error:
        return {}, _unreadable(f"Docker's {file}", error)


def parsed(text: str, *, called: str) -> tuple[dict[str, Any], str | None]:
    """Parse the text of a ``config.json``, and return why it could not be parsed, in words, which quote no secret."""
    try:
        # An empty file holds nothing to read (docker/cli 28, configfile.LoadFromReader: io.EOF).
        found = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        return {}, _unreadable(called, error)
    return (found, None) if isinstance(found, dict) else ({}, None)


def _unreadable(called: str, error: Exception) -> str:
    trouble = f"{called} cannot be read{_why(error)}"
    log.warning("%s", trouble)
    return trouble


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f" as JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    return f": {error.strerror}" if isinstance(error, OSError) else " as JSON"


def chosen(environment: Mapping[str, str]) -> Endpoint | None:
    """Return the engine that the user chose, or None for the default one.

    Args:
        environment: The process's environment variables.

    Raises:
        EngineError: The chosen context does not exist, or has no address of an engine.
    """
    if host := environment.get("DOCKER_HOST"):
        address = _address(host.strip())
        return Endpoint(host=address, origin="DOCKER_HOST", tls=_tls_of_variables(address, environment))
    if name := environment.get("DOCKER_CONTEXT"):
        return _of_context(name, f"docker context {name!r} (DOCKER_CONTEXT)", environment)
    configuration, _ = read_configuration(environment)
    name = configuration.get("currentContext")
    if isinstance(name, str) and name:
        return _of_context(name, f"docker context {name!r}", environment)
    return None


def _address(host: str) -> str:
    """Return an address with its scheme: a path is a socket (docker/cli 29, opts/hosts.go)."""
    if "://" in host:
        return host
    return f"unix://{Path(host).absolute()}" if host.startswith(("/", "./")) else f"tcp://{host}"


def _tls_of_variables(host: str, environment: Mapping[str, str]) -> Tls | None:
    verify = bool(environment.get("DOCKER_TLS_VERIFY"))
    if host.startswith(_NO_TLS) or not (verify or environment.get("DOCKER_TLS")):
        return None
    return Tls(folder=Path(environment.get("DOCKER_CERT_PATH") or configuration_folder(environment)), verify=verify)


def _of_context(name: str, origin: str, environment: Mapping[str, str]) -> Endpoint | None:
    """Read the context's files: ``contexts/{meta,tls}/<SHA-256 of its name>`` (docker/cli 28, cli/context/store)."""
    if name == "default":
        return None
    contexts, digest = configuration_folder(environment) / "contexts", hashlib.sha256(name.encode()).hexdigest()
    try:
        described = json.loads((contexts / "meta" / digest / "meta.json").read_text(encoding="utf-8"))
        engine = described["Endpoints"]["docker"]
        host, unverified = str(engine["Host"]), bool(engine.get("SkipTLSVerify"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise EngineError(
            f"{origin} does not exist" if missing else f"{origin} cannot be read: {type(error).__name__}: {error}",
            hint="`docker context ls` lists contexts, `docker context use default` chooses the engine of this machine",
        ) from error
    folder = contexts / "tls" / digest / "docker"
    secured = not host.startswith(_NO_TLS) and (folder.is_dir() or unverified)
    return Endpoint(host=host, origin=origin, tls=Tls(folder=folder, verify=not unverified) if secured else None)
