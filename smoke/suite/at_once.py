"""Checks that ask and wait: all of them at once, each reported in its turn."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from concurrent.futures import Future

    import pytest


class AtOnce:
    """The checks that are coroutines, in a thread that ends with the process whatever they wait for."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # Whoever waits for a check is told; what is told when rubbish is collected comes amid anything else.
        self._loop.set_exception_handler(lambda *_: None)
        self._running: dict[str, Future[None]] = {}
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def result(self, item: pytest.Function) -> None:
        """Wait for a check, and raise what it raised. The first that is waited for starts all of its file.

        All are given what the first one is: what they share, and each its own parameters.
        """
        if item.nodeid not in self._running:
            for one in item.session.items:
                if is_coroutine(one) and one.path == item.path:
                    self._start(one, item.funcargs)
        self._running[item.nodeid].result()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - what it returns
        """Wait for what needs the server for itself."""
        self.settle()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def settle(self) -> None:
        """Wait until all checks that were started have ended, however they did."""
        for future in self._running.values():
            future.exception()

    def _start(self, item: Any, shared: Mapping[str, Any]) -> None:  # noqa: ANN401 - whatever pytest collected
        given = {**shared, **getattr(getattr(item, "callspec", None), "params", {})}
        arguments = {name: given[name] for name in inspect.signature(item.obj).parameters}
        self._running[item.nodeid] = asyncio.run_coroutine_threadsafe(item.obj(**arguments), self._loop)


def is_coroutine(item: Any) -> bool:  # noqa: ANN401 - whatever pytest collected
    """Whether a check is a coroutine."""
    return inspect.iscoroutinefunction(getattr(item, "obj", None))
