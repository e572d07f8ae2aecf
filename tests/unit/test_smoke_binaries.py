"""What the script inside an image says, which may be anything, and which failed imports count."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

from build.listing import REGULAR, Entry
from smoke.binaries import SCRIPT, ImportFailure, Probe, misfits

if TYPE_CHECKING:
    from pathlib import Path

    from smoke.contents import Contents

CHANGED = Entry(mode=REGULAR, oid="a" * 40)


def parsed(*stages: object, status: int = 0, errors: str = "") -> Probe:
    return Probe.parse("\n".join(map(json.dumps, stages)), status=status, errors=errors)


def test_findings_are_read() -> None:
    found = parsed(["compile", []], ["vllm", {"failure": None, "file": "/opt/vllm-source/vllm/__init__.py"}])
    assert found.end is None
    assert found.stages["vllm"].file == "/opt/vllm-source/vllm/__init__.py"


@pytest.mark.parametrize(
    "stage",
    [
        "compile",
        ["compile"],
        ["unknown", []],
        ["compile", [["a"]]],
        ["compile", {"a": "b"}],
        ["torch", {"failure": None, "version": 2, "cuda": None}],
        ["vllm", {"failure": None, "file": None, "more": 1}],
        ["files", {"a": "x" * 5000}],
    ],
)
def test_anything_else_is_refused(stage: object) -> None:
    found = parsed(["writable", []], stage)
    assert found.end is not None
    assert "something else" in found.end
    assert found.stages == {"writable": []}


def test_end_of_the_process_names_the_module() -> None:
    found = parsed(["importing", "vllm.x"], status=139, errors="INFO\nFatal Python error: Segmentation fault\n\n")
    assert found.end is not None
    assert found.end.endswith("status 139 while it imported vllm.x: Fatal Python error: Segmentation fault")


class Before:
    """What a base had."""

    changed: ClassVar = {"vllm/a.py": CHANGED, "vllm/new.py": CHANGED}
    base_texts: ClassVar = {"vllm/a.py": "import aiter\nfrom vllm.b import (\n    Old,\n)\n"}


def failure(**values: Any) -> ImportFailure:  # noqa: ANN401 - as the class has them
    known = {"module": "vllm.a", "error": "ModuleNotFoundError: No module named 'aiter'", "file": "vllm/a.py"}
    return ImportFailure(**{**known, "number": 1, "text": "import aiter", "sealed": False, **values})


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ({}, False),
        ({"sealed": True}, True),
        ({"text": "import other", "error": "ModuleNotFoundError: No module named 'other'"}, True),
        ({"text": "from vllm.b import (", "error": "ImportError: cannot import name 'New' from 'vllm.b'"}, True),
        ({"text": "from vllm.b import (", "error": "ImportError: cannot import name 'Old' from 'vllm.b'"}, False),
        ({"file": "vllm/new.py"}, True),
        ({"file": "vllm/unchanged.py", "text": "import cupy"}, False),
    ],
)
def test_import_that_fails_for_what_the_base_had_too_does_not_count(values: dict[str, Any], *, counts: bool) -> None:
    assert bool(misfits([failure(**values)], cast("Contents", Before))) is counts


def test_script_stops_at_source_that_does_not_compile(tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/a.py").write_text("x = 1\nprint('printed')\ndef f(:\n", encoding="utf-8")
    argv = [sys.executable, "-I", "-c", SCRIPT.read_text(encoding="utf-8"), "cpu", str(tmp_path), "vllm/a.py"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = Probe.parse(done.stdout, status=done.returncode, errors=done.stderr)
    assert list(found.stages) == ["compile"]
    ((path, words),) = found.stages["compile"]
    assert path == "vllm/a.py"
    assert words == f'File "{tmp_path}/vllm/a.py", line 3\nSyntaxError: invalid syntax'
