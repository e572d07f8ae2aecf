"""What is made of what a container and its machine show of their GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import docker.errors
import pytest

from build.base import apart
from build.config.gpus import Selection
from build.engine import labels
from build.engine.executed import Executed
from build.engine.image import Image
from smoke.gpu import grant as gpus
from smoke.gpu import nvidia, observed
from smoke.gpu.nvidia import Gpu, Machine
from smoke.gpu.observed import SCRIPT, Seen, computing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from docker.models.containers import Container

ONE = "GPU-00000000-0000-0000-0000-000000000001"
TWO = "GPU-00000000-0000-0000-0000-000000000002"
THREE = "GPU-00000000-0000-0000-0000-000000000003"
TORCH = {"version": "2.13.0+cu130", "cuda": "13.0", "available": True, "products": [True]}
FOUND = {
    "holders": {"1": ["/dev/nvidia0"]},
    "torch": {"found": TORCH, "failure": ""},
    "platform": {"found": "cuda", "failure": ""},
    "done": None,
}
IMAGE = Image(
    id="sha256:1",
    tags=(),
    digests=(),
    labels={labels.KIND: "base"},
    diff_ids=(),
    size=1,
    created="",
    config={},
)


class MadeUpContainer:
    """A container whose commands answer as one likes; others fail."""

    def __init__(self, *, smi: dict[str, str] | None = None, python: str = "", gone: bool = False) -> None:
        self._smi = smi or {}
        self._python = python
        self._gone = gone

    def execute(self, argv: Sequence[str], *, limit: int, seconds: float) -> Executed:
        assert limit < 2**30
        assert seconds < 3600
        if self._gone:
            raise docker.errors.APIError("container is not running")
        answer = self._smi.get(argv[1].partition("=")[0]) if argv[0] == "nvidia-smi" else self._python
        if not answer:
            return Executed(status=127, output=b"", errors=b"not found\n")
        return Executed(status=0, output=answer.encode(), errors=b"")

    def top(self) -> dict[str, Any]:
        return {"Titles": ["UID", "PID", "CMD"], "Processes": [["2000", "4711", "vllm"], ["2000", "4712", "core"]]}


@pytest.fixture(autouse=True)
def _executed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (nvidia, observed):
        monkeypatch.setattr(module, "execute", MadeUpContainer.execute)


def lines(stages: dict[str, Any]) -> str:
    return "\n".join(json.dumps(stage) for stage in stages.items())


def look(container: MadeUpContainer, *, here: bool = False) -> Seen:
    return Seen.look(cast("Container", container), IMAGE, here=here)


def smi(*uuids: str, used: int = 9000) -> dict[str, str]:
    rows = [f"{number}, {uuid}, H100, 580.65.06, {used}" for number, uuid in enumerate(uuids)]
    return {"--query-gpu": "\n".join(rows), "-L": "GPU", "-q": "CUDA Version : 13.0"}


def machine(*uuids: str, used: int | None = 500) -> Machine:
    made = tuple(Gpu(index=n, uuid=uuid, name="H100", used_mib=used, migs=()) for n, uuid in enumerate(uuids))
    return Machine(driver="580.65.06", cuda="13.0", brand=None, gpus=made)


def test_container_that_shows_everything() -> None:
    seen = look(MadeUpContainer(smi=smi(ONE), python=lines(FOUND)))
    assert seen.machine is not None
    assert seen.findings is not None
    assert seen.findings.torch.found is not None
    assert seen.findings.torch.found.cuda == "13.0"
    assert (seen.machine.units, seen.findings.platform.found) == ((ONE,), "cuda")
    assert seen.computing is None


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ("", "ended with status 127: not found"),
        ("Segmentation fault", "ended before it was done"),
        (lines({**FOUND, "torch": {"found": {"cuda": 13}, "failure": ""}}), "printed unexpected output"),
        (lines({"surprise": 1, **FOUND}), "printed unexpected output"),
        (lines({**FOUND, "more": 1}), "printed unexpected output"),
    ],
)
def test_python_that_does_not_say_what_it_is_asked(printed: str, why: str) -> None:
    seen = look(MadeUpContainer(smi=smi(ONE), python=printed))
    assert seen.findings is None
    assert why in seen.failure


def test_container_that_is_gone() -> None:
    seen = look(MadeUpContainer(gone=True))
    assert (seen.machine, seen.findings, seen.computing) == (None, None, None)
    assert "not running" in seen.failure


def test_processes_are_told_from_others_by_their_numbers_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = f"4712, {ONE}\n9999, {TWO}\n"
    monkeypatch.setattr(nvidia, "here", lambda _argv: rows)
    assert look(MadeUpContainer(), here=True).computing == frozenset({ONE})


def test_processes_inside_where_the_machine_is_elsewhere() -> None:
    container = MadeUpContainer(smi={"--query-compute-apps": f"1, {TWO}"})
    assert look(container).computing == frozenset({TWO})


def test_computing() -> None:
    assert computing({1: {ONE}, 2: {TWO}}, {2, 3}) == {TWO}
    assert computing({1: {ONE}}, {3}) == set()


@pytest.mark.parametrize(("used", "grown"), [(9000, True), (564, True), (563, False), (100, False)])
def test_memory_that_grew(used: int, *, grown: bool) -> None:
    seen = look(MadeUpContainer(smi=smi(ONE, used=used)))
    grant = gpus.granted(Selection(word="all"), (cast("Any", {}),), machine(ONE))
    assert seen.grown(grant) == {ONE: used - 500}
    assert seen.has_grown(grant) == grown


def test_memory_that_was_not_told() -> None:
    seen = look(MadeUpContainer(smi=smi(ONE)))
    grant = gpus.granted(Selection(word="all"), (cast("Any", {}),), machine(ONE, used=None))
    assert seen.grown(grant) == {}


# --- What was asked for, where only a container tells --------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "inside", "units"),
    [
        ("all", (ONE, TWO), {ONE, TWO}),
        ("3", (ONE,), {ONE}),
        ("2,3", (ONE, TWO), {ONE, TWO}),
        (ONE, (ONE, TWO), {ONE}),
        (f"{TWO},5", (ONE, TWO, THREE), {TWO, ONE}),
        ("0", (ONE, TWO), {ONE}),
        ("0,1", (ONE,), {ONE, "1"}),
        (THREE, (ONE,), {THREE}),
    ],
)
def test_asked_for(asked: str, inside: tuple[str, ...], units: set[str]) -> None:
    grant = gpus.guessed(Selection.parse(asked), (cast("Any", {}),), machine(*inside))
    assert set(grant.units) == units


# --- The script itself -----------------------------------------------------------------------------------------


def run_script(folder: Path) -> tuple[dict[str, Any], str]:
    """What the script finds, with a folder's modules, and what goes to its errors."""
    ran = subprocess.run(
        apart.words(sys.executable, SCRIPT),
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return dict(map(json.loads, ran.stdout.splitlines())), ran.stderr


def test_script_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch')\n")
    (tmp_path / "vllm.py").write_text("raise ImportError('no vllm')\n")
    found, _ = run_script(tmp_path)
    # Tests of made-up GPUs may hold some on this machine.
    del found["holders"]
    assert found == {
        "torch": {"found": None, "failure": "ModuleNotFoundError: no torch"},
        "platform": {"found": None, "failure": "ImportError: no vllm"},
        "done": None,
    }


def test_script_keeps_what_libraries_print_out_of_its_answer(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import os\nprint('hello', flush=True)\nos.system('echo there')\nraise OSError('no')\n"
    )
    found, errors = run_script(tmp_path)
    assert found["torch"]["failure"] == "OSError: no"
    assert "hello" in errors
