"""What a credential looks like, and where programs keep them."""

from __future__ import annotations

import re
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING

import docker.errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docker.models.containers import Container

# The forms that their makers document for scanners.
_PATTERNS = {
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60})",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30}",
    "an AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a package index token": r"\bpypi-[A-Za-z0-9_-]{50}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an address with a password": r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@$]+:[^\s/@$]+@",
}
_COMPILED = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}

# Below a home folder. All of these may hold nothing secret (pip.conf an index without password), so they are read.
_KEPT = (
    ".netrc",
    ".git-credentials",
    ".gitconfig",
    ".pypirc",
    ".docker/config.json",
    ".config/pip/pip.conf",
    ".pip/pip.conf",
    ".config/uv/uv.toml",
    ".cache/huggingface/token",
    ".aws/credentials",
    ".ssh/id_rsa",
    ".ssh/id_ed25519",
)
_SYSTEM = ("/etc/pip.conf", "/etc/uv/uv.toml", "/run/secrets/environment", "/run/secrets/uv.toml")
# Of these there is no telling where a build puts them.
_ANYWHERE = ("id_rsa", "id_ecdsa", "id_ed25519", "pip.conf", "uv.toml", "huggingface/token")
_KEEPS = tuple(f"/{name}" for name in (*_KEPT, *_ANYWHERE))
# These say `password=` also without a password: only a credential of a known form counts.
_MAY_KEEP = ("/.git/config", ".env")
# What else gives a credential away in such a file: netrc(5) on one line or several, settings, Docker's log-ins.
# No two parts of an expression can share a long text between them in many ways: it may be made to take hours.
_ENTRY = re.compile(
    r"^[ \t]*(?:(?:machine|default|login)[ \t].*\bpassword[ \t]|password(?:[ \t]*[=:]|[ \t]+\S)|aws_secret_access_key)"
    r'|"(?:auth|identitytoken|registrytoken)"\s*:\s*"[^"]',
    re.MULTILINE,
)

READ_BYTES = 64 * 1024
"""Of a file."""


def kinds(text: str) -> list[str]:
    """The kinds of credentials in a text, in words."""
    return [kind for kind, pattern in _COMPILED.items() if pattern.search(text)]


def files(container: Container, homes: Iterable[str], *, root: str = "") -> list[str]:
    """Files with credentials, in the places where programs keep theirs.

    Args:
        container: A container of the image.
        homes: Home folders.
        root: Folder of the container that stands for the root.
    """
    places = [*_SYSTEM, *(f"{home.rstrip('/')}/{name}" for home in homes for name in _KEPT)]
    return [place for place in places if tells(container, root + place)]


def judge(path: str) -> Callable[[str], bool] | None:
    """What tells whether a file's content is a credential; None for a file that nothing keeps any in.

    Args:
        path: Its path, with a slash in front. Any folder may have been a home folder.
    """
    if path in _SYSTEM or path.endswith(_KEEPS):
        return _tells
    return _is_known if path.endswith(_MAY_KEEP) else None


def tells(container: Container, path: str) -> bool:
    """Return whether a container has a file with credentials at a path."""
    return (judge(path) or _tells)(_read(container, path))


def _is_known(text: str) -> bool:
    return bool(kinds(text))


def _tells(text: str) -> bool:
    return bool(kinds(text) or _ENTRY.search(text))


def _read(container: Container, path: str) -> str:
    """Return the beginning of a file, empty if it does not exist."""
    try:
        stream, _ = container.get_archive(path)
    except docker.errors.NotFound:
        return ""
    # A tar header is 512 bytes; what comes after the beginning is not asked for.
    kept = b""
    for chunk in stream:
        kept += chunk
        if len(kept) > READ_BYTES:
            break
    try:
        with tarfile.open(fileobj=BytesIO(kept)) as tar:
            member = next(iter(tar), None)
            content = tar.extractfile(member) if member and member.isfile() else None
            return content.read(READ_BYTES).decode(errors="replace") if content else ""
    except tarfile.TarError:
        return kept.decode(errors="replace")
