"""From words to an exit code: what a terminal shows, and what only the log holds."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.errors
import pytest
import requests

from build import errors
from build.cli import main
from build.config.folders import REPOSITORY
from build.engine import client, embedded
from tests.unit.work import Work

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from build.context import Context

    Verb = Callable[[Context, argparse.Namespace], Any]


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """What a run changes in its process, put back."""
    handler = signal.getsignal(signal.SIGTERM)
    ours = logging.getLogger("build")
    before = (ours.level, list(ours.handlers))
    yield
    signal.signal(signal.SIGTERM, handler)
    for added in [one for one in ours.handlers if one not in before[1]]:
        ours.removeHandler(added)
        added.close()
    ours.setLevel(before[0])


@pytest.fixture
def logs(isolated: Path) -> Path:
    return isolated / "state/logs"


def run(monkeypatch: pytest.MonkeyPatch, verb: Verb, *words: str) -> int:
    """Run `status`, which does something else."""
    monkeypatch.setattr("build.cli.status.run", verb)
    return main.main(["status", *words])


def raising(error: BaseException) -> Verb:
    def verb(_context: Context, _arguments: argparse.Namespace) -> None:
        raise error

    return verb


def log_of(logs: Path) -> str:
    (file,) = logs.iterdir()
    return file.read_text()


# --- Errors ------------------------------------------------------------------------------------------------


def _categories() -> list[type[errors.LlmdDevError]]:
    return [errors.LlmdDevError, *errors.LlmdDevError.__subclasses__()]


@pytest.mark.parametrize("category", _categories())
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_an_error_is_two_lines_and_its_exit_code(
    category: type[errors.LlmdDevError],
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logs: Path,
) -> None:
    error = category("it\nbroke: [red]x[/] " + "long " * 50, hint="do\nthis")
    assert run(monkeypatch, raising(error), *words) == category.exit_code
    shown = capsys.readouterr()
    document = json.loads(shown.out)["error"] if words else None
    what, advice = shown.err.splitlines()
    assert what.startswith(f"error[{category.word}]: it broke: [red]x[/] long long")
    assert advice.startswith("try: do this")
    assert "Traceback" in log_of(logs)
    if document:
        (file,) = logs.iterdir()
        assert document == {
            "word": category.word,
            "what": "it broke: [red]x[/] " + "long " * 49 + "long",
            "hint": "do this",
            "exit_code": category.exit_code,
            "log": str(file),
        }
    else:
        assert shown.out == ""


def test_the_exit_codes_are_those_that_are_promised() -> None:
    assert {(one.word, one.exit_code) for one in _categories()} == {
        ("internal", 1),
        ("usage", 2),
        ("source", 3),
        ("incompatible", 4),
        ("build", 5),
        ("smoke", 6),
        ("gate", 7),
        ("registry", 7),
        ("engine", 8),
        ("disk", 8),
        ("busy", 9),
    }
    assert errors.EXIT_INTERRUPTED == 130


def test_a_defect_is_two_lines_that_name_the_log_and_never_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], logs: Path
) -> None:
    assert run(monkeypatch, raising(KeyError("nobody thought of this"))) == 1
    what, advice = capsys.readouterr().err.splitlines()
    assert what == "error[internal]: KeyError: 'nobody thought of this'"
    (file,) = logs.iterdir()
    assert str(file) in advice
    assert "Traceback" in file.read_text()


def test_a_failed_build_names_the_log_that_has_its_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], logs: Path
) -> None:
    assert run(monkeypatch, raising(errors.BuildError("x", hint="read the log", see_log=True))) == 5
    (file,) = logs.iterdir()
    assert capsys.readouterr().err.splitlines()[1] == f"try: read the log ({file})"


@pytest.mark.parametrize(
    "error", [docker.errors.APIError("500"), requests.ConnectionError("aborted"), requests.ReadTimeout("late")]
)
def test_an_engine_that_fails_meanwhile_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert run(monkeypatch, raising(error)) == 8
    assert capsys.readouterr().err.startswith("error[engine]: the engine failed: ")


def test_a_full_disk_is_told_as_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, raising(OSError(errno.ENOSPC, "No space left on device", "scratch"))) == 8
    assert capsys.readouterr().err.startswith("error[disk]: no space left on this machine: scratch")


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_an_interrupt_is_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(monkeypatch, raising(KeyboardInterrupt()), *words) == 130
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert (json.loads(shown.out)["error"]["exit_code"] == 130) if words else shown.out == ""


def test_sigterm_ends_a_run_like_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = []

    def verb(_context: Context, _arguments: argparse.Namespace) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            cleaned.append(True)

    assert run(monkeypatch, verb) == 130
    assert cleaned == [True]


def test_a_setting_that_is_off_is_two_lines_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLM_D_DEV_START_TIMEOUT", "soon")
    assert main.main(["status"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error[usage]: setting 'start_timeout': ")


def test_a_state_folder_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status", "--state", "/proc/nobody"]) == 2
    what, advice = capsys.readouterr().err.splitlines()
    assert "/proc/nobody" in what
    assert "--state" in advice


# --- Results -----------------------------------------------------------------------------------------------


def test_json_is_all_that_standard_output_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(context: Context, _arguments: argparse.Namespace) -> dict[str, Any]:
        with context.console.step("work"):
            context.console.result("for a person")
        return {"path": Path("/x"), "text": "grün"}

    assert run(monkeypatch, verb, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"path": "/x", "text": "grün"}
    assert shown.err == ""


def test_without_it_a_person_is_spoken_to(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def verb(context: Context, _arguments: argparse.Namespace) -> dict[str, Any]:
        context.console.result("for a person")
        return {}

    assert run(monkeypatch, verb) == 0
    assert capsys.readouterr().out == "for a person\n"


def test_the_log_names_the_verb_and_holds_the_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], logs: Path
) -> None:
    def verb(context: Context, _arguments: argparse.Namespace) -> dict[str, Any]:
        with context.console.step("mix"):
            context.console.note("flour")
        return {}

    assert run(monkeypatch, verb) == 0
    (file,) = logs.iterdir()
    assert "-status-" in file.name
    assert "step mix" in file.read_text()
    assert "flour" in file.read_text()
    assert "step mix" not in capsys.readouterr().err


def test_the_state_of_the_embedded_engine_is_shown_without_starting_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], isolated: Path
) -> None:
    monkeypatch.setattr(embedded, "in_use", lambda _: None)
    assert main.main(["engine", "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["engine"]["running"] is False
    assert document["registry"]["running"] is False
    assert document["engine"]["data"] == str(isolated / "state/engine/data")


# --- Verbs that end early ----------------------------------------------------------------------------------


def test_a_machine_without_an_engine_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "find", lambda **_: None)
    assert main.main(["status"]) == 8
    what, advice = capsys.readouterr().err.splitlines()
    assert what == "error[engine]: no Docker Engine answers"
    assert "engine up" in advice


@pytest.mark.parametrize(
    ("path", "ref", "what"),
    [
        ("gone", "HEAD", "there is no "),
        ("folder", "HEAD", "is not a git repository"),
        ("vllm", "no-such-ref", "'no-such-ref' names no commit"),
    ],
)
def test_dev_on_what_is_no_commit_ends_before_the_engine_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, ref: str, what: str
) -> None:
    (tmp_path / "folder").mkdir()
    Work.new(tmp_path / "vllm").commit()
    assert main.main(["dev", str(tmp_path / path), ref]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert what in lines[0]


def test_dev_without_words_takes_the_variables(
    work: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work.commit()
    monkeypatch.setenv("VLLM_LOCAL_GIT_DIR", str(work.path / ".git"))
    monkeypatch.setenv("VLLM_LOCAL_REF", "no-such-ref")
    assert main.main(["dev"]) == 3
    assert f"'no-such-ref' names no commit in {work.path}" in capsys.readouterr().err


def test_dev_without_variables_takes_vllm_in_the_home_folder(
    isolated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["dev"]) == 3
    assert f"there is no {isolated}/vllm (the default)" in capsys.readouterr().err


def test_the_program_itself(isolated: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "build", "engine", "status"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "running: False" in ran.stdout
    assert ran.stderr == ""
    assert list((isolated / "state/logs").iterdir())


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_reader_that_has_seen_enough_is_no_defect(words: tuple[str, ...]) -> None:
    argv = [sys.executable, "-m", "build", "engine", "status", *words]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("variable", ["VLLM_LOCAL_GIT_DIR", "VLLM_LOCAL_REF"])
def test_help_shows_defaults_as_they_are(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "/a%b/100%done")
    with pytest.raises(SystemExit):
        main.main(["dev", "--help"])
    assert "100%done" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("dev", ""), ("plan", ".", "--base-commit", ""), ("dev", "--base", "")])
def test_an_empty_word_is_no_default(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_user_without_a_home_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def nobody(*_: object) -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert main.main(["dev", "--state", str(tmp_path / "s"), "--cache", str(tmp_path / "c")]) == 3
    assert capsys.readouterr().err.startswith("error[source]: there is no ")
