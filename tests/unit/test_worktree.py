"""Uncommitted work becomes a commit, and the repository stays byte for byte as it was."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import git
import pytest

from build.errors import SourceError
from build.source.listing import SUBMODULE, Apart
from build.source.repository import Repository
from build.source.worktree import snapshot
from tests.unit.work import contents

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
        (folder / "vllm").mkdir()
        (folder / "vllm/a.py").write_text("a\n")
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
    (folder / "vllm/new.py").write_text("new file\n")
    (folder / "vllm/ignored.so").write_text("ignored\n")
    (folder / "vllm/name with\nline end.py").write_text("odd\n")


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
            "vllm/a.py",
            "vllm/new.py",
            "vllm/name with\nline end.py",
        }
        assert tree.files["tool.sh"].mode == "100755"
        with work.source.blob(tree.files["edited.py"].oid) as (_, content):
            assert content.read() == b"newer than what is staged\n"
        assert str(work.name.of("cuda")) == f"local-{clone.head.commit.hexsha}-dirty-{tree.trees[''][:12]}"


def test_the_repository_is_not_written_to(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    make_dirty(folder)
    clone.git.add("edited.py")
    before = digest(folder)
    with contextlib.closing(Repository(folder)) as repository, snapshot(repository) as work:
        work.source.listing(work.commit)
    assert digest(folder) == before


@pytest.mark.parametrize("packed", [False, True])
def test_not_even_a_time_stamp_of_the_repository_changes(clone: git.Repo, *, packed: bool) -> None:
    folder = Path(clone.working_dir)
    # Staged, so that its content is an object already; and unchanged, with another time stamp.
    make_dirty(folder)
    (folder / "staged.py").write_text("staged\n")
    clone.git.add("staged.py", "edited.py")
    os.utime(folder / "kept.py", (10**9, 10**9))
    if packed:
        clone.git.gc("--quiet")
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and ".git" in path.parts:
            os.utime(path, (10**9, 10**9))
    before = contents(folder)
    with contextlib.closing(Repository(folder)) as repository, snapshot(repository) as work:
        assert "staged.py" in work.source.listing(work.commit).files
    assert contents(folder) == before


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_line_ends_become_what_git_makes_of_them(clone: git.Repo, ends: bytes) -> None:
    folder = Path(clone.working_dir)
    (folder / "lines.py").write_bytes(b"a" + ends)
    commit(clone)
    (folder / ".gitattributes").write_text("*.py text=auto\n")
    (folder / "lines.py").write_bytes(b"b\r\n")
    with contextlib.closing(Repository(folder)) as repository, snapshot(repository) as work:
        found = work.source.listing(work.commit).files["lines.py"].oid
    clone.git.add("lines.py")
    assert found == clone.git.execute(["git", "rev-parse", ":lines.py"])


def test_a_sparse_index_is_read(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    (folder / "vllm/deep").mkdir()
    (folder / "vllm/deep/b.py").write_text("b\n")
    (folder / "other").mkdir()
    (folder / "other/c.py").write_text("c\n")
    commit(clone)
    clone.git.execute(["git", "sparse-checkout", "set", "--cone", "--sparse-index", "vllm"])
    (folder / "vllm/a.py").write_text("edited\n")
    with contextlib.closing(Repository(folder)) as repository, snapshot(repository) as work:
        files = work.source.listing(work.commit).files
    assert {"vllm/a.py", "vllm/deep/b.py", "other/c.py"} <= files.keys()


def test_no_program_of_the_repositorys_writes_into_it(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    hook = folder / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ntouch "$(git rev-parse --git-dir)/hook-ran"\n')
    hook.chmod(0o755)
    # As git-lfs keeps what it reads.
    store = 'd=$(git config lfs.storage || echo .git/lfs); mkdir -p "$d"; touch "$d/kept"; cat'
    clone.git.config("filter.keeps.clean", store)
    (folder / ".gitattributes").write_text("*.bin filter=keeps\n")
    (folder / "a.bin").write_text("old")
    commit(clone)
    # Committing has run both.
    for left in ("hook-ran", "lfs/kept"):
        (folder / ".git" / left).unlink()
    before = digest(folder / ".git")
    (folder / "a.bin").write_text("new")
    with contextlib.closing(Repository(folder)) as repository:
        assert repository.is_dirty
        with snapshot(repository) as work:
            assert "a.bin" in work.source.listing(work.commit).files
    assert digest(folder / ".git") == before


def test_a_sparse_checkouts_work_outside_of_it_counts(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    (folder / "out").mkdir()
    (folder / "out/a.py").write_text("old\n")
    (folder / "out/b.py").write_text("kept\n")
    commit(clone)
    clone.git.sparse_checkout("set", "--no-cone", "/*", "!/out/")
    (folder / "out").mkdir(exist_ok=True)
    (folder / "out/a.py").write_text("new\n")
    (folder / "out/new.py").write_text("new\n")
    with contextlib.closing(Repository(folder)) as repository, snapshot(repository) as work:
        files = work.source.listing(work.commit).files
        assert {"out/a.py", "out/b.py", "out/new.py"} <= files.keys()
        with work.source.blob(files["out/a.py"].oid) as (_, content):
            assert content.read() == b"new\n"


@pytest.mark.parametrize("name", ["co:lon", 'quo"te', "back\\slash"])
def test_the_repository_may_be_anywhere(tmp_path: Path, name: str) -> None:
    with contextlib.closing(git.Repo.init(tmp_path / name)) as repository:
        (tmp_path / name / "a.py").write_text("a\n")
        commit(repository)
        (tmp_path / name / "a.py").write_text("b\n")
        with contextlib.closing(Repository(tmp_path / name)) as read, snapshot(read) as work:
            entry = work.source.listing(work.commit).files["a.py"]
            with work.source.blob(entry.oid) as (_, content):
                assert content.read() == b"b\n"


def test_a_work_tree_that_is_not_around_its_git_directory_is_the_one_that_is_read(tmp_path: Path) -> None:
    with contextlib.closing(git.Repo.init(tmp_path)) as outer:
        (tmp_path / "a.py").write_text("outer\n")
        commit(outer)
    inner_git = ["git", "init", "--quiet", f"--separate-git-dir={tmp_path / 'store'}", str(tmp_path / "inner")]
    subprocess.run(inner_git, check=True)
    with contextlib.closing(git.Repo(tmp_path / "inner")) as inner:
        (tmp_path / "inner/a.py").write_text("inner\n")
        commit(inner)
    (tmp_path / "inner/a.py").write_text("edited\n")
    with contextlib.closing(Repository(tmp_path / "inner")) as read, snapshot(read) as work:
        (path, entry), *_ = work.source.listing(work.commit).files.items()
        assert path == "a.py"
        with work.source.blob(entry.oid) as (_, content):
            assert content.read() == b"edited\n"
    with (
        contextlib.closing(Repository(tmp_path / "store")) as store,
        pytest.raises(SourceError, match="no uncommitted work"),
        snapshot(store),
    ):
        pass


def test_a_work_tree_that_only_the_git_directory_names_is_read(tmp_path: Path) -> None:
    with contextlib.closing(git.Repo.init(tmp_path / "vllm")) as repository:
        (tmp_path / "vllm/a.py").write_text("old\n")
        commit(repository)
    store = (tmp_path / "vllm/.git").rename(tmp_path / "store")
    subprocess.run(["git", f"--git-dir={store}", "config", "core.worktree", "../vllm"], check=True)
    (tmp_path / "vllm/a.py").write_text("edited\n")
    with contextlib.closing(Repository(store)) as read, snapshot(read) as work:
        entry = work.source.listing(work.commit).files["a.py"]
        with work.source.blob(entry.oid) as (_, content):
            assert content.read() == b"edited\n"


def test_a_commit_of_long_ago_can_be_worked_on(clone: git.Repo) -> None:
    (Path(clone.working_dir) / "edited.py").write_text("then\n")
    clone.git.add("--all")
    words = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "Then"]
    clone.git.execute(words, env={"GIT_COMMITTER_DATE": "@86400 +0000"})
    make_dirty(Path(clone.working_dir))
    with contextlib.closing(Repository(Path(clone.working_dir))) as repository, snapshot(repository) as work:
        assert work.commit.timestamp == 86400


@contextlib.contextmanager
def taken(folder: Path, *, carried: str = "", absent: str = "") -> Iterator[tuple[dict[str, bytes], Apart]]:
    """Contents of the working tree's commit, and what is not in it."""
    with (
        contextlib.closing(Repository(folder)) as repository,
        snapshot(repository, carried=frozenset(carried.split()), absent=absent.split()) as work,
    ):
        found = {}
        for path, entry in work.source.listing(work.commit).files.items():
            if entry.mode != SUBMODULE:
                with work.source.blob(entry.oid) as (_, content):
                    found[path] = content.read()
        yield found, work.apart


def test_new_folders_that_images_do_not_hold_are_counted_and_not_read(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    (folder / "checkpoints").mkdir()
    for number in range(3):
        # Sparse: it takes no disk, and hours to read.
        with (folder / f"checkpoints/{number}.pt").open("wb") as stream:
            stream.truncate(10**13)
    (folder / "notes.txt").write_text("x")
    with taken(folder) as (files, apart):
        assert not files.keys() & {"notes.txt", "checkpoints/0.pt"}
        assert apart.counted == {"checkpoints": 3, "notes.txt": 1}
    with taken(folder, carried="notes.txt") as (files, apart):
        assert files["notes.txt"] == b"x"
        assert apart.counted == {"checkpoints": 3}


def test_folders_of_the_commit_that_images_do_not_hold_are_counted_and_not_read(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    (folder / "tests").mkdir()
    (folder / "tests/a.py").write_text("old")
    commit(clone)
    (folder / "tests/a.py").write_text("edited")
    with (folder / "tests/data.bin").open("wb") as stream:
        stream.truncate(10**13)
    with taken(folder, absent="tests docs") as (files, apart):
        assert files["tests/a.py"] == b"old"
        assert apart.counted == {"tests": 2}


@pytest.mark.parametrize("name", ["vllm/model.pt", "vllm/a.py"])
def test_a_file_too_large_for_an_overlay_is_named_and_not_read(clone: git.Repo, name: str) -> None:
    folder = Path(clone.working_dir)
    with (folder / name).open("wb") as stream:
        stream.truncate(10**13)
    with taken(folder) as (files, apart):
        assert files.get(name) == (b"a\n" if name == "vllm/a.py" else None)
        assert apart.named == {name: "10000000 MB, over the limit of 67 MB"}


def test_a_repository_within_is_named(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    for name in ("vllm/my_ext", "vllm/empty", "beside"):
        with contextlib.closing(git.Repo.init(folder / name)) as nested:
            (folder / name / "x.py").write_text("x")
            if name != "vllm/empty":
                commit(nested)
    with taken(folder) as (files, apart):
        assert not any(path.endswith("x.py") for path in files)
        assert apart.named == dict.fromkeys(("vllm/my_ext", "vllm/empty", "beside"), "a repository of its own")


def test_a_submodule_that_is_checked_out_is_named(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    with contextlib.closing(git.Repo.init(folder / "vllm/inner")) as nested:
        (folder / "vllm/inner/x.py").write_text("x")
        commit(nested)
    commit(clone)
    (folder / "vllm/inner/x.py").write_text("edited")
    with taken(folder) as (files, apart):
        assert "vllm/inner/x.py" not in files
        assert apart.named == {"vllm/inner": "a submodule"}


@pytest.mark.parametrize("mark", ["skip-worktree", "assume-unchanged"])
def test_edits_of_files_that_git_was_told_not_to_look_at_are_named(clone: git.Repo, mark: str) -> None:
    folder = Path(clone.working_dir)
    names = ("kept.py", "edited.py", "gone.py", "vllm/a.py")
    clone.git.update_index(f"--{mark}", *names)
    (folder / "edited.py").write_text("mine\n")
    (folder / "vllm/a.py").write_text("b\n")
    (folder / "gone.py").unlink()
    with taken(folder) as (files, apart):
        assert files["edited.py"] == b"old\n"
        assert files["gone.py"] == b"gone\n"
        assert apart.named.keys() == {"edited.py", "gone.py", "vllm/a.py"}
        assert apart.named["edited.py"] == f"marked {mark}; `git update-index --no-{mark} edited.py` takes it"


def test_what_a_sparse_checkout_leaves_out_is_not_named(clone: git.Repo) -> None:
    clone.git.sparse_checkout("set", "--no-cone", "/*", "!/vllm/")
    folder = Path(clone.working_dir)
    assert not (folder / "vllm").exists()
    with taken(folder) as (files, apart):
        assert files["vllm/a.py"] == b"a\n"
        assert apart.named == {}


def test_a_pipe_is_named_and_not_waited_for(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    (folder / "edited.py").unlink()
    os.mkfifo(folder / "edited.py")
    with taken(folder) as (files, apart):
        assert files["edited.py"] == b"old\n"
        assert apart.named == {"edited.py": "neither a file nor a link"}


def test_files_and_folders_change_places(clone: git.Repo) -> None:
    folder = Path(clone.working_dir)
    (folder / "edited.py").unlink()
    (folder / "edited.py").mkdir()
    (folder / "edited.py/inner.py").write_text("in\n")
    shutil.rmtree(folder / "vllm")
    (folder / "vllm").write_text("a file\n")
    (folder / "gone.py").unlink()
    (folder / "gone.py").symlink_to("kept.py")
    with taken(folder) as (files, apart):
        assert files.keys() == {".gitignore", "kept.py", "tool.sh", "edited.py/inner.py", "vllm", "gone.py"}
        assert (files["vllm"], files["gone.py"]) == (b"a file\n", b"kept.py")
        assert apart == Apart(named={}, counted={})


def test_a_folder_that_became_a_link_elsewhere_is_a_link(clone: git.Repo, tmp_path: Path) -> None:
    folder = Path(clone.working_dir)
    (folder / "vllm").rename(tmp_path / "elsewhere")
    (folder / "vllm").symlink_to(tmp_path / "elsewhere")
    with taken(folder) as (files, _):
        assert files["vllm"] == str(tmp_path / "elsewhere").encode()
        assert "vllm/a.py" not in files


def test_the_same_work_has_the_same_id(clone: git.Repo) -> None:
    make_dirty(Path(clone.working_dir))
    with contextlib.closing(Repository(Path(clone.working_dir))) as repository:
        with snapshot(repository) as first:
            pass
        with snapshot(repository) as second:
            pass
    assert (first.commit.id, first.name) == (second.commit.id, second.name)


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
    file = Path(clone.working_dir) / "with space.py"
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
        pytest.raises(SourceError, match=r"a merge: with space\.py has conflicts"),
        snapshot(repository),
    ):
        pass
