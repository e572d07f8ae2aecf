"""The embedded registry's identity and password, readable only by the user.

The identity distinguishes the registries of users and state folders on an engine. It is part of the file name, so a
damaged file loses only the password, which is replaceable.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bcrypt

from build.engine.credentials import Login
from build.host.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from build.config.folders import Folders

USER = "llm-d-dev"

_PREFIX = "login-"
_ID = re.compile(r"[0-9a-f]{12}")
_PASSWORD = re.compile(r"[A-Za-z0-9_-]{43}")
_OTHERS = 0o077
# The minimum of bcrypt: the registry computes it for every request, and 256 random bits need no stretching.
_ROUNDS = 4


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The identity of a state folder on an engine.

    Attributes:
        id: Random digits, unique to the state folder.
        file: File with the password, for ``docker login --password-stdin``.
    """

    id: str
    file: Path

    def login(self) -> Login | None:
        """Return user and password, or None if the file is damaged or readable by others."""
        try:
            exposed = self.file.stat().st_mode & _OTHERS
            password = self.file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        if exposed or not _PASSWORD.fullmatch(password):
            return None
        return Login(username=USER, password=password, identity_token="")

    def renew(self) -> Login:
        """Create a new password and write the file."""
        password = secrets.token_urlsafe(32)
        write_atomic(self.file, password, mode=0o600)
        return Login(username=USER, password=password, identity_token="")


def known(folders: Folders) -> Identity | None:
    """Return the identity of a state folder, or None before its first use."""
    found = sorted(folders.registry.glob(f"{_PREFIX}*"))
    named = [(path.name.removeprefix(_PREFIX), path) for path in found]
    return next((Identity(id=name, file=path) for name, path in named if _ID.fullmatch(name)), None)


def ensure(folders: Folders) -> Identity:
    """Return the identity of a state folder, created if necessary."""
    if found := known(folders):
        return found
    name = secrets.token_hex(6)
    made = Identity(id=name, file=folders.registry / f"{_PREFIX}{name}")
    made.renew()
    return made


def htpasswd(login: Login) -> str:
    """Return the line of the registry's htpasswd file.

    Only bcrypt is allowed: https://distribution.github.io/distribution/about/configuration/#htpasswd
    """
    digest = bcrypt.hashpw(login.password.encode(), bcrypt.gensalt(_ROUNDS)).decode()
    return f"{login.username}:{digest}\n"
