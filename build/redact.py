"""Keeps passwords that addresses carry, and tokens that can be told by their form, out of what is written down."""

from __future__ import annotations

import logging
import re

from build.harmless import harmless

# The user part of an address (RFC 3986, section 3.2.1), with any `@` that should have been escaped.
_CREDENTIALS = re.compile(r"://[^\s/]+@")

# Hugging Face's access tokens, and what a request is authorized with (RFC 6750, section 2.1).
_TOKENS = re.compile(r"\bhf_[A-Za-z0-9]{16,}|(?<=[Bb]earer )[\w.~+/-]{16,}=*")


def redacted(text: str) -> str:
    """A text in which no address names a user or password, and no token of a known form is left."""
    return _TOKENS.sub("[redacted]", _CREDENTIALS.sub("://[redacted]@", text))


class RedactingFormatter(logging.Formatter):
    """Formats log records without credentials; libraries put whole addresses into their errors."""

    def format(self, record: logging.LogRecord) -> str:
        """Message and traceback, redacted, and harmless for the terminal that shows the file."""
        return harmless(redacted(super().format(record)))
