"""As much of torch as looking at vLLM's compiled files needs. Goes into the stand-in's site-packages."""

from __future__ import annotations

import ctypes
from typing import Any, NoReturn


class _OpNamespace:
    """The operators of one library."""

    def __getattr__(self, name: str) -> NoReturn:
        """As torch says it."""
        raise AttributeError(f"'_OpNamespace' '_C' object has no attribute '{name}'")


class _Ops:
    """All operators."""

    def __init__(self) -> None:
        self._C = _OpNamespace()

    def load_library(self, path: str) -> None:
        """Load a compiled file with all its symbols."""
        ctypes.CDLL(path, mode=2)  # RTLD_NOW

    def define(self, name: str) -> None:
        """Called by a compiled file as it is loaded."""
        found: Any = self._C
        found.__dict__[name] = name


ops = _Ops()
