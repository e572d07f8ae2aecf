"""What a run makes of a server that fails, and what it writes. The server is made up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import docker.errors
import pytest
import requests

from build.engine import Image
from build.gpus import Selection
from build.verdict import Verdict
from smoke.findings import Check, Tier
from smoke.options import Options
from smoke.run import NotVerifiedError, Run
from smoke.server import ServerFailedError
from tests.unit.failing_logs import engine_failed, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine import Engine
    from smoke.findings import Outcome
    from smoke.server import ContainerServer

IMAGE = Image(
    id="sha256:" + "1" * 64,
    tags=(),
    digests=(),
    labels={},
    diff_ids=("sha256:" + "2" * 64,),
    size=1,
    created="",
    config={},
)


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


def run_on(folder: Path | None, server: MadeUpServer | None = None) -> Run:
    options = Options(
        image="x",
        url=None,
        key=None,
        gpus=Selection(word="auto"),
        model=None,
        report=folder,
        expect=(),
        start_timeout=1.0,
        any_user=False,
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
    verdict = Verdict.parse(json.loads((tmp_path / "verdict.json").read_text()))
    assert verdict.ok
    assert verdict.configuration["gpus"] == "none"


def test_no_verdict_on_what_is_not_known(tmp_path: Path) -> None:
    run = run_on(tmp_path)
    add(run, "inconclusive")
    run.write()
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.html"}


def test_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_on(None)
    add(run, "passed")
    run.write()
    assert not list(tmp_path.iterdir())
