"""What all tests share."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell has Ctrl-C ignored in what it starts in the background, and children inherit that. Here it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _git_helpers() -> dict[int, str]:
    """The processes of git that an open repository keeps, by process ID."""
    found = {}
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text(encoding="ascii").split():
            try:
                words = Path("/proc", child, "cmdline").read_text(encoding="utf-8").split("\0")
            except OSError:
                continue
            if "cat-file" in words:
                found[int(child)] = " ".join(words)
    return found


@pytest.fixture(scope="module", autouse=True)
def _repositories_are_closed() -> Iterator[None]:
    """An open repository warns when it is collected, at any time later: it is the module that opened it that fails."""
    before = _git_helpers()
    yield
    left = {number: words for number, words in _git_helpers().items() if number not in before}
    assert not left, "a repository was left open"
