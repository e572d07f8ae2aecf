"""What a credential looks like, and where programs keep them."""

from __future__ import annotations

import re
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING

import docker.errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docker.models.containers import Container

# The forms that their makers document for scanners.
_PATTERNS = {
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60})",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30}",
    "an AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a package index token": r"\bpypi-[A-Za-z0-9_-]{50}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an address with a password": r"\b[a-z][a-z0-9+.-]*://[^\s/:@$]+:[^\s/@$]+@",
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
# What else gives a credential away in such a file.
_ENTRY = re.compile(r'^\s*(?:machine\s+\S+.*password|password\s*[=:]|"auth"\s*:|aws_secret_access_key)', re.MULTILINE)

_READ_BYTES = 64 * 1024


def kinds(text: str) -> list[str]:
    """The kinds of credentials in a text, in words."""
    return [kind for kind, pattern in _COMPILED.items() if pattern.search(text)]


def files(container: Container, homes: Iterable[str]) -> list[str]:
    """Files with credentials, in the places where programs keep theirs.

    Args:
        container: A container of the image.
        homes: Home folders.
    """
    places = [*_SYSTEM, *(f"{home.rstrip('/')}/{name}" for home in homes for name in _KEPT)]
    return [place for place in places if _tells(_read(container, place))]


def _tells(text: str) -> bool:
    return bool(kinds(text) or _ENTRY.search(text))


def _read(container: Container, path: str) -> str:
    """The beginning of a file; empty where there is none."""
    try:
        stream, _ = container.get_archive(path)
    except docker.errors.NotFound:
        return ""
    # A tar header is 512 bytes; what comes after the beginning is not asked for.
    kept = b""
    for chunk in stream:
        kept += chunk
        if len(kept) > _READ_BYTES:
            break
    try:
        with tarfile.open(fileobj=BytesIO(kept)) as tar:
            member = next(iter(tar), None)
            content = tar.extractfile(member) if member and member.isfile() else None
            return content.read(_READ_BYTES).decode(errors="replace") if content else ""
    except tarfile.TarError:
        return kept.decode(errors="replace")
