"""What a user sees while a verb runs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys

import pytest

from build.config.folders import REPOSITORY
from build.console import Console


@pytest.fixture
def console() -> Console:
    return Console(quiet=False)


def test_steps_go_to_standard_error_and_results_to_standard_output(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.step("bake"):
        console.note("flour")
    console.warn("hot")
    console.result("cake")
    shown = capsys.readouterr()
    assert shown.out == "cake\n"
    assert shown.err == "… bake\n  flour\n✓ bake 0.0 s\nwarning: hot\n"


def test_a_step_that_fails_is_marked_and_its_error_goes_on(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt), console.step("outer"), console.step("inner"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "… outer\n  … inner\n  ✗ inner 0.0 s\n✗ outer 0.0 s\n"
    with console.step("next"):
        pass
    assert capsys.readouterr().err.startswith("… next")


def test_durations_are_kept_in_the_order_of_the_steps(console: Console) -> None:
    with console.step("outer"), console.step("inner"):
        pass
    with console.step("last"):
        pass
    assert [(done.within, done.name) for done in console.durations] == [
        ((), "outer"),
        (("outer",), "inner"),
        ((), "last"),
    ]
    outer, inner, _ = console.durations
    assert outer.seconds >= inner.seconds >= 0


def test_progress_off_the_terminal_is_a_heartbeat(
    console: Console, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with console.step("bake") as progress:
        for now in range(0, 40, 4):
            progress(f"minute {now}")
    assert capsys.readouterr().err == "… bake\n  minute 16\n  minute 32\n✓ bake 36.0 s\n"


def test_quiet_prints_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    with console.step("bake"):
        console.note("flour")
        console.warn("hot")
    console.result("cake")
    console.fail("smoke", "it burns", "take it out")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error[smoke]: it burns\ntry: take it out\n"


_STEPS = """
from rich.table import Table
from build.console import Console
console = Console(quiet=False)
with console.step("bake") as progress:
    progress("flour")
console.note("done")
table = Table("image")
table.add_row("n" * 300)
console.result(table)
"""


@pytest.mark.parametrize(
    "variables", [{"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"TERM": "xterm-256color", "COLUMNS": "20"}]
)
def test_a_pipe_gets_lines_and_no_moves_of_a_cursor(variables: dict[str, str]) -> None:
    argv = [sys.executable, "-c", _STEPS]
    ran = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True, env=os.environ | variables)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout + ran.stderr)
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "… bake" in shown
    assert "n" * 300 in shown


def test_no_text_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=False)
    for say in (console.note, console.warn, console.result):
        say("\x1b]52;c;eA==\x07\u202e\x1b[2J")
    shown = "".join(capsys.readouterr())
    assert shown.count(r"\x1b]52;c;eA==") == 3
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_a_narrow_terminal_cuts_no_names() -> None:
    ours, theirs = os.openpty()
    argv = [sys.executable, "-c", _STEPS]
    with subprocess.Popen(
        argv, cwd=REPOSITORY, stdout=theirs, stderr=theirs, env=os.environ | {"COLUMNS": "30"}
    ) as ran:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 4096):
                shown += chunk
    os.close(ours)
    assert ran.returncode == 0
    assert b"n" * 300 in shown


def test_messages_call_the_program_as_it_was_started(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=False, program="llm-d-dev")
    console.note("`python -m build nightly` makes one; python -m builds")
    console.fail("x", "y", "`python -m build status`")
    assert capsys.readouterr().err.splitlines() == [
        "`llm-d-dev nightly` makes one; python -m builds",
        "error[x]: y",
        "try: `llm-d-dev status`",
    ]


@pytest.mark.parametrize("text", ["ray[cgraph]>=2.48", "a:key:b", "[red]no[/]", "/x/[/]", "x" * 500])
def test_text_is_shown_as_it_stands_and_on_one_line(
    console: Console, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    console.result(text)
    console.note(text)
    console.fail("x", text, text)
    shown = capsys.readouterr()
    assert shown.out == f"{text}\n"
    assert shown.err == f"{text}\nerror[x]: {text}\ntry: {text}\n"
