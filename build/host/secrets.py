"""Removal of passwords in addresses, and of tokens with a known form, from written text."""

from __future__ import annotations

import logging
import re

from build.harmless import harmless

# The user part of an address (RFC 3986, section 3.2.1), with any `@` that should have been escaped.
_CREDENTIALS = re.compile(r"://[^\s/]+@")

# Hugging Face's access tokens, and the credentials of a request (RFC 6750, section 2.1).
_TOKENS = re.compile(r"\bhf_[A-Za-z0-9]{16,}|(?<=[Bb]earer )[\w.~+/-]{16,}=*")


def redacted(text: str) -> str:
    """Return a text without the user and password of addresses, and without tokens of a known form."""
    return _TOKENS.sub("[redacted]", _CREDENTIALS.sub("://[redacted]@", text))


class RedactingFormatter(logging.Formatter):
    """A formatter that removes credentials; libraries put whole addresses into their errors."""

    def format(self, record: logging.LogRecord) -> str:
        """Format message and traceback, without credentials and control characters."""
        return harmless(redacted(super().format(record)))
