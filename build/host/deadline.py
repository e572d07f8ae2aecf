"""A total deadline for what waits for others: name resolution, connecting, and an answer that drips in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """Do something that waits for others, in a thread that is left alone when the time is up.

    A timeout of requests counts anew with each byte that arrives.

    Args:
        seconds: What it may take in all.
        work: What to do; it holds nothing that its caller goes on to use.

    Returns:
        What ``work`` returns.

    Raises:
        TimeoutError: It took longer.
        BaseException: Whatever ``work`` raises.
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
