"""Checks of the user's own that cannot be run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.cli import main
from tests.standin import trial

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def test_x(:\n", "SyntaxError"),
        ("x = 1\n", "it holds no check"),
    ],
)
def test_what_cannot_be_read_is_said_in_two_lines(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    options = ("--url", "http://127.0.0.1:1", "--checks", tmp_path / "mine.py", "--report", tmp_path / "report")
    status, printed = trial.run_alone(*options)
    assert status == 4, printed
    lines = [line for line in printed.splitlines() if "--checks" in line or line.startswith("try: ")]
    assert len(lines) == 2, printed
    assert said in lines[0]
    assert "Traceback" not in printed
    assert not (tmp_path / "report/report.json").exists()


def test_what_is_not_there_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["smoke", "x", "--checks", str(tmp_path / "nowhere")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
