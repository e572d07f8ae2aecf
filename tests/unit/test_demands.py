"""Which checks an image has to have passed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from build.config.folders import REPOSITORY
from build.gate import demands

# An expectation's name is that of what is expected, and here nothing is.
_ITEM = re.compile(r"smoke/test_\d+_(?P<tier>\w+)\.py::test_(?P<name>\w+(?:\[[\w-]+\])?)")


def test_every_check_of_the_suite_is_demanded_of_some_image_or_said_to_be_optional() -> None:
    argv = [sys.executable, "-m", "pytest", "smoke", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    checks = {f"{match['tier']}/{match['name']}" for match in _ITEM.finditer(done.stdout)}
    checks = checks - {f"{demands.EXPECTATION}[none]"} | {demands.EXPECTATION}
    assert checks == demands.every() | demands.OPTIONAL
    assert checks >= demands.EXACT
    assert len(list(Path(REPOSITORY, "smoke").glob("test_*.py"))) == len({name.partition("/")[0] for name in checks})
