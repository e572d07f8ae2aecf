"""Processor names in the form of ``uname -m`` on Linux, which wheels and the Engine API use too."""

from __future__ import annotations

import platform

_OTHER_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


def named(name: str) -> str:
    """Return the Linux name of a processor."""
    return _OTHER_NAMES.get(name.lower(), name)


def here() -> str:
    """This machine's."""
    return named(platform.machine())
