"""The embedded registry's identity and password, kept where only the user can read them.

The identity tells one user's registry on an engine from another's, and one state folder's from another's. It is
part of the file's name, so that a damaged file costs the password, which can be replaced, and not the registry.
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
# The lowest that bcrypt knows: the registry computes it at every request, and 256 random bits need no stretching.
_ROUNDS = 4


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a state folder is on an engine.

    Attributes:
        id: Random digits that no other state folder has.
        file: The password alone, as ``docker login --password-stdin`` takes it.
    """

    id: str
    file: Path

    def login(self) -> Login | None:
        """User and password; None if the file is damaged, or others could have read it."""
        try:
            exposed = self.file.stat().st_mode & _OTHERS
            password = self.file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        if exposed or not _PASSWORD.fullmatch(password):
            return None
        return Login(username=USER, password=password, identity_token="")

    def renew(self) -> Login:
        """A new password, written down."""
        password = secrets.token_urlsafe(32)
        write_atomic(self.file, password, mode=0o600)
        return Login(username=USER, password=password, identity_token="")


def known(folders: Folders) -> Identity | None:
    """The identity of a state folder; None if it has none yet."""
    found = sorted(folders.registry.glob(f"{_PREFIX}*"))
    named = [(path.name.removeprefix(_PREFIX), path) for path in found]
    return next((Identity(id=name, file=path) for name, path in named if _ID.fullmatch(name)), None)


def ensure(folders: Folders) -> Identity:
    """The identity of a state folder, a new one if it has none yet."""
    if found := known(folders):
        return found
    name = secrets.token_hex(6)
    made = Identity(id=name, file=folders.registry / f"{_PREFIX}{name}")
    made.renew()
    return made


def htpasswd(login: Login) -> str:
    """The line that the registry checks a login against.

    https://distribution.github.io/distribution/about/configuration/#htpasswd: nothing but bcrypt.
    """
    digest = bcrypt.hashpw(login.password.encode(), bcrypt.gensalt(_ROUNDS)).decode()
    return f"{login.username}:{digest}\n"
