"""After all of that the server is as well as before, and goes when it is told to."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from smoke.server.server import ContainerServer, Server
    from smoke.suite.image_run import Run

_SHUTDOWN_S = 20.0
# Ended by itself, or by the signal where nothing handles it: 128 + SIGTERM.
_ENDED_WELL = (0, 143)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")


def test_still_healthy(server: Server) -> None:
    """The server is healthy after everything that was asked of it."""
    assert server.healthy(), "/health does not answer 200 any more"


def test_no_traceback(contained: ContainerServer) -> None:
    """The server's log holds no traceback."""
    lines = contained.log().splitlines()
    found = [number for number, line in enumerate(lines) if _TRACEBACK.search(line)]
    assert not found, "\n".join(lines[found[0] : found[0] + 40])


def test_no_key_in_log(contained: ContainerServer) -> None:
    """The server's log does not hold its API key, in whatever form."""
    found = contained.tells_key()
    assert not found, f"the log holds the API key {', '.join(found)}"


def test_sigterm(contained: ContainerServer, run: Run) -> None:
    """The server ends by itself within 20 seconds of SIGTERM."""
    start = time.monotonic()
    code = contained.terminate(within=_SHUTDOWN_S)
    if code is None:
        pytest.fail(f"it still runs {_SHUTDOWN_S:g} s after SIGTERM")
    run.findings.figures["shutdown_s"] = round(time.monotonic() - start, 1)
    assert code in _ENDED_WELL, f"it ended with exit status {code}"
