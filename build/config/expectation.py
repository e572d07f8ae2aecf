"""A text expected in a server's answer, which shows a change to an image through its API."""

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
        text: Text that the body of the answer must contain.
    """

    route: str
    text: str

    @classmethod
    def parse(cls, word: str) -> Self:
        """Parse ``ROUTE=TEXT``.

        Raises:
            UsageError: The word has another form.
        """
        match = _FORM.fullmatch(word)
        if not match:
            raise UsageError(
                f"--expect {word!r} is not ROUTE=TEXT", hint="the route starts with a slash, such as /v1/models=vllm"
            )
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"{self.route}={self.text}"
