"""Retries for failures that can pass: of the network, or of an overloaded registry. Other failures are final."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from build.errors import LlmdDevError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_ATTEMPTS = 3
_FIRST_WAIT_S = 15.0
_LONGEST_WAIT_S = 120.0

# Messages of Go (Docker, BuildKit), glibc, curl, pip and uv. Status codes only by name, because builds print numbers.
_TRANSIENT = re.compile(
    r"temporary failure in name resolution|temporary failure resolving|could not resolve host|no such host"
    r"|connection (?:reset|refused|timed out|aborted)|network is unreachable|error sending request"
    r"|tls handshake timeout|i/o timeout|context deadline exceeded|read timed out|unexpected eof"
    r"|too ?many ?requests|internal server error|bad gateway|service unavailable|gateway time-?out",
    re.IGNORECASE,
)


def can_get_better(text: str) -> bool:
    """Return whether a message describes a failure of the network or of an overloaded server."""
    return bool(_TRANSIENT.search(text))


def patiently(work: Callable[[], T], *, say: Callable[[str], None]) -> T:
    """Run a function, and run it again after a delay if its error may pass.

    Args:
        work: The function. It cleans up after itself when it fails.
        say: Called with a line before each wait.

    Returns:
        The return value of ``work``.

    Raises:
        LlmdDevError: The error of the last attempt.
    """

    def waiting(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0
        say(f"attempt {state.attempt_number} of {_ATTEMPTS} failed ({error}); the next one in {seconds:.0f} s")

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, LlmdDevError) and error.may_pass),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
        before_sleep=waiting,
        reraise=True,
    )
    return retrying(work)
