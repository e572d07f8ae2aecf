"""The main job on real vLLM, done once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from build.config.folders import REPOSITORY


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m build` with the machine's own settings."""
    return subprocess.run(
        [sys.executable, "-m", "build", *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False
    )


@pytest.fixture(scope="session")
def quickstart() -> Any:  # noqa: ANN401 - a JSON document
    """What `quickstart --json` prints."""
    done = run("quickstart", "--json")
    assert done.returncode == 0
    return json.loads(done.stdout)
