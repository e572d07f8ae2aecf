"""What all tests share."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# A shell has Ctrl-C ignored in what it starts in the background, and children inherit that. Here it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_HERE = Path(__file__).parent
# Those that take longest: whoever starts with them does not end with them.
_FIRST = ("e2e", "engine", "unit")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run insist that it tried everything."""
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped has failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a test that is skipped one that failed, where that was asked for."""
    report = yield
    if report.skipped and item.config.option.no_skips:
        report.outcome, report.longrepr = "failed", f"skipped: {report.longrepr}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers, have one run all tests of a file, unless they say otherwise, and all on real vLLM."""
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0]
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(folder if folder == "e2e" else item.path.stem))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _FIRST.index(item.path.relative_to(_HERE).parts[0]))


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
