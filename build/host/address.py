"""Addresses of machines."""

from __future__ import annotations

import re

_LOOPBACK = re.compile(r"(?:127\.[0-9.]+|localhost|\[::1\])(?::[0-9]+)?")


def is_loopback(address: str) -> bool:
    """Return whether ``host`` or ``host:port`` is this machine's loopback interface by its name."""
    return bool(_LOOPBACK.fullmatch(address))
