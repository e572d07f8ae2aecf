"""A text that a server must show: how a change to an image is seen through its API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from build.errors import UsageError

_FORM = re.compile(r"(?P<route>/[^\s=]*)=(?P<text>.*\S.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A text that the answer to a request must contain.

    Attributes:
        route: Path of a GET request, such as ``/v1/models``.
        text: What the body of the answer must contain.
    """

    route: str
    text: str

    @classmethod
    def parse(cls, word: str) -> Self:
        """From ``ROUTE=TEXT``.

        Raises:
            UsageError: It is not of that form.
        """
        match = _FORM.fullmatch(word)
        if not match:
            raise UsageError(
                f"--expect {word!r} is not ROUTE=TEXT", hint="the route starts with a slash, such as /v1/models=vllm"
            )
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"{self.route}={self.text}"
