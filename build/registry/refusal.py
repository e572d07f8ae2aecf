"""What a registry says when it refuses: what it asks for, its words, and what to do about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from build.registry.exchange import Answer

_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,)\s*(\w+)(?=\s+\w+=|\s*(?:,|$))")


def challenges(header: str) -> dict[str, dict[str, str]]:
    """The parameters of each scheme that a header ``WWW-Authenticate`` names (RFC 9110, section 11.6.1)."""
    # Commas between quotes separate nothing.
    plain = re.sub(r'"[^"]*"', lambda match: "_" * len(match[0]), header)
    starts = list(_SCHEME.finditer(plain))
    ends = [match.start() for match in starts[1:]] + [len(header)]
    return {
        match[1].lower(): {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(header[match.end() : end])}
        for match, end in zip(starts, ends, strict=False)
    }


def said(answer: Answer) -> str:
    """The first error of a registry's JSON document, ``code: message`` (distribution-spec v1.1, Error Codes)."""
    try:
        error = answer.json()["errors"][0]
        return " ".join(f"{error['code']}: {error.get('message') or ''}".lower().split())[:200].rstrip(": ")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


_QUOTA = re.compile(r"quota|exceed|storage|insufficient", re.IGNORECASE)
_CREDENTIALS = re.compile(r"unauthorized|authentication required|no basic auth|\bdenied\b", re.IGNORECASE)
_UNTRUSTED = re.compile(r"x509|certificate|HTTP response to HTTPS client", re.IGNORECASE)
_TOO_LARGE = re.compile(r"\b413\b|too large", re.IGNORECASE)
_IMMUTABLE = re.compile(r"immutable|cannot be overwritten|already ?exists", re.IGNORECASE)
_LATER = re.compile(r"toomanyrequests|too many requests|\b429\b|\b50[0-9] |timeout|connection re", re.IGNORECASE)


def untrusted(host: str) -> str:
    """What to do about TLS that is not trusted."""
    return (
        f"have this machine and the engine trust its certificate, or name {host} in the engine's `insecure-registries`"
    )


def advice(said: str, host: str) -> str:
    """What to do about a refusal.

    Args:
        said: The registry's words, or the engine's about them.
        host: The registry.
    """
    table = (
        (
            _QUOTA,
            "raise the quota of the repository's project in the registry, or remove images there; then push again",
        ),
        (_CREDENTIALS, f"`docker login {host}` with an account that may write there, or set another registry"),
        (_UNTRUSTED, untrusted(host)),
        (_TOO_LARGE, f"raise the limit of what {host}, or a proxy before it, accepts in one request; then push again"),
        (_IMMUTABLE, "allow this tag to move in the registry's settings of the repository, or set another registry"),
        (_LATER, "try again in a while"),
    )
    return next((hint for pattern, hint in table if pattern.search(said)), "check the registry's name and settings")
