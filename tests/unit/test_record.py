"""What is kept of each nightly, and what of it is shown."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from build.console import Console
from build.errors import BuildError
from build.host import identity
from build.nightly import record
from build.nightly.record import Record

if TYPE_CHECKING:
    from pathlib import Path

QUIET = Console(quiet=True)


def night(folder: Path, number: int, *, error: BaseException | None = None) -> Record:
    """One run on another day; records are named by their second."""
    with (
        contextlib.suppress(Exception, KeyboardInterrupt),
        record.kept(folder, flavor="cpu", console=QUIET) as recorder,
    ):
        recorder.update(commit=f"{number:040}")
        if error:
            raise error
    (path,) = [path for path in folder.glob("*.json") if not path.name.startswith("night")]
    path.rename(folder / f"night-{number:03}.json")
    return record.recall(folder)[0]


def test_a_good_run_says_what_it_made_and_how_long_its_steps_took(tmp_path: Path) -> None:
    console = Console(quiet=True)
    with console.step("before"):
        pass
    with record.kept(tmp_path, flavor="cpu", console=console) as recorder, console.step("base"):
        recorder.update(commit="c" * 40, bytes=3)
        with console.step("inner"):
            pass
    (kept,) = record.recall(tmp_path)
    assert (kept.verdict, kept.commit, kept.bytes, kept.error) == ("pass", "c" * 40, 3, None)
    assert [(step["name"], step["within"]) for step in kept.steps] == [("base", []), ("inner", ["base"])]
    assert kept.seconds is not None
    assert kept.seconds >= 0
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["verdict"] == "pass"


def test_a_failure_keeps_its_words_without_credentials_and_what_was_known(tmp_path: Path) -> None:
    kept = night(tmp_path, 1, error=BuildError("https://me:secret@index.example/ said no", hint="do"))
    assert (kept.verdict, kept.commit) == ("fail", f"{1:040}")
    assert kept.error == {"category": "build", "what": "https://[redacted]@index.example/ said no", "hint": "do"}


@pytest.mark.parametrize(
    ("error", "verdict", "category"),
    [(KeyboardInterrupt(), "interrupted", None), (KeyError("x"), "fail", "internal")],
)
def test_every_end_has_a_word(tmp_path: Path, error: BaseException, verdict: str, category: str | None) -> None:
    kept = night(tmp_path, 1, error=error)
    assert (kept.verdict, (kept.error or {}).get("category")) == (verdict, category)


def test_a_run_that_goes_on_and_one_that_was_killed_are_told_apart(tmp_path: Path) -> None:
    with record.kept(tmp_path, flavor="cpu", console=QUIET):
        (running,) = record.recall(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as process:
        who = identity.identity(process.pid)
        process.kill()
    record.Recorder(tmp_path / "z.json", Record(started=record.now(), owner=who, flavor="cpu"))
    assert (running.verdict, running.seconds) == ("running", None)
    assert record.recall(tmp_path)[0].verdict == "killed"


def test_the_last_ones_come_first_and_broken_files_are_passed_over(tmp_path: Path) -> None:
    for number in range(4):
        night(tmp_path, number)
    (tmp_path / "zzz.json").write_text("{")
    assert [int(one.commit or "") for one in record.recall(tmp_path, last=2)] == [3, 2]
    assert len(record.recall(tmp_path)) == 4
    assert record.recall(tmp_path, last=0) == []


def test_a_person_gets_one_line_a_night(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night(tmp_path, 1, error=BuildError("step 3: [red]no[/]", hint="do"))
    Console(quiet=False).result(record.table(record.recall(tmp_path)))
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["nightly", "verdict", "flavor", "commit", "took", "base", "freed", "error"]
    assert line.split()[2:4] == ["fail", "cpu"]
    assert line.rstrip().endswith("build: step 3: [red]no[/]")


def test_a_record_that_cannot_be_written_changes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(BuildError, match="the real one"),
        record.kept(tmp_path / "file", flavor="cpu", console=QUIET) as recorder,
    ):
        raise BuildError("the real one", hint="x")
    assert recorder.record.verdict == "fail"
