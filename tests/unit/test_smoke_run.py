"""What a run makes of a server that fails, and what it writes. The server is made up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import docker.errors
import pytest
import requests

from build.config.gpus import Selection
from build.gate import fingerprints, verdict
from build.gate.verdict import Verdict
from smoke.results.findings import Check, Tier
from smoke.server import tiny_model
from smoke.server.server import ServerFailedError
from smoke.suite.image_run import NotVerifiedError, Run
from smoke.suite.suite_options import Options
from tests.standin.verdicts import passing
from tests.unit.failing_logs import engine_failed, recorded
from tests.unit.fakes import IMAGE, FakeEngine, digest

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.client import Engine
    from smoke.results.findings import Outcome
    from smoke.server.server import ContainerServer


class MadeUpServer:
    """A server in a state of one's choice."""

    def __init__(self, *, code: int | None = None, log: str = "", terminated: bool = False, lost: bool = False) -> None:
        self.terminated = terminated
        self.out_of_memory = False
        self._code = code
        self._log = log
        self._lost = lost

    def exit_code(self, *, within: float) -> int | None:
        del within
        if self._lost:
            raise docker.errors.APIError("connection refused")
        return self._code

    def log(self) -> str:
        return self._log


class MadeUpEngine:
    """An engine that does not answer any more."""

    @property
    def client(self) -> object:
        raise docker.errors.DockerException("connection refused")

    def created(self, _image_id: str) -> object:
        return self.client

    @property
    def capabilities(self) -> object:
        return self.client


def run_on(folder: Path | None, server: MadeUpServer | None = None, *, chosen: Path | None = None) -> Run:
    options = Options(
        image="x",
        url=None,
        key=None,
        gpus=Selection(word="auto"),
        model=chosen,
        report=folder,
        expect=(),
        start_timeout=1.0,
        any_user=False,
        network=False,
        answer_timeout=120.0,
        numbers_changed=False,
    )
    run = Run(options=options, engine=cast("Engine", MadeUpEngine()), image=IMAGE)
    run.server = cast("ContainerServer", server)
    return run


def add(run: Run, outcome: Outcome) -> None:
    run.findings.add(
        Check(name="server/health", contract="It is.", outcome=outcome, seconds=1.0, message=""),
        Tier(number=3, name="server"),
    )


def test_failure_without_a_server_is_the_images() -> None:
    run = run_on(None)
    assert run.look_into_failure()
    assert run.findings.diagnosis is None


def test_wrong_answer_of_a_server_that_lives() -> None:
    run = run_on(None, MadeUpServer(log="all is well"))
    assert run.look_into_failure()
    assert (run.findings.diagnosis, run.findings.blocked) == (None, None)


def test_log_of_a_server_that_lives_may_name_the_cause() -> None:
    run = run_on(None, MadeUpServer(log="ModuleNotFoundError: No module named 'vllm.x'"))
    assert run.look_into_failure()
    assert run.findings.diagnosis is not None
    assert run.findings.diagnosis.cause == "import-error"
    assert run.findings.blocked is None


def test_server_that_lives_does_not_excuse_itself() -> None:
    run = run_on(None, MadeUpServer(log="OSError: We couldn't connect to 'https://huggingface.co' to load the files"))
    assert run.look_into_failure()
    assert run.findings.diagnosis is None


def test_dead_server_blocks_the_rest() -> None:
    run = run_on(None, MadeUpServer(code=1, log="RuntimeError: no"))
    assert run.look_into_failure()
    assert run.findings.blocked == "the server died with exit status 1"
    assert run.last_words == ["RuntimeError: no"]


def test_server_that_was_killed_for_memory_is_no_failure_of_the_image() -> None:
    run = run_on(None, MadeUpServer(code=137))
    assert not run.look_into_failure()
    assert run.findings.diagnosis is not None
    assert run.findings.diagnosis.cause == "host-memory"


def test_server_that_was_told_to_end_did_not_die() -> None:
    run = run_on(None, MadeUpServer(code=137, terminated=True))
    assert run.look_into_failure()
    assert (run.findings.diagnosis, run.findings.blocked) == (None, None)


_STOPPED = recorded("APIServer pid=1", "[shutdown] API server: shutdown triggered", level="INFO")


@pytest.mark.parametrize(("code", "log"), [(143, ""), (0, _STOPPED), (137, _STOPPED), (None, _STOPPED)])
def test_server_that_was_ended_from_outside_is_no_failure_of_the_image(code: int | None, log: str) -> None:
    run = run_on(None, MadeUpServer(code=code, log=f"INFO:     Application startup complete.\n{log}"))
    assert not run.look_into_failure()
    assert run.findings.blocked == "not verified (terminated)"


def test_server_that_fails_before_it_is_ended_is_the_images() -> None:
    log = engine_failed("TypeError: f() missing 1 required positional argument: 'a'") + _STOPPED
    run = run_on(None, MadeUpServer(code=143, log=log))
    assert run.look_into_failure()
    assert run.findings.diagnosis is not None
    assert "missing 1 required" in run.findings.diagnosis.line


def test_server_that_does_not_start_because_it_was_ended_is_not_verified() -> None:
    run = run_on(None)
    with pytest.raises(NotVerifiedError, match="terminated: "):
        run._blame(ServerFailedError("exited", log="(EngineCore pid=2) INFO 11-25 10:00:00 [x.py:1] x", exit_code=143))


def test_engine_that_is_lost_is_no_failure_of_the_image() -> None:
    run = run_on(None, MadeUpServer(lost=True))
    assert not run.look_into_failure()
    assert run.findings.diagnosis is not None
    assert run.findings.diagnosis.cause == "engine-lost"
    assert run.findings.blocked == "not verified (engine-lost)"


def test_engine_that_is_lost_before_there_is_a_server() -> None:
    run = run_on(None)
    assert not run.engine_lost(AssertionError("wrong"))
    assert run.engine_lost(docker.errors.APIError("connection refused"))
    assert run.findings.diagnosis is not None
    assert (run.findings.diagnosis.cause, run.findings.blocked) == ("engine-lost", "not verified (engine-lost)")


def test_server_that_does_not_answer_is_not_the_engines_fault() -> None:
    assert not run_on(None, MadeUpServer()).engine_lost(requests.ConnectionError("refused"))


def test_refusal_of_unknown_reason_is_the_engines() -> None:
    run = run_on(None)
    with pytest.raises(NotVerifiedError, match="engine-refused: the moon is full"):
        run._blame(ServerFailedError("refused", log="the moon is full", refused=True))


def test_refusal_may_be_the_images() -> None:
    run = run_on(None)
    run._blame(ServerFailedError("refused", log='exec: "vllm": executable file not found', refused=True))
    assert run.findings.diagnosis is not None
    assert run.findings.diagnosis.cause == "entrypoint"


def test_key_is_blacked_out_and_never_the_same() -> None:
    run, other = run_on(None), run_on(None)
    assert run.redacted(f"key {run.key}.") == "key [redacted]."
    assert run.key != other.key


def test_documents(tmp_path: Path) -> None:
    run = run_on(tmp_path)
    add(run, "passed")
    run.write()
    assert json.loads((tmp_path / "report.json").read_text())["result"] == "pass"
    found = Verdict.parse(json.loads((tmp_path / "verdict.json").read_text()))
    assert found.ok
    assert found.configuration["gpus"] == "none"


def test_no_verdict_on_what_is_not_known(tmp_path: Path) -> None:
    run = run_on(tmp_path)
    add(run, "inconclusive")
    run.write()
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.html"}


def all_passed(run: Run) -> None:
    """Note every check that such an image has to pass."""
    for name in passing(run.image).passed:
        tier = Tier(number=1, name="x")
        run.findings.add(Check(name=name, contract="It is.", outcome="passed", seconds=1.0, message=""), tier)


def test_whole_suite_passes_an_image() -> None:
    run = run_on(None)
    all_passed(run)
    run.conclude()
    assert run.findings.result == "pass"


def test_check_that_did_not_run_keeps_an_image_from_passing() -> None:
    """As a plugin may leave one out without a word."""
    run = run_on(None)
    all_passed(run)
    del run.findings.checks["openai/many_at_once"]
    run.conclude()
    assert run.findings.result == "inconclusive"
    assert run.findings.reason is not None
    assert (run.findings.reason.cause, "openai/many_at_once" in run.findings.reason.line) == ("incomplete", True)


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_suite_that_is_edited_while_it_runs_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    run = run_on(tmp_path)
    all_passed(run)
    add(run, outcome)
    monkeypatch.setattr("build.gate.fingerprints.rules", lambda: "edited")
    run.conclude()
    run.write()
    assert run.findings.result == "inconclusive"
    assert json.loads((tmp_path / "report.json").read_text())["cause"] == "suite-changed"
    assert not (tmp_path / "verdict.json").exists()


def test_copy_of_the_suites_own_model_is_as_exact_as_that(tmp_path: Path) -> None:
    run = run_on(None, chosen=tmp_path)
    assert not run.exact
    tiny_model.write(tmp_path)
    run.model = fingerprints.model(tmp_path)
    assert run.exact
    (tmp_path / "generation_config.json").write_text("{}")
    run.model = fingerprints.model(tmp_path)
    assert not run.exact
    assert run_on(None).exact


class WithImages(FakeEngine):
    """An engine with a base and an overlay of it."""

    def __init__(self, *, own: str = "own") -> None:
        super().__init__()
        self.base = self.hold("llm-d-dev:nightly", kind="base", layers=(digest("1"), digest("2")))
        layers = (*self.base.diff_ids, digest(own))
        self.overlay = self.hold("llm-d-dev:x", kind="overlay", layers=layers, base=self.base.id)


def run_on_overlay(engine: WithImages) -> Run:
    run = run_on(None)
    return Run(options=run.options, engine=engine, image=engine.overlay)


def test_overlay_leaves_to_its_base_what_that_passed() -> None:
    engine = WithImages()
    run = run_on_overlay(engine)
    verdict.record(run.folders.verdicts, passing(engine.base))
    assert run.base == engine.base
    assert not run.any_user


@pytest.mark.parametrize("judged", ["never", "failed", "by-other-rules", "with-another-model", "with-fewer-checks"])
def test_overlay_of_a_base_without_a_current_pass_is_checked_as_a_whole(judged: str) -> None:
    engine = WithImages()
    run = run_on_overlay(engine)
    found = passing(engine.base)
    changed = {
        "failed": replace(found, failed=("image/secret_files",)),
        "by-other-rules": passing(engine.base, suite="0" * 64),
        "with-another-model": passing(engine.base, exact=False),
        "with-fewer-checks": replace(found, passed=found.passed[1:]),
    }
    if judged in changed:
        verdict.record(run.folders.verdicts, changed[judged])
    assert run.base is None
    assert run.any_user


def test_overlay_that_names_a_base_on_which_it_does_not_stand_is_checked_as_a_whole() -> None:
    engine = WithImages()
    other = engine.hold("llm-d-dev:other", kind="base", layers=(digest("9"),), created="2026-01-02T00:00:00Z")
    engine.overlay = engine.hold("llm-d-dev:y", kind="overlay", layers=engine.overlay.diff_ids, base=other.id)
    run = run_on_overlay(engine)
    verdict.record(run.folders.verdicts, passing(other))
    assert run.base is None


@pytest.mark.parametrize("changed", ["overlay", "base"])
def test_what_was_made_from_an_image_is_checked_as_a_whole(changed: str) -> None:
    """Its layers are the same, and what it runs with is not."""
    engine = WithImages()
    made = engine.commit(getattr(engine, changed), "llm-d-dev:y", env=["LD_PRELOAD=/x.so"])
    if changed == "base":
        made = engine.hold("llm-d-dev:z", kind="overlay", layers=engine.overlay.diff_ids, base=made.id)
    engine.overlay = made
    run = run_on_overlay(engine)
    for image in (engine.base, engine.image("llm-d-dev:y")):
        verdict.record(run.folders.verdicts, passing(image))
    assert run.base is None


@pytest.mark.parametrize("named", ["", "no such:: name", "sha256:" + "0" * 64])
def test_overlay_that_names_no_base_that_is_here_is_checked_as_a_whole(named: str) -> None:
    engine = WithImages()
    engine.overlay = engine.hold("llm-d-dev:y", kind="overlay", layers=engine.overlay.diff_ids, base=named)
    assert run_on_overlay(engine).base is None


def test_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_on(None)
    add(run, "passed")
    run.write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("given", "at_fault"), [(599.0, False), (600.0, True), (900.0, True)])
def test_server_that_still_starts_has_failed_only_after_the_default_time(given: float, *, at_fault: bool) -> None:
    run = run_on(None)
    run.options = replace(run.options, start_timeout=given)
    error = ServerFailedError("not healthy", log="loading weights", timed_out=True)
    if at_fault:
        run._blame(error)
        assert run.findings.diagnosis is not None
        assert run.findings.diagnosis.cause == "timeout"
        return
    with pytest.raises(NotVerifiedError, match="timeout: loading weights"):
        run._blame(error)


def test_error_in_the_log_is_the_images_however_short_the_time() -> None:
    run = run_on(None)
    run._blame(ServerFailedError("not healthy", log=engine_failed("RuntimeError: no"), timed_out=True))
    assert run.findings.blocked == "the server did not start"
