"""Uncommitted work becomes a commit, and the repository stays byte for byte as it was."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import git
import pytest

from build.errors import SourceError
from build.git import Repository
from build.worktree import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator


def digest(folder: Path) -> dict[str, str]:
    """Every file below a folder and what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def commit(repository: git.Repo, message: str = "x") -> str:
    repository.git.add("--all")
    repository.git.execute(
        ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", message, "--allow-empty"]
    )
    return repository.head.commit.hexsha


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[git.Repo]:
    with contextlib.closing(git.Repo.init(tmp_path / "vllm", initial_branch="main")) as repository:
        folder = Path(repository.working_dir)
        (folder / "kept.py").write_text("kept\n")
        (folder / "edited.py").write_text("old\n")
        (folder / "gone.py").write_text("gone\n")
        (folder / "tool.sh").write_text("#!/bin/sh\n")
        (folder / ".gitignore").write_text("*.so\n")
        commit(repository)
        yield repository


def make_dirty(folder: Path) -> None:
    (folder / "edited.py").write_text("new\n")
    (folder / "gone.py").unlink()
    (folder / "tool.sh").chmod(0o755)
    (folder / "new.py").write_text("new file\n")
    (folder / "ignored.so").write_text("ignored\n")
    (folder / "name with\nline end.py").write_text("odd\n")


def test_the_snapshot_is_the_working_tree(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    make_dirty(folder)
    clone.git.add("edited.py")
    (folder / "edited.py").write_text("newer than what is staged\n")
    with contextlib.closing(Repository(folder)) as repository, snapshot(repository) as work:
        tree = work.source.listing(work.commit)
        assert set(tree.files) == {
            ".gitignore",
            "kept.py",
            "edited.py",
            "tool.sh",
            "new.py",
            "name with\nline end.py",
        }
        assert tree.files["tool.sh"].mode == "100755"
        with work.source.blob(tree.files["edited.py"].oid) as (_, content):
            assert content.read() == b"newer than what is staged\n"
        assert work.tag == f"{clone.head.commit.hexsha}-dirty-{tree.trees[''][:12]}"


def test_the_repository_is_not_written_to(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    make_dirty(folder)
    clone.git.add("edited.py")
    before = digest(folder)
    with contextlib.closing(Repository(folder)) as repository, snapshot(repository) as work:
        work.source.listing(work.commit)
    assert digest(folder) == before


def test_the_same_work_has_the_same_id(clone: git.Repo) -> None:
    make_dirty(Path(clone.working_dir))
    with contextlib.closing(Repository(Path(clone.working_dir))) as repository:
        with snapshot(repository) as first:
            pass
        with snapshot(repository) as second:
            pass
    assert (first.commit.id, first.tag) == (second.commit.id, second.tag)


def test_a_linked_worktree_has_its_own_work(clone: git.Repo, tmp_path: Path) -> None:
    clone.git.worktree("add", "-q", str(tmp_path / "linked"))
    (tmp_path / "linked" / "edited.py").write_text("in the worktree\n")
    with contextlib.closing(Repository(tmp_path / "linked")) as repository, snapshot(repository) as work:
        entry = work.source.listing(work.commit).files["edited.py"]
        with work.source.blob(entry.oid) as (_, content):
            assert content.read() == b"in the worktree\n"


def test_a_bare_repository_has_no_uncommitted_work(clone: git.Repo, tmp_path: Path) -> None:
    bare = git.Repo.clone_from(str(clone.working_dir), tmp_path / "bare", bare=True)
    with (
        contextlib.closing(Repository(Path(str(bare.git_dir)))) as repository,
        pytest.raises(SourceError, match="bare"),
        snapshot(repository),
    ):
        pass


def test_a_merge_with_conflicts_is_refused(clone: git.Repo) -> None:
    file = Path(clone.working_dir) / "edited.py"
    clone.git.checkout("-qb", "other")
    file.write_text("theirs\n")
    commit(clone)
    clone.git.checkout("-q", "main")
    file.write_text("ours\n")
    commit(clone)
    with pytest.raises(git.GitCommandError):
        clone.git.execute(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "merge", "other"])
    with (
        contextlib.closing(Repository(Path(clone.working_dir))) as repository,
        pytest.raises(SourceError, match=r"conflicts"),
        snapshot(repository),
    ):
        pass
