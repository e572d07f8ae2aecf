"""Which repository is meant where none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.cli import main
from build.source.local_source import LocalSource

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.work import Work


@pytest.mark.parametrize("folder", [".", "vllm", "csrc/cpu", ".git/hooks"])
def test_the_repository_that_one_stands_in(
    vllm: Work, folder: str, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (vllm.path / folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(vllm.path / folder)
    assert LocalSource.default({"VLLM_LOCAL_GIT_DIR": str(isolated)}).path == vllm.path


def test_a_worktree_that_one_stands_in(vllm: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    linked = vllm.path.with_name("linked")
    vllm.git("worktree", "add", "--quiet", linked)
    monkeypatch.chdir(linked / "vllm")
    assert LocalSource.default({}).path == linked


def test_not_one_that_is_something_else(vllm: Work, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = vllm.path / "other"
    other.mkdir()
    vllm.git("init", "--quiet", other)
    monkeypatch.chdir(other)
    assert LocalSource.default({}).path == isolated / "vllm"
    named = str(vllm.path / ".git")
    assert LocalSource.default({"VLLM_LOCAL_GIT_DIR": named}).path == vllm.path / ".git"


@pytest.mark.parametrize(
    ("named", "meant"), [("~/a", "home/a"), ("b/.git", "here/b/.git"), ("../c", "here/../c"), ("", "home/vllm")]
)
def test_the_variable_is_read_as_a_shell_reads_it(
    named: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    assert LocalSource.default({"VLLM_LOCAL_GIT_DIR": named}).path == tmp_path / meant


def test_a_folder_that_is_gone(tmp_path: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert LocalSource.default({}).path == isolated / "vllm"


@pytest.mark.parametrize("named", ["/no/such/folder", "relative/none", "~/none", "~unknown-user/x"])
def test_a_variable_that_names_nothing_is_named(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLLM_LOCAL_GIT_DIR", named)
    assert main.main(["dev"]) == 3
    what, advice = capsys.readouterr().err.splitlines()
    assert what.startswith("error[source]: there is no ")
    assert "VLLM_LOCAL_GIT_DIR" in what
    assert advice.startswith("try: ")


def test_the_git_file_of_a_worktree(
    vllm: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    linked = vllm.path.with_name("linked")
    vllm.git("worktree", "add", "--quiet", "-b", "topic", linked)
    monkeypatch.chdir(linked.parent)
    monkeypatch.setenv("VLLM_LOCAL_GIT_DIR", "linked/.git")
    assert main.main(["plan", "--base-commit", "topic", "--flavor", "cpu", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_help_says_what_would_be_taken(
    vllm: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(vllm.path)
    with pytest.raises(SystemExit):
        main.main(["dev", "--help"])
    shown = capsys.readouterr().out
    assert f"else VLLM_LOCAL_GIT_DIR, else ~/vllm; now: {vllm.path})" in shown


def test_a_default_is_said(vllm: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(vllm.path)
    assert main.main(["plan", "--base-commit", "HEAD", "--flavor", "cpu"]) == 0
    assert f"{vllm.path} (the repository around the current folder)" in capsys.readouterr().err
