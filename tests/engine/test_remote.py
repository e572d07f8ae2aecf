"""What `build` makes of a commit that is elsewhere."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import git
import pytest

from tests.engine.conftest import LOCAL, assert_refused, commit_all, inside

if TYPE_CHECKING:
    from build.engine.client import Engine
    from tests.engine.conftest import Cli

pytestmark = pytest.mark.usefixtures("base")


@pytest.fixture
def commit(clone: git.Repo) -> str:
    """A commit of a repository that can be fetched from as GitHub's can."""
    for name in ("allowFilter", "allowAnySHA1InWant"):
        clone.git.config(f"uploadpack.{name}", "true")
    Path(clone.working_dir, "vllm/added.py").write_text("new = 1\n", encoding="utf-8")
    return commit_all(clone, "Add a module")


def test_a_commit_of_another_repository(cli: Cli, clone: git.Repo, commit: str, engine: Engine) -> None:
    words = ("build", commit[:10], "--remote", f"file://{clone.working_dir}", "--no-smoke", "--json")
    ran = cli(*words)
    assert ran.returncode == 0, ran.stderr
    made = engine.image(f"{LOCAL}:{commit}-cpu")
    assert (ran.json["id"], ran.json["commit"], ran.json["written"]) == (made.id, commit, 1)
    with inside(engine, made) as shell:
        assert shell.git("status", "--porcelain") == ""
        assert shell.run("cat", "/opt/vllm-source/vllm/added.py") == "new = 1\n"
    assert cli(*words).json["built"] is False


def test_a_commit_that_is_nowhere(cli: Cli, clone: git.Repo) -> None:
    ran = cli("build", "no-such-branch", "--remote", f"file://{clone.working_dir}", "--no-smoke", "--json")
    assert_refused(ran, 3, "source", "no-such-branch")


def test_a_release_of_the_package_index(cli: Cli, clone: git.Repo, commit: str) -> None:
    with contextlib.closing(git.Repo.clone_from(clone.working_dir, cli.folders.releases, bare=True)) as releases:
        releases.create_tag("v0.33.0")
    ran = cli("build", "v0.33.0", "--remote", "pypi", "--no-smoke", "--json")
    assert ran.returncode == 0, ran.stderr
    assert (ran.json["image"], ran.json["written"]) == (f"{LOCAL}:{commit}-cpu", 1)


def test_what_is_no_release(cli: Cli) -> None:
    assert_refused(
        cli("build", "main", "--remote", "pypi", "--no-smoke", "--json"), 3, "source", "'main' is not a release"
    )
