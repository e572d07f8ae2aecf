"""What all tests share."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.engine.faults import BATCHES

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# A shell has Ctrl-C ignored in what it starts in the background, and children inherit that. Here it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_HERE = Path(__file__).parent
# Those that take longest: whoever starts with them does not end with them.
_FIRST = ("e2e", "engine", "unit")
_APART = tuple(f"tests/engine/test_{name}.py" for name in ("interrupt", "last_known_good", "smoke"))


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers, have some begin at once with what takes longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _FIRST.index(item.path.relative_to(_HERE).parts[0]))


def group(nodeid: str) -> str:
    """What one worker tries: all on real vLLM, a file, or, where each takes its time, a broken image or a test."""
    path, _, test = nodeid.partition("::")
    if path.startswith("tests/e2e/"):
        return "tests/e2e"
    if path not in _APART:
        return path
    batch = BATCHES.get(test.partition("[")[2].removesuffix("]"))
    return f"{path}::{batch[0].name}" if batch else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:  # noqa: ANN401 - xdist has no types
    """Have workers take groups.

    ``--dist loadgroup`` and its marks would, if pytest 9.2 still let names of tests be changed (pytest-xdist#1386).
    """
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group
    return scheduler


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
