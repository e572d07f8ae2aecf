"""When a verdict that is known answers the question of a smoke run, and what the suite is told."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from build.config.gpus import Selection
from build.config.settings import Settings
from build.console import Console
from build.context import Context
from build.errors import EngineError, SmokeError
from build.gate import fingerprints, smoke_run, verdict
from build.host import process
from build.host.process import Completed
from tests.standin.verdicts import passing
from tests.unit.fakes import IMAGE, FakeEngine

if TYPE_CHECKING:
    from build.gate.verdict import Verdict


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(settings=Settings(state=tmp_path), console=Console(quiet=True))


def keep(context: Context, **configuration: object) -> Verdict:
    kept = passing(IMAGE, gpus="all", **configuration)
    verdict.record(context.folders.verdicts, kept)
    return kept


@pytest.mark.parametrize(
    ("tested", "asked", "answered"),
    [
        ("none", "auto", True),
        ("all", "auto", True),
        ("0,1", "auto", True),
        ("all", "all", True),
        ("0", "0", True),
        ("none", "all", False),
        ("0", "1", False),
        ("all", "none", False),
    ],
)
def test_verdict_on_other_gpus_than_those_asked_for(
    context: Context, tested: str, asked: str, *, answered: bool
) -> None:
    verdict.record(context.folders.verdicts, passing(IMAGE, gpus=tested))
    options = smoke_run.SmokeOptions(gpus=Selection.parse(asked))
    assert (smoke_run.known(context, IMAGE, options) is not None) == answered


OWN = {"suite's own": True, "another": False}


@pytest.mark.parametrize("asked", OWN)
@pytest.mark.parametrize("tested", OWN)
def test_verdict_with_another_model_answers_another_question(
    context: Context, tmp_path: Path, tested: str, asked: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    digest = fingerprints.model(folder)
    keep(context, exact=OWN[tested], model="0" * 64 if OWN[tested] else digest)
    found = smoke_run.known(context, IMAGE, smoke_run.SmokeOptions(model=None if OWN[asked] else folder))
    assert (found is not None) == (tested == asked)


def test_verdict_with_a_model_that_was_edited_since_answers_nothing(context: Context, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    keep(context, exact=False, model=fingerprints.model(folder))
    assert smoke_run.known(context, IMAGE, smoke_run.SmokeOptions(model=folder))
    (folder / "config.json").write_text('{"x": 1}')
    assert smoke_run.known(context, IMAGE, smoke_run.SmokeOptions(model=folder)) is None


def test_verdict_with_the_suites_own_model_answers_for_a_copy_of_it(context: Context, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    keep(context, model=fingerprints.model(folder))
    assert smoke_run.known(context, IMAGE, smoke_run.SmokeOptions(model=folder))


def test_verdict_of_fewer_checks_answers_nothing(context: Context) -> None:
    kept = keep(context)
    assert smoke_run.known(context, IMAGE, smoke_run.SmokeOptions())
    verdict.record(context.folders.verdicts, replace(kept, passed=kept.passed[1:]))
    assert smoke_run.known(context, IMAGE, smoke_run.SmokeOptions()) is None


class MadeUpSuite:
    """Stands for the suite's process: writes its documents, and notes how it was started."""

    def __init__(self, found: Verdict) -> None:
        self.found = found
        self.argv: list[str] = []
        self.environment: dict[str, str] = {}
        self.without: tuple[str, ...] = ()

    def __call__(self, argv: list[str], **how: Any) -> Completed:  # noqa: ANN401 - as command.run has them
        self.argv, self.environment, self.without = argv, how["env"], how["without"]
        folder = Path(argv[argv.index("--report") + 1])
        result = "pass" if self.found.ok else "fail"
        checks = [{"name": name, "outcome": "failed"} for name in self.found.failed]
        report = {"result": result, "cause": "x", "line": "y", "advice": "z", "checks": checks, "figures": {}}
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "verdict.json").write_text(json.dumps(self.found.statement()))
        return Completed(returncode=0, tail=())


@pytest.fixture
def made_up(context: Context, monkeypatch: pytest.MonkeyPatch) -> MadeUpSuite:
    vars(context)["engine"] = FakeEngine()
    made = MadeUpSuite(passing(IMAGE))
    monkeypatch.setattr(process, "run", made)
    return made


def test_suite_uses_the_folders_of_its_caller(context: Context, made_up: MadeUpSuite) -> None:
    """``--state`` and ``--cache`` are this process's own: no variable says them."""
    smoke_run.run(context, IMAGE, smoke_run.SmokeOptions())
    assert made_up.environment["LLM_D_DEV_STATE"] == str(context.folders.state)
    assert made_up.environment["LLM_D_DEV_CACHE"] == str(context.folders.cache)


@pytest.mark.parametrize("numbers", ["same", "changed"])
def test_suite_is_told_whether_numbers_change(context: Context, made_up: MadeUpSuite, numbers: str) -> None:
    smoke_run.run(context, IMAGE, smoke_run.SmokeOptions(numbers=numbers))
    assert made_up.argv[made_up.argv.index("--numbers") + 1] == numbers


def test_two_runs_in_one_second_have_folders_of_their_own(
    context: Context, made_up: MadeUpSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    del made_up
    monkeypatch.setattr(time, "strftime", lambda *_: "20260102-030405")
    folders = {smoke_run.run(context, IMAGE, smoke_run.SmokeOptions(), force=True).report for _ in range(2)}
    assert len(folders) == 2
    assert all(folder and folder.is_dir() for folder in folders)


def test_a_run_gets_its_own_verdict_and_not_that_of_another(context: Context, made_up: MadeUpSuite) -> None:
    """A second run of the same image ends in between, with a failure."""

    def overtaken(name: str, document: object, report: Path) -> None:
        del name, document, report
        verdict.record(context.folders.verdicts, replace(made_up.found, failed=("x/y",)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoke_run, "_judge", overtaken)
        assert smoke_run.run(context, IMAGE, smoke_run.SmokeOptions()).verdict == made_up.found


def test_failure_with_another_model_leaves_the_pass(context: Context, made_up: MadeUpSuite) -> None:
    smoke_run.run(context, IMAGE, smoke_run.SmokeOptions())
    other = passing(IMAGE, exact=False, model="0" * 64)
    made_up.found = replace(other, failed=("openai/chat",))
    with pytest.raises(SmokeError, match="openai/chat"):
        smoke_run.run(context, IMAGE, smoke_run.SmokeOptions(model=Path("org/name")))
    assert smoke_run.known(context, IMAGE, smoke_run.SmokeOptions())


@pytest.mark.parametrize("changed", [{"configuration": {"suite": "0" * 64}}, {"image_id": "sha256:" + "3" * 64}])
def test_verdict_by_rules_that_changed_meanwhile_is_not_kept(
    context: Context, made_up: MadeUpSuite, changed: dict[str, Any]
) -> None:
    made_up.found = replace(made_up.found, **changed)
    with pytest.raises(EngineError, match="not verified"):
        smoke_run.run(context, IMAGE, smoke_run.SmokeOptions())
    assert not list(context.folders.verdicts.glob("*"))


def test_verdict_of_a_suite_that_was_edited_while_it_ran_is_not_kept(
    context: Context, made_up: MadeUpSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules count as they were before it started, although the verdict names those of after."""
    made_up.found = replace(made_up.found, configuration={**made_up.found.configuration, "suite": "1" * 64})
    monkeypatch.setattr(fingerprints, "rules", lambda: ("1" if made_up.argv else "0") * 64)
    with pytest.raises(EngineError, match="the suite changed while it ran"):
        smoke_run.run(context, IMAGE, smoke_run.SmokeOptions())
    assert not list(context.folders.verdicts.glob("*"))


def test_suite_does_not_inherit_what_changes_pytest_or_python(
    context: Context, made_up: MadeUpSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = {"PYTEST_ADDOPTS": "-k health", "PYTEST_PLUGINS": "mine", "PYTHONPATH": "/x", "PYTHONSTARTUP": "y"}
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    smoke_run.run(context, IMAGE, smoke_run.SmokeOptions())
    monkeypatch.undo()
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    program = "import os; print(*(name for name in os.environ if name.startswith('PYT')))"
    shown = process.run([sys.executable, "-c", program], without=made_up.without)
    assert shown.text == ""


@pytest.mark.parametrize("asked", ["auto", "none", "0,1"])
def test_suite_is_told_which_gpus(context: Context, tmp_path: Path, asked: str) -> None:
    argv = smoke_run._words(context, IMAGE, smoke_run.SmokeOptions(gpus=Selection.parse(asked)), tmp_path)
    assert argv[argv.index("--gpus") + 1] == asked
