"""The main job on real vLLM, done once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from build.config.folders import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

# Starts a program and writes down the size of the largest process of it, in kB on Linux. A program's size counts from
# before it starts, as a copy of its parent's: so the parent is this small one, not pytest.
_MEASURED = """\
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m build` with the machine's own settings, and cpu images: other tests give the engine made-up GPUs."""
    return subprocess.run(
        [sys.executable, "-m", "build", *words],
        cwd=REPOSITORY,
        env={**os.environ, "LLM_D_DEV_FLAVOR": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a quickstart came to.

    Attributes:
        document: What `quickstart --json` prints.
        largest_kb: Size of its largest process.
    """

    document: Any
    largest_kb: int


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The main job."""
    size: Path = tmp_path_factory.mktemp("quickstart") / "kb"
    words = [sys.executable, "-c", _MEASURED, str(size), sys.executable, "-m", "build", "quickstart", "--json"]
    done = subprocess.run(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    return Done(document=json.loads(done.stdout), largest_kb=int(size.read_text()))


@pytest.fixture(scope="session")
def quickstart(measured: Done) -> Any:  # noqa: ANN401 - a JSON document
    """What `quickstart --json` prints."""
    return measured.document
