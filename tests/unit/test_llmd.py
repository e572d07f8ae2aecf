"""Which tree of llm-d a CUDA base is built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.console import Console
from build.errors import SourceError
from build.llmd import tree as llmd
from build.llmd.tree import DOCKERFILE, Tree
from tests.unit.work import Work

if TYPE_CHECKING:
    from pathlib import Path

QUIET = Console(quiet=True)


@pytest.fixture
def upstream(tmp_path: Path) -> Work:
    """llm-d as it is elsewhere: a commit, and a branch with another one."""
    work = Work.new(tmp_path / "upstream")
    work.write(DOCKERFILE, "FROM first\n")
    work.commit("First")
    work.git("checkout", "--quiet", "-b", "next")
    work.write(DOCKERFILE, "FROM second\n")
    work.write("docker/run.sh", "#!/bin/sh\n", mode=0o755)
    work.commit("Second")
    work.git("checkout", "--quiet", "main")
    work.git("config", "uploadpack.allowFilter", "true")
    work.git("config", "uploadpack.allowAnySHA1InWant", "true")
    return work


@pytest.fixture
def home(upstream: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A repository with llm-d as a submodule that nobody has initialised."""
    work = Work.new(tmp_path / "home repository")
    work.git("submodule", "--quiet", "add", upstream.path, "llm-d")
    work.commit("With llm-d")
    work.git("submodule", "--quiet", "deinit", "--force", "llm-d")
    # Local submodules are not allowed to git unless it is told (CVE-2022-39253).
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.file.allow")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "always")
    return work


def opened(
    tmp_path: Path, path: Path | None = None, ref: str | None = None, home: Work | None = None
) -> tuple[Tree, str]:
    """The tree and its Dockerfile, read while it is open."""
    where = {"home": home.path} if home else {}
    with llmd.open_tree(path, ref, cache=tmp_path / "cache", console=QUIET, **where) as tree:
        return tree, (tree.path / DOCKERFILE).read_text()


def test_an_absent_submodule_is_initialised(home: Work, upstream: Work, tmp_path: Path) -> None:
    assert not (home.path / "llm-d" / DOCKERFILE).exists()
    tree, text = opened(tmp_path, home=home)
    assert (tree.path, text) == (home.path / "llm-d", "FROM first\n")
    assert (tree.commit, tree.dirty) == (upstream.git("rev-parse", "main"), False)


def test_a_submodule_that_cannot_be_fetched_is_a_clear_error(home: Work, upstream: Work, tmp_path: Path) -> None:
    upstream.path.rename(tmp_path / "away")
    home.git("config", "--file", ".gitmodules", "submodule.llm-d.url", str(tmp_path / "nowhere"))
    (home.path / ".git/modules/llm-d").rename(tmp_path / "modules")
    with pytest.raises(
        SourceError, match=r"the submodule llm-d is missing, and fetching it failed: fatal: .*nowhere"
    ) as caught:
        opened(tmp_path, home=home)
    assert "--llm-d PATH" in caught.value.hint


def test_another_tree_is_taken_as_it_lies(upstream: Work, tmp_path: Path) -> None:
    upstream.write("docker/new.sh")
    tree, _ = opened(tmp_path, path=upstream.path)
    assert (tree.path, tree.revision) == (upstream.path, f"{upstream.git('rev-parse', 'HEAD')}-dirty")


def test_a_folder_within_another_repository_has_no_commit_of_llm_ds(work: Work, tmp_path: Path) -> None:
    work.write(f"inner/{DOCKERFILE}", "FROM x\n")
    work.commit()
    assert opened(tmp_path, path=work.path / "inner")[0].revision == "unknown"


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_folder_without_the_dockerfile_is_no_tree(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=rf"{name} is not an llm-d tree: it has no docker/Dockerfile\.cuda"):
        opened(tmp_path, path=tmp_path / name)


def test_another_commit_of_the_tree_is_taken_beside_it(upstream: Work, tmp_path: Path) -> None:
    tree, text = opened(tmp_path, path=upstream.path, ref="next")
    assert text == "FROM second\n"
    assert tree.commit == upstream.git("rev-parse", "next")
    assert (upstream.path / DOCKERFILE).read_text() == "FROM first\n"
    assert not tree.path.exists()


def test_a_commit_that_the_tree_lacks_is_fetched_from_where_it_came(upstream: Work, home: Work, tmp_path: Path) -> None:
    opened(tmp_path, home=home)
    upstream.git("checkout", "--quiet", "-b", "newer")
    upstream.write(DOCKERFILE, "FROM third\n")
    newer = upstream.commit("Third")
    tree, text = opened(tmp_path, home=home, ref="newer")
    assert (tree.commit, text) == (newer, "FROM third\n")


def test_a_commit_with_a_link_that_leads_outside_is_refused(upstream: Work, tmp_path: Path) -> None:
    (upstream.path / "docker/common-versions").symlink_to("/etc/passwd")
    upstream.commit("Link")
    with pytest.raises(SourceError, match=r"cannot be unpacked: .*common-versions"):
        opened(tmp_path, path=upstream.path, ref="HEAD")


def test_an_unknown_commit_says_where_it_looked(upstream: Work, home: Work, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"llm-d \({upstream.path}\) has no branch.*'no-such-branch'"):
        opened(tmp_path, home=home, ref="no-such-branch")


def test_the_digest_is_of_everything_but_git(upstream: Work) -> None:
    tree = Tree(path=upstream.path, commit=None)
    before = tree.digest()
    upstream.git("commit", "--quiet", "--allow-empty", "-m", "x")
    assert tree.digest() == before
    script = upstream.write("docker/run.sh", "x")
    with_script = tree.digest()
    script.chmod(0o755)
    assert len({before, with_script, tree.digest()}) == 3
