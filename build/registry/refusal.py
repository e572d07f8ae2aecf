"""The refusals of a registry: challenges, messages, and advice about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from build.registry.exchange import Answer

_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,)\s*(\w+)(?=\s+\w+=|\s*(?:,|$))")


def challenges(header: str) -> dict[str, dict[str, str]]:
    """Return the parameters of each scheme in a header ``WWW-Authenticate`` (RFC 9110, section 11.6.1)."""
    # Commas between quotes do not separate parameters.
    plain = re.sub(r'"[^"]*"', lambda match: "_" * len(match[0]), header)
    starts = list(_SCHEME.finditer(plain))
    ends = [match.start() for match in starts[1:]] + [len(header)]
    return {
        match[1].lower(): {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(header[match.end() : end])}
        for match, end in zip(starts, ends, strict=False)
    }


def said(answer: Answer) -> str:
    """Return the first error of a JSON answer, ``code: message`` (distribution-spec v1.1, Error Codes)."""
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
    """Return advice about untrusted TLS."""
    return (
        f"make this machine and the engine trust its certificate, or add {host} to the engine's `insecure-registries`"
    )


def advice(said: str, host: str) -> str:
    """Return advice about a refusal.

    Args:
        said: Message of the registry or of the engine.
        host: Host of the registry.
    """
    table = (
        (
            _QUOTA,
            "raise the quota of the repository's project in the registry, or remove images there; then push again",
        ),
        (_CREDENTIALS, f"`docker login {host}` with an account that may write there, or set another registry"),
        (_UNTRUSTED, untrusted(host)),
        (_TOO_LARGE, f"raise the request size limit of {host}, or of a proxy before it; then push again"),
        (_IMMUTABLE, "allow this tag to move in the registry's settings of the repository, or set another registry"),
        (_LATER, "try again later"),
    )
    return next((hint for pattern, hint in table if pattern.search(said)), "check the registry's name and settings")
