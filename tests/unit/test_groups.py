"""How several workers share the tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict

import pytest

from build.config.folders import REPOSITORY
from tests.conftest import group
from tests.engine.faults import BATCHES

_SMOKE = "tests/engine/test_smoke.py"
_BATCH = max(BATCHES.values(), key=len)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("tests/e2e/test_faults.py::test_x", "tests/e2e/test_quickstart.py::test_y", True),
        ("tests/engine/test_gate.py::test_x", "tests/engine/test_gate.py::test_y[crash]", True),
        ("tests/engine/test_gate.py::test_x", "tests/engine/test_dev.py::test_x", False),
        (f"{_SMOKE}::test_x[{_BATCH[0].name}]", f"{_SMOKE}::test_x[{_BATCH[1].name}]", True),
        (f"{_SMOKE}::test_x[crash]", f"{_SMOKE}::test_y[crash]", True),
        (f"{_SMOKE}::test_x[crash]", f"{_SMOKE}::test_x[hub]", False),
        (
            "tests/engine/test_interrupt.py::test_x[pushing-2]",
            "tests/engine/test_interrupt.py::test_x[pushing-9]",
            False,
        ),
    ],
)
def test_what_shares_something_is_together_and_what_takes_its_time_is_not(one: str, other: str, together: bool) -> None:  # noqa: FBT001
    assert (group(one) == group(other)) == together


def test_a_file_has_one_worker() -> None:
    """A scheduler that knows no groups fails nothing by itself."""
    files = [f"tests/unit/test_{name}.py" for name in ("mounts", "expiry", "version")]
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "-v", *files]
    said = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    workers = defaultdict(set)
    for worker, file in re.findall(r"^\[(gw\d)\] .*PASSED (tests/unit/\w+\.py)::", said, re.MULTILINE):
        workers[file].add(worker)
    assert {file: len(found) for file, found in workers.items()} == dict.fromkeys(files, 1)
