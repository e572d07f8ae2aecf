"""Network addresses."""

from __future__ import annotations

import re

_LOOPBACK = re.compile(r"(?:127\.[0-9.]+|localhost|\[::1\])(?::[0-9]+)?")


def is_loopback(address: str) -> bool:
    """Return whether ``host`` or ``host:port`` is a name of this machine's loopback interface."""
    return bool(_LOOPBACK.fullmatch(address))
