"""A total deadline for network work: name resolution, connecting, and an answer that arrives slowly."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """Run a function in a thread, and abandon the thread at the deadline.

    A timeout of requests restarts with each byte that arrives.

    Args:
        seconds: Total time allowed.
        work: The function. It must hold nothing that the caller goes on to use.

    Returns:
        The return value of ``work``.

    Raises:
        TimeoutError: The function took longer.
        BaseException: An exception of ``work``.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]
