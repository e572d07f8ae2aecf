"""The small repository that quickstart works on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from build.cli import sample
from build.config.folders import Folders
from build.console import Console
from build.errors import SourceError
from build.source.repository import Repository
from tests.unit.work import Work
from tests.unit.work import git as run_git

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from build.source.repository import Commit

FILE = "vllm/entrypoints/serve/engine/protocol.py"
LINE = '    owned_by: str = "vllm"\n'


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with a release in it, as importing leaves it."""
    folder = tmp_path_factory.mktemp("template")
    work = Work.new(folder / "work")
    work.write(FILE, f"class ModelCard:\n{LINE}")
    dates = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
    work.git("add", "--all")
    work.git("commit", "--quiet", "-m", "vLLM 0.32.0", env=dates)
    run_git(folder, "init", "--quiet", "--bare", "--initial-branch=releases", "releases.git")
    work.git("push", "--quiet", folder / "releases.git", "main:refs/tags/v0.32.0")
    return folder / "releases.git"


@pytest.fixture
def context(template: Path, tmp_path: Path) -> Context:
    run_git(tmp_path, "clone", "--quiet", "--mirror", template, tmp_path / "cache/releases.git")
    folders = Folders(state=tmp_path / "state", cache=tmp_path / "cache")
    return cast("Context", SimpleNamespace(folders=folders, console=Console(quiet=True)))


def release(context: Context) -> Commit:
    return Repository(context.folders.releases).commit("v0.32.0")


def test_it_has_one_commit_that_shows_through_the_api(context: Context) -> None:
    made = sample.ensure(context, release(context))
    assert run_git(made.path, "rev-parse", f"{made.ref}^").decode().strip() == release(context).id
    assert run_git(made.path, "diff", "--name-only", "HEAD~1").decode().split() == [FILE]
    route, _, text = sample.EXPECTATION.partition("=")
    assert route == "/v1/models"
    assert f'"{text}"' in (made.path / FILE).read_text()
    assert run_git(made.path, "status", "--porcelain") == b""


def test_the_commit_is_the_same_whoever_makes_it(context: Context, isolated: Path) -> None:
    hooks = isolated / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "prepare-commit-msg", "commit-msg"):
        (hooks / name).write_text('#!/bin/sh\n[ -z "$1" ] || echo "Change-Id: 1" >> "$1"\n')
        (hooks / name).chmod(0o755)
    (isolated / ".gitconfig").write_text(
        f"[user]\n\tname = me\n\temail = me@x\n[commit]\n\tgpgSign = true\n[core]\n\thooksPath = {hooks}\n"
    )
    made = sample.ensure(context, release(context))
    # Recorded: another id would mean another image, and another smoke test, for everybody.
    assert run_git(made.path, "rev-parse", made.ref).decode().strip() == "85ff647c9064764f7fe7ff2e5f1e31e02d9f2737"


def test_work_that_was_added_stays(context: Context) -> None:
    made = sample.ensure(context, release(context))
    (made.path / "mine.py").touch()
    run_git(made.path, "add", "--all")
    run_git(made.path, "commit", "--quiet", "-m", "Mine")
    before = run_git(made.path, "rev-parse", "HEAD")
    again = sample.ensure(context, release(context))
    assert again == made
    assert run_git(made.path, "rev-parse", "HEAD") == before


def test_another_release_has_a_repository_of_its_own(context: Context, tmp_path: Path) -> None:
    before = sample.ensure(context, release(context))
    other = Work.new(tmp_path / "other")
    other.write(FILE, f"class ModelCard:\n{LINE}    newer = True\n")
    commit = other.commit("vLLM 0.33.0")
    other.git("push", "--quiet", context.folders.releases, "main:refs/tags/v0.33.0")
    newer = Repository(context.folders.releases).commit(commit)
    made = sample.ensure(context, newer)
    assert run_git(made.path, "rev-parse", f"{made.ref}^").decode().strip() == newer.id
    assert sample.ensure(context, newer) == made
    assert sample.ensure(context, release(context)) == before


def test_what_a_killed_run_left_half_made_is_made_anew(context: Context) -> None:
    path = context.folders.state / "sample/vllm"
    (path / "vllm").mkdir(parents=True)
    run_git(path, "init", "--quiet")
    made = sample.ensure(context, release(context))
    assert made.path == path
    assert (path / FILE).exists()


def test_work_in_one_that_was_damaged_is_not_deleted(context: Context) -> None:
    made = sample.ensure(context, release(context))
    (made.path / "mine.py").write_text("my work")
    (made.path / ".git/HEAD").write_bytes(b"\xff")
    again = sample.ensure(context, release(context))
    assert again == made
    assert not (again.path / "mine.py").exists()
    assert [path.read_text() for path in made.path.parent.glob("vllm.before-*/mine.py")] == ["my work"]


def test_a_release_without_that_line_is_named(context: Context, tmp_path: Path) -> None:
    other = Work.new(tmp_path / "other")
    commit = other.commit("vLLM 9.9.9", other="")
    other.git("push", "--quiet", context.folders.releases, "main:refs/tags/v9.9.9")
    with pytest.raises(SourceError, match="owned_by") as caught:
        sample.ensure(context, Repository(context.folders.releases).commit(commit))
    assert "vllm_version" in caught.value.hint


def test_a_folder_that_git_cannot_write_to_is_named(context: Context) -> None:
    commit = release(context)
    (context.folders.state / "sample").mkdir(parents=True)
    (context.folders.releases / "HEAD").unlink()
    with pytest.raises(SourceError, match="could not be made"):
        sample.ensure(context, commit)
