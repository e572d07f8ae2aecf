"""Processors, by the names that ``uname -m`` has for them on Linux, as wheels and the Engine API do."""

from __future__ import annotations

import platform

_OTHER_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


def named(name: str) -> str:
    """A processor by its name here."""
    return _OTHER_NAMES.get(name.lower(), name)


def here() -> str:
    """This machine's."""
    return named(platform.machine())
