"""The GPUs that the user asks for: ``auto``, ``all``, ``none``, or a list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from build.errors import UsageError

HELP = "auto: all that the engine can pass, none for a cpu image; all; none; or a list such as 0,1 or GPU-<uuid>"

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# Device names shared by NVIDIA's container runtime and its CDI specifications: an index, a UUID, a MIG device's UUID,
# or the index of GPU and MIG device (NVIDIA Container Toolkit, "Specialized Configurations" and "CDI support").
_NAME = re.compile(rf"(?:0|[1-9]\d{{0,2}})(?::(?:0|[1-9]\d?))?|(?:GPU|MIG)-{_UUID}", re.ASCII)
_HINT = "give auto, all, none, or indices (0,1), UUIDs (GPU-…) or MIG devices (MIG-…, 0:1) separated by commas"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The requested GPUs.

    Attributes:
        word: ``auto``, ``all`` or ``none``; ``list`` if GPUs are named.
        names: The names, in the order given.
    """

    word: str
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the value of ``--gpus``.

        Raises:
            UsageError: The value is neither one of the words nor a list of different devices.
        """
        if text in ("auto", "all", "none"):
            return cls(word=text)
        names = tuple(text.split(","))
        for name in names:
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"--gpus {text!r}: {name!r} is not a GPU" if name else f"--gpus {text!r}: empty", hint=_HINT
                )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"--gpus {text!r}: {twice[0]} is named twice", hint=_HINT)
        return cls(word="list", names=names)

    def __str__(self) -> str:
        return ",".join(self.names) or self.word


AUTO = Selection(word="auto")
ALL = Selection(word="all")
