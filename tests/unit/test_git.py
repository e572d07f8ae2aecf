"""A repository of the user's: whatever its kind, it is read and never written to."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.errors import SourceError
from build.source import repository
from build.source.repository import Repository
from build.source.worktree import snapshot
from tests.unit.work import Work, contents
from tests.unit.work import git as run_git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from build.source.repository import Commit


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Repository]:
    repository = Repository(path)
    try:
        yield repository
    finally:
        repository.close()


def commit_of(path: Path, ref: str = "HEAD") -> Commit:
    with opened(path) as repository:
        return repository.commit(ref)


def read_everything(path: Path, ref: str = "HEAD") -> dict[str, bytes]:
    """All that a plan and an overlay read: the contents of a commit, by path."""
    with opened(path) as repository:
        _ = repository.is_dirty
        commit = repository.commit(ref)
        found = {}
        for name, entry in repository.listing(commit).files.items():
            with repository.blob(entry.oid) as (size, content):
                found[name] = content.read()
            assert size == len(found[name])
        return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Two commits on `main`, a tag on the first."""
    work = Work.new(tmp_path_factory.mktemp("template") / "vllm")
    work.write("vllm/a.py", "old\n")
    work.commit("First")
    work.git("tag", "v1")
    work.write("vllm/a.py", "new\n")
    work.write("vllm/empty.py")
    work.commit("Second")
    return work


@pytest.fixture
def filled(template: Work, tmp_path: Path) -> Work:
    return template.copied(tmp_path / "vllm")


# --- Kinds of repositories ---------------------------------------------------------------------------------


def _clone(filled: Work, folder: Path) -> Path:
    run_git(folder, "clone", "--quiet", filled.path, "there")
    return folder / "there"


def _worktree(filled: Work, folder: Path) -> Path:
    filled.git("worktree", "add", "--quiet", folder / "there", "main", "--force")
    return folder / "there"


def _detached(filled: Work, folder: Path) -> Path:
    there = _clone(filled, folder)
    run_git(there, "checkout", "--quiet", "--detach", "HEAD")
    return there


def _bare(filled: Work, folder: Path) -> Path:
    run_git(folder, "clone", "--quiet", "--bare", filled.path, "there.git")
    return folder / "there.git"


def _shallow(filled: Work, folder: Path) -> Path:
    run_git(folder, "clone", "--quiet", "--depth=1", f"file://{filled.path}", "there")
    return folder / "there"


def _blobless(filled: Work, folder: Path) -> Path:
    filled.git("config", "uploadpack.allowFilter", "true")
    run_git(folder, "clone", "--quiet", "--filter=blob:none", f"file://{filled.path}", "there")
    return folder / "there"


def _alternates(filled: Work, folder: Path) -> Path:
    run_git(folder, "clone", "--quiet", "--shared", filled.path, "there")
    return folder / "there"


def _odd_path(filled: Work, folder: Path) -> Path:
    there = folder / "a $HOME [b] 'c' ☃"
    run_git(folder, "clone", "--quiet", filled.path, there)
    return there


def _colon(filled: Work, folder: Path) -> Path:
    run_git(folder, "clone", "--quiet", "--shared", filled.path, folder / 'a:b"c')
    return folder / 'a:b"c'


def _separate(filled: Work, folder: Path) -> Path:
    run_git(folder, "clone", "--quiet", f"--separate-git-dir={folder / 'store'}", filled.path, "there")
    return folder / "there"


def _store(filled: Work, folder: Path) -> Path:
    """A git directory in another repository's work tree, which is not its own."""
    run_git(folder, "init", "--quiet")
    _separate(filled, folder)
    return folder / "store"


def _subfolder(filled: Work, folder: Path) -> Path:
    return _clone(filled, folder) / "vllm"


def _git_directory(filled: Work, folder: Path) -> Path:
    return _clone(filled, folder) / ".git"


def _git_file(filled: Work, folder: Path) -> Path:
    return _worktree(filled, folder) / ".git"


def _linked_git_directory(filled: Work, folder: Path) -> Path:
    there = _clone(filled, folder)
    (there / ".git").rename(folder / "store.git")
    (there / ".git").symlink_to(folder / "store.git")
    with opened(there / ".git") as repository:
        assert repository.work_tree == there
    return there / ".git"


_KINDS = (
    _linked_git_directory,
    _clone,
    _worktree,
    _detached,
    _bare,
    _shallow,
    _blobless,
    _alternates,
    _odd_path,
    _colon,
    _separate,
    _store,
    _subfolder,
    _git_directory,
    _git_file,
)


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_every_kind_is_read_and_left_byte_for_byte_as_it_was(filled: Work, tmp_path: Path, kind: type[object]) -> None:
    path = kind(filled, tmp_path)  # type: ignore[call-arg]
    assert isinstance(path, Path)
    before = contents(tmp_path)
    assert read_everything(path) == {"vllm/a.py": b"new\n", "vllm/empty.py": b""}
    assert contents(tmp_path) == before


def test_a_repository_of_another_user_is_read(filled: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    # Git's own way to have another owner without being root; as root it is tried for real.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    if os.geteuid() == 0:
        for folder, _, names in os.walk(filled.path):
            for name in (".", *names):
                os.lchown(Path(folder, name), 12345, 12345)
    before = contents(filled.path)
    assert read_everything(filled.path)["vllm/a.py"] == b"new\n"
    assert contents(filled.path) == before


def test_a_dirty_tree_with_a_stale_index_stays_as_it_is(filled: Work) -> None:
    # `git status` would refresh the index: the file has a new time stamp and its old content.
    file = filled.path / "vllm/a.py"
    os.utime(file, ns=(10**18, 10**18))
    filled.write("vllm/new.py")
    before = contents(filled.path)
    with opened(filled.path) as repository:
        assert repository.is_dirty
    assert contents(filled.path) == before


def test_programs_that_a_repository_names_are_not_started(filled: Work, tmp_path: Path) -> None:
    filled.write("../monitor", f"#!/bin/sh\ntouch {tmp_path}/started\n", mode=0o755)
    filled.git("config", "core.fsmonitor", str(tmp_path / "monitor"))
    filled.git("config", "log.showSignature", "true")
    filled.git("config", "gpg.program", str(tmp_path / "monitor"))
    read_everything(filled.path)
    assert not (tmp_path / "started").exists()


def test_what_a_partial_clone_lacks_is_not_fetched_but_reported(filled: Work, tmp_path: Path) -> None:
    there = _blobless(filled, tmp_path)
    before = contents(tmp_path)
    # The first commit's content was never checked out there.
    with pytest.raises(SourceError, match="partial clone") as caught:
        read_everything(there, "v1")
    assert str(there) in caught.value.hint
    with opened(there) as repository, pytest.raises(SourceError, match="partial clone"):
        repository.sizes([filled.git("rev-parse", "v1:vllm/a.py")])
    assert contents(tmp_path) == before


def test_a_clone_without_trees_is_reported(filled: Work, tmp_path: Path) -> None:
    filled.git("config", "uploadpack.allowFilter", "true")
    run_git(tmp_path, "clone", "--quiet", "--filter=tree:0", "--no-checkout", f"file://{filled.path}", "there")
    with opened(tmp_path / "there") as repository:
        with pytest.raises(SourceError, match="lacks folders of the commit"):
            repository.listing(repository.commit("HEAD"))
        with pytest.raises(SourceError, match=r"cannot tell whether \S+ has uncommitted work: \S"):
            _ = repository.is_dirty


def test_replaced_objects_do_not_count(filled: Work) -> None:
    filled.git("replace", "main", "v1")
    assert read_everything(filled.path)["vllm/a.py"] == b"new\n"


def test_git_variables_of_a_hook_do_not_redirect_us(
    filled: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Work.new(tmp_path / "other")
    other.commit("Other")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / ".git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.path))
    repository.without_git_variables()
    assert commit_of(filled.path).subject == "Second"


# --- Paths that are none -----------------------------------------------------------------------------------


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no .*/vllm") as caught:
        Repository(tmp_path / "vllm")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["folder", "folder/.git", "file", "folder/$HOME"])
def test_a_path_that_is_no_repository_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder/.git").mkdir(parents=True)
    (tmp_path / "folder/$HOME").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="is not a git repository"):
        Repository(tmp_path / name)


def test_the_home_folder_may_be_a_tilde(filled: Work, isolated: Path) -> None:
    filled.path.rename(isolated / "vllm")
    assert commit_of(Path("~/vllm")).subject == "Second"


# --- Where a working tree is -------------------------------------------------------------------------------


def _relative(filled: Work, there: Path) -> Path:
    """As ``git worktree add --relative-paths`` of git 2.48 links them."""
    there.joinpath(".git").write_text(f"gitdir: {os.path.relpath(filled.path / '.git/worktrees/there', there)}\n")
    back = filled.path / ".git/worktrees/there/gitdir"
    back.write_text(os.path.relpath(there / ".git", back.parent) + "\n")
    return there


def _copied(_: Work, there: Path) -> Path:
    return Path(shutil.copytree(there, there.with_name("copy"), symlinks=True))


def _moved(_: Work, there: Path) -> Path:
    return there.rename(there.with_name("moved"))


def _moved_to_nowhere_and_made_again(_: Work, there: Path) -> Path:
    moved = there.rename(there.with_name("moved"))
    there.mkdir()
    (there / "vllm").mkdir()
    (there / "vllm/a.py").write_text("another\n")
    return moved


@pytest.mark.parametrize("change", [_relative, _copied, _moved, _moved_to_nowhere_and_made_again])
def test_a_worktree_is_where_its_git_file_is(
    filled: Work, tmp_path: Path, change: Callable[[Work, Path], Path]
) -> None:
    path = change(filled, _worktree(filled, tmp_path))
    for named in (path, path / ".git", path / "vllm"):
        with opened(named) as repository:
            assert repository.work_tree == path
            assert not repository.is_dirty
    (path / "vllm/a.py").write_text("here\n")
    with opened(path) as repository, snapshot(repository) as work:
        assert repository.is_dirty
        with work.source.blob(work.source.listing(work.commit).files["vllm/a.py"].oid) as (_, content):
            assert content.read() == b"here\n"


@pytest.mark.parametrize("change", [_relative, _moved])
def test_a_worktrees_git_directory_knows_it_while_it_is_there(
    filled: Work, tmp_path: Path, change: Callable[[Work, Path], Path]
) -> None:
    path = change(filled, _worktree(filled, tmp_path))
    with opened(filled.path / ".git/worktrees/there") as repository:
        assert repository.work_tree == (path if change is _relative else None)


def test_a_copied_submodule_is_not_taken_for_the_one_it_was_copied_from(filled: Work, tmp_path: Path) -> None:
    outer = Work.new(tmp_path / "outer")
    outer.git("submodule", "add", "--quiet", str(filled.path), "vllm")
    copy = Path(shutil.copytree(outer.path / "vllm", outer.path / "copy"))
    (copy / "vllm/a.py").write_text("copy\n")
    with opened(outer.path / "vllm") as repository:
        assert (repository.work_tree, repository.is_dirty) == (outer.path / "vllm", False)
    with opened(copy) as repository:
        assert (repository.work_tree, repository.is_dirty) == (copy, True)


def test_a_worktree_of_a_bare_repository_has_files(filled: Work, tmp_path: Path) -> None:
    bare = _bare(filled, tmp_path)
    run_git(bare, "worktree", "add", "--quiet", tmp_path / "there", "main")
    with opened(tmp_path / "there") as repository:
        assert repository.work_tree == tmp_path / "there"


def test_a_worktree_has_refs_of_its_own(filled: Work, tmp_path: Path) -> None:
    there = _worktree(filled, tmp_path)
    run_git(there, "checkout", "--quiet", "--detach", "v1")
    with opened(there) as repository:
        assert repository.commit("HEAD").subject == "First"
        assert repository.commit("HEAD@{1}").subject == "Second"
        assert repository.commit("main").subject == "Second"


# --- Formats that this git does not know -------------------------------------------------------------------


def test_an_extension_that_git_does_not_know_is_said_to_be_that(filled: Work) -> None:
    filled.git("config", "core.repositoryFormatVersion", "1")
    # As reftable is one to git 2.44.
    filled.git("config", "extensions.inventedOne", "x")
    with pytest.raises(SourceError, match=r"git 2\.\S+ is too old for \S+: .* extension inventedone$") as caught:
        commit_of(filled.path)
    assert "install a newer git" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_newer_format_is_said_to_be_that(filled: Work) -> None:
    filled.git("config", "core.repositoryFormatVersion", "7")
    with pytest.raises(SourceError, match="does not know the repository's format 7"):
        commit_of(filled.path)


# --- Refs --------------------------------------------------------------------------------------------------


def test_a_commit_is_what_git_says_it_is(filled: Work) -> None:
    filled.git(
        "commit", "--quiet", "--allow-empty", "-m", "Grüße: ☃\n\nbody", env={"GIT_COMMITTER_DATE": "1700000000 +0900"}
    )
    commit = commit_of(filled.path)
    assert commit.id == filled.git("rev-parse", "HEAD")
    assert (commit.subject, commit.timestamp) == ("Grüße: ☃", 1_700_000_000)
    assert commit.short == commit.id[:12]


@pytest.fixture(scope="module")
def refs(template: Work, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """The same with every kind of ref."""
    work = template.copied(tmp_path_factory.mktemp("refs") / "vllm")
    work.git("tag", "-a", "-m", "x", "annotated", "v1")
    # `git branch` refuses such names; they arrive by a push.
    work.git("update-ref", "refs/heads/-x", "v1")
    work.git("update-ref", "refs/tags/--all", "main")
    work.write("vllm/a.py", "mine\n")
    work.git("stash", "push", "--quiet", "-m", "mine")
    return work


@pytest.mark.parametrize(
    ("ref", "subject"),
    [
        ("main", "Second"),
        ("HEAD", "Second"),
        ("HEAD~1", "First"),
        ("v1", "First"),
        ("refs/tags/v1", "First"),
        ("annotated", "First"),
        ("-x", "First"),
        ("--all", "Second"),
        ("stash@{0}", "On main: mine"),
        ("@", "Second"),
        (":/Fir", "First"),
    ],
)
def test_any_commit_ish_is_taken(refs: Work, ref: str, subject: str) -> None:
    assert commit_of(refs.path, ref).subject == subject


def test_a_short_id_is_taken(refs: Work) -> None:
    full = refs.git("rev-parse", "v1")
    assert commit_of(refs.path, full[:9]).id == full


@pytest.mark.parametrize(
    "ref",
    ["no-such-branch", "0" * 40, "abcdef1", "", "HEAD:vllm", "main^{tree}", "HEAD~7", "--help", "a b", "-", "^HEAD"],
)
def test_a_ref_that_is_no_commit_is_named(refs: Work, ref: str) -> None:
    with pytest.raises(SourceError, match="names no commit") as caught:
        commit_of(refs.path, ref)
    assert repr(ref) in caught.value.what
    assert caught.value.exit_code == 3


def test_a_repository_without_commits_has_no_head(work: Work) -> None:
    with pytest.raises(SourceError, match="'HEAD' names no commit"):
        commit_of(work.path)


def test_ids_of_another_kind_are_told(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "--quiet", "--object-format=sha256")
    run_git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "x")
    with pytest.raises(SourceError, match="SHA-256"):
        commit_of(tmp_path)


@pytest.mark.parametrize(
    ("date", "timestamp"), [("86400 +0000", 86400), ("-5 +0000", 0), ("99999999999999 +0000", 253402300799)]
)
def test_a_date_is_one_that_an_archive_can_hold(work: Work, date: str, timestamp: int) -> None:
    work.commit()
    raw = work.git("cat-file", "commit", "HEAD").replace("\ncommitter ", "\nx-was ")
    head, _, message = raw.partition("\n\n")
    text = f"{head}\n\n{message}\n".replace("\nx-was ", "\ncommitter ", 1)
    who = f"committer t <t@localhost> {date}"
    text = "\n".join(who if line.startswith("committer ") else line for line in text.splitlines()) + "\n"
    oid = work.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=text.encode())
    assert commit_of(work.path, oid).timestamp == timestamp


@pytest.mark.parametrize("setting", ["../work", "absolute"])
def test_a_work_tree_that_the_repository_names_is_its_own(work: Work, tmp_path: Path, setting: str) -> None:
    work.commit(a="x")
    store = tmp_path / "store"
    (work.path / ".git").rename(store)
    tree = tmp_path / "work"
    work.path.rename(tree)
    run_git(tmp_path, "--git-dir", store, "config", "core.worktree", str(tree) if setting == "absolute" else setting)
    with opened(store) as repository:
        assert repository.work_tree == tree
        assert not repository.is_dirty
        (tree / "a").write_text("changed")
        assert repository.is_dirty


def test_a_git_directory_by_itself_has_no_work_tree(filled: Work, tmp_path: Path) -> None:
    with opened(_store(filled, tmp_path)) as repository:
        assert repository.work_tree is None
        assert not repository.is_dirty


def test_a_worktree_whose_repository_is_gone_says_where_it_was(filled: Work, tmp_path: Path) -> None:
    there = _worktree(filled, tmp_path)
    filled.path.rename(tmp_path / "moved")
    with pytest.raises(
        SourceError, match=rf"is not a git repository: its \.git points to {filled.path}/\.git/worktrees"
    ):
        Repository(there)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"gitdir:\n", "names no folder"),
        (b"\xef\xbb\xbfgitdir: ../repository/.git", "begins with a byte order mark"),
        ("gitdir: x".encode("utf-16"), "begins with a byte order mark"),
        (b"../repository/.git\n", "does not begin with `gitdir:`"),
    ],
)
def test_a_git_file_that_is_not_a_link_is_told_why(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / ".git").write_bytes(content)
    for path in (tmp_path, tmp_path / ".git"):
        with pytest.raises(SourceError, match=f"its file .git {why}"):
            Repository(path)


def test_a_repository_that_borrows_from_a_folder_that_is_gone_says_so(filled: Work, tmp_path: Path) -> None:
    there = _alternates(filled, tmp_path)
    run_git(tmp_path, "clone", "--quiet", "--shared", there, "further")
    filled.path.rename(tmp_path / "moved")
    for path in (there, tmp_path / "further"):
        with (
            opened(path) as repository,
            pytest.raises(SourceError, match=f"alternates names {filled.path}/.git/objects, which does not exist"),
        ):
            repository.commit("HEAD")


def test_a_folder_that_a_repository_does_not_need_may_be_gone(filled: Work) -> None:
    filled.write(".git/objects/info/alternates", "# a comment\n/nowhere/objects\n")
    with opened(filled.path) as repository:
        assert repository.listing(repository.commit("HEAD")).files


def test_a_home_that_nobody_has_is_told() -> None:
    with pytest.raises(SourceError, match="there is no ~nobody-of-that-name"):
        Repository(Path("~nobody-of-that-name/vllm"))


def test_an_ambiguous_id_is_told_with_what_it_may_mean(work: Work) -> None:
    stream = b"".join(
        b"commit refs/heads/many\ncommitter t <t@localhost> %d +0000\ndata 0\n\n" % (1_700_000_000 + number)
        for number in range(1500)
    )
    work.git("fast-import", "--quiet", stdin=stream)
    ids = sorted(work.git("rev-list", "many").split())
    pair = next((one, two) for one, two in itertools.pairwise(ids) if one[:4] == two[:4])
    with pytest.raises(SourceError, match="ambiguous") as caught:
        commit_of(work.path, pair[0][:4])
    assert pair[0] in caught.value.what
    assert pair[1] in caught.value.what


# --- Dirty -------------------------------------------------------------------------------------------------


def _edit(work: Work) -> None:
    work.write("vllm/a.py", "edited\n")


def _stage(work: Work) -> None:
    _edit(work)
    work.git("add", "--all")


def _add(work: Work) -> None:
    work.write("vllm/new.py")


def _delete(work: Work) -> None:
    (work.path / "vllm/a.py").unlink()


def _make_executable(work: Work) -> None:
    (work.path / "vllm/a.py").chmod(0o755)


def _ignored(work: Work) -> None:
    work.write(".git/info/exclude", "*.pyc\n")
    work.write("vllm/a.pyc")


def _touch(work: Work) -> None:
    os.utime(work.path / "vllm/a.py")


@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        (_edit, True),
        (_stage, True),
        (_add, True),
        (_delete, True),
        (_make_executable, True),
        (_ignored, False),
        (_touch, False),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_"),
)
def test_uncommitted_work_is_noticed(filled: Work, change: type[object], *, dirty: bool) -> None:
    with opened(filled.path) as repository:
        assert not repository.is_dirty
    change(filled)  # type: ignore[call-arg]
    # `.git` is what VLLM_LOCAL_GIT_DIR names.
    for path in (filled.path, filled.path / ".git"):
        with opened(path) as repository:
            assert repository.is_dirty is dirty


def test_a_bare_repository_is_never_dirty(filled: Work, tmp_path: Path) -> None:
    with opened(_bare(filled, tmp_path)) as repository:
        assert not repository.is_dirty


# --- Contents ----------------------------------------------------------------------------------------------


def test_a_large_file_comes_in_pieces_and_the_next_one_follows(filled: Work) -> None:
    large = os.urandom(400_000)
    (filled.path / "large.bin").write_bytes(large)
    filled.commit()
    with opened(filled.path) as repository:
        files = repository.listing(repository.commit("HEAD")).files
        with repository.blob(files["large.bin"].oid) as (size, content):
            assert size == len(large)
            assert content.read(10) == large[:10]
        # The rest was skipped.
        with repository.blob(files["vllm/a.py"].oid) as (_, content):
            assert content.read() == b"new\n"


def test_sizes_come_in_the_order_that_was_asked_for(refs: Work) -> None:
    empty, old = refs.git("rev-parse", "main:vllm/empty.py"), refs.git("rev-parse", "v1:vllm/a.py")
    with opened(refs.path) as repository:
        assert repository.sizes([old, empty, old]) == [4, 0, 4]
        assert repository.sizes([]) == []


def test_the_listing_knows_the_trees_too(filled: Work) -> None:
    with opened(filled.path) as repository:
        listing = repository.listing(repository.commit("HEAD"))
    assert listing.trees == {"": filled.git("rev-parse", "HEAD^{tree}"), "vllm": filled.git("rev-parse", "HEAD:vllm")}


def test_what_is_held_and_what_is_not(filled: Work) -> None:
    with opened(filled.path) as repository:
        assert repository.holds(filled.git("rev-parse", "v1:vllm/a.py"))
        assert repository.holds("refs/tags/v1")
        assert not repository.holds("refs/tags/v2")
        assert not repository.holds("0" * 40)


def test_a_tag_of_a_folder_or_file_is_said_to_be_one(filled: Work) -> None:
    filled.git("tag", "folder", "HEAD^{tree}")
    filled.git("tag", "text", filled.git("rev-parse", "HEAD:vllm/a.py").strip())
    for name, kind in (("folder", "tree"), ("text", "blob")):
        with pytest.raises(SourceError, match=f"'{name}' names no commit in .*: it is a {kind}"):
            commit_of(filled.path, name)


def test_a_commit_beyond_a_shallow_clone_is_said_to_be_there(filled: Work, tmp_path: Path) -> None:
    run_git(tmp_path, "clone", "--quiet", "--depth=1", filled.path.as_uri(), "shallow")
    with pytest.raises(SourceError, match="shallow, `git fetch --unshallow`"):
        commit_of(tmp_path / "shallow", "HEAD~1")


def test_a_repository_without_a_commit_is_said_to_be_that(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "--quiet", "vllm")
    with pytest.raises(SourceError, match="it has no commit yet"):
        commit_of(tmp_path / "vllm")
