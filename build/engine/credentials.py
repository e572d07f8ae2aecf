"""The credentials for a registry that ``docker login`` stored or ``DOCKER_AUTH_CONFIG`` holds, by ``docker``'s rules.

docker/cli 28: cli/config/configfile/file.go, cli/config/credentials; docker/docker-credential-helpers 0.9, client.go.
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import logging
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from build.engine.endpoint import configuration_folder, parsed, read_configuration
from build.host import process

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

HUB = "docker.io"
_HUBS = (HUB, "index.docker.io", "registry-1.docker.io")
_HUBS_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - a helper's user name that marks the secret as an identity token
_NOT_FOUND = "credentials not found"
_VARIABLE = "DOCKER_AUTH_CONFIG"
_HELPER_TIMEOUT_S = 20
_HELPER_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Login:
    """A login at a registry.

    Attributes:
        username: Empty with an identity token.
        password: Password of the user.
        identity_token: Token to exchange at the registry's realm; empty for a user with a password.
    """

    username: str
    password: str = field(repr=False)
    identity_token: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The result of the search for a registry's credentials.

    Attributes:
        host: The registry.
        login: The login; None without a usable one.
        trouble: What could not be read, in words; None without trouble.
    """

    host: str
    login: Login | None
    trouble: str | None

    def for_engine(self) -> dict[str, str]:
        """The value of ``X-Registry-Auth``: empty without a login, because Docker 28.3.3 requires the header."""
        if self.login is None:
            return {}
        words = {
            "username": self.login.username,
            "password": self.login.password,
            "identitytoken": self.login.identity_token,
        }
        address = _HUBS_KEY if _server(self.host) == HUB else self.host
        return {**{name: value for name, value in words.items() if value}, "serveraddress": address}


def stored(host: str, environment: Mapping[str, str]) -> Stored:
    """Return the stored credentials of a registry. The variable has priority over a helper, a helper over the file.

    Args:
        host: Registry with its port; ``docker.io`` for Docker Hub.
        environment: The process's environment variables.
    """
    key = _HUBS_KEY if _server(host) == HUB else host
    login, ignored = _of_variable(environment.get(_VARIABLE, ""), key)
    if login:
        return Stored(host=host, login=login, trouble=None)
    configuration, trouble = read_configuration(environment)
    trouble = trouble or ignored
    helper = _of_registry(configuration.get("credHelpers"), key)
    helper = configuration.get("credsStore") if helper is None else helper
    try:
        if helper:
            return Stored(host=host, login=_of_helper(str(helper), key), trouble=ignored)
    except (OSError, subprocess.SubprocessError, process.LimitError, ValueError, RecursionError) as error:
        trouble = _words(f"docker-credential-{helper}", error)
        log.warning("%s", trouble)
    login, broken = _of_entries(configuration.get("auths"), key, configuration_folder(environment) / "config.json")
    return Stored(host=host, login=login, trouble=trouble or broken)


def _of_registry(entries: object, key: str) -> Any:  # noqa: ANN401 - what the file holds
    """Return the entry of a registry, or None without one.

    Docker takes the entry with this exact name, else one with the same host (docker/cli 29,
    credentials.ConvertToHostname and fileStore.Get). Other programs store Docker Hub under its other names, and hosts
    in other letter case or with the default port.
    """
    if not isinstance(entries, dict):
        return None
    ways = (str, _host, _server)
    found = (entry for way in ways for address, entry in entries.items() if way(address) == way(key))
    return next(found, None)


def _host(address: str) -> str:
    """Return the host of an address, with its port."""
    return address.partition("://")[2 * ("://" in address)].partition("/")[0]


def _server(address: str) -> str:
    """Return the registry of an address, the same for all of its names."""
    host = _host(address).lower()
    host = host if address.startswith("http://") else host.removesuffix(":443")
    return HUB if host in _HUBS else host


def _words(program: str, error: Exception) -> str:
    """Return why a helper returned no credentials. Its standard output may hold a secret and is never quoted whole."""
    named = f"{program}, which Docker's config.json names,"
    if isinstance(error, FileNotFoundError):
        return f"{named} is not installed" if error.filename is None else f"{named} needs a program that is missing"
    if isinstance(error, PermissionError):
        return f"{named} is not executable: run `chmod +x {error.filename}`"
    if isinstance(error, process.LimitError):
        return f"{program} was ended: {error}"
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stdout or error.stderr or b"").decode(errors="replace").strip().splitlines()
        return f"{program} failed with status {error.returncode}" + (f": {said[-1][:200]}" if said else "")
    return f"{program} printed no readable credentials"


def _of_helper(name: str, key: str) -> Login | None:
    """Ask a helper: the registry on its standard input, a JSON document on its standard output.

    Raises:
        OSError: The helper cannot be run.
        subprocess.SubprocessError: The helper failed.
        command.LimitError: The helper did not answer in time, or printed too much.
        ValueError, RecursionError: The answer does not follow the protocol.
    """
    program = f"docker-credential-{name}"
    if not shutil.which(program):
        if file := shutil.which(program, mode=os.F_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)
        raise FileNotFoundError(program)
    with tempfile.TemporaryFile() as question:
        question.write(key.encode())
        question.seek(0)
        try:
            out = process.output([program, "get"], stdin=question, limit=_HELPER_BYTES, seconds=_HELPER_TIMEOUT_S)
        except subprocess.CalledProcessError as error:
            if _NOT_FOUND in (error.stdout + error.stderr).decode(errors="replace").lower():
                return None
            raise
    document = json.loads(out)
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - handled like other invalid content
    user, secret = str(document.get("Username") or ""), str(document.get("Secret") or "")
    if user == _TOKEN_USER:
        return Login(username="", password="", identity_token=secret)
    return Login(username=user, password=secret, identity_token="") if user or secret else None


def _of_variable(text: str, key: str) -> tuple[Login | None, str | None]:
    """Return a registry's login in the variable, or what is wrong with it.

    docker rejects further keys beside ``auths``, with a warning. GitLab's runner, which reads the same variable, does
    not, and so does this tool not.
    """
    configuration, trouble = parsed(text, called=_VARIABLE)
    login, broken = _of_entries(configuration.get("auths"), key, _VARIABLE)
    return login, trouble or broken


def _of_entries(entries: object, key: str, place: object) -> tuple[Login | None, str | None]:
    """Return a registry's login in ``auths``, or what is wrong with its entry."""
    read: dict[str, tuple[Login | None, str | None]] = {}
    for address, entry in entries.items() if isinstance(entries, dict) else ():
        try:
            read[address] = _of_entry(entry), None
        except (ValueError, TypeError, AttributeError):
            broken = f"the entry of {address} in {place} cannot be read"
            log.warning("%s", broken)
            read[address] = None, broken
    return _of_registry(read, key) or (None, None)


def _of_entry(entry: Mapping[str, Any]) -> Login | None:
    """Parse an entry of ``auths``.

    Raises:
        ValueError: ``auth`` is not Base64 of ``user:password``.
    """
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if auth := entry.get("auth"):
        user, password = _decoded(auth)
    if token := entry.get("identitytoken"):
        return Login(username="", password="", identity_token=str(token))
    return Login(username=user, password=password, identity_token="") if user else None


def _decoded(auth: str) -> tuple[str, str]:
    try:
        text = base64.b64decode("".join(auth.split()), validate=True).decode()
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise ValueError("not user:password")
    return user, password.strip("\0")
