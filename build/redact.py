"""Keeps passwords that addresses carry out of what is written down."""

from __future__ import annotations

import logging
import re

# The user part of an address (RFC 3986, section 3.2.1), with any `@` that should have been escaped.
_CREDENTIALS = re.compile(r"://[^\s/]+@")


def redacted(text: str) -> str:
    """A text in which no address names a user or password."""
    return _CREDENTIALS.sub("://[redacted]@", text)


class RedactingFormatter(logging.Formatter):
    """Formats log records without credentials; libraries put whole addresses into their errors."""

    def format(self, record: logging.LogRecord) -> str:
        """Message and traceback, redacted."""
        return redacted(super().format(record))
