"""The small git directory of an image, in a real working tree, with real git and nothing to fetch from."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from build.host.unpack import unpack
from build.layer import gitdir
from build.layer.gitdir import State
from build.source.repository import Repository
from tests.unit.work import Work, contents
from tests.unit.work import git as run_git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.source.repository import Commit

# As `git ls-files --stage` shows it.
_STAGED = "%(objectmode) %(objectname) 0\t%(path)"
_LEFT_OUT = ("tests/", "docs/", "odd [a-z]* name ", "vllm/left_out.py", "vllm/module")


def is_present(path: str, carried: str = "-") -> bool:
    return path.startswith(carried) or not path.startswith(_LEFT_OUT)


def state(source: Repository, commit: Commit, carried: str = "-") -> State:
    """What an image of a commit holds."""
    tree = source.listing(commit)
    return State(
        commit=commit.id, tree=tree, present=frozenset(path for path in tree.files if is_present(path, carried))
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """`main` with a bit of everything; `next` changes, adds and deletes."""
    work = Work.new(tmp_path_factory.mktemp("template") / "vllm")
    for name in ("setup.py", "vllm/a.py", "vllm/b.py", "vllm/left_out.py", "tests/test_a.py", "docs/a.md", "tools/x"):
        work.write(name, f"# {name}\n" * 20)
    for name in ("a b", 'quo"te', "two\nlines", "grün", "\udcff", "empty"):
        work.write(f"vllm/names/{name}", "" if name == "empty" else "x\n")
    work.write("odd [a-z]* name ", "not in images\n")
    work.write("vllm/run.sh", "#!/bin/sh\n", mode=0o755)
    (work.path / "vllm/link").symlink_to("a.py")
    work.git("add", "--all")
    work.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vllm/module")
    work.git("commit", "--quiet", "-m", "Base")
    work.git("checkout", "--quiet", "-b", "next")
    work.write("vllm/a.py", "# changed\n")
    work.write("vllm/new/c.py", "# new\n")
    work.write("tests/test_new.py", "# new\n")
    (work.path / "vllm/b.py").unlink()
    (work.path / "vllm/run.sh").chmod(0o644)
    work.git("add", "--all", "vllm/a.py", "vllm/b.py", "vllm/new", "vllm/run.sh", "tests")
    work.git("commit", "--quiet", "-m", "Next")
    return work


@pytest.fixture
def source(template: Work, tmp_path: Path) -> Work:
    return template.copied(tmp_path / "source")


class Image:
    """A working tree as an image has it, and its git directory."""

    def __init__(self, path: Path, source: Work) -> None:
        self.path = path
        self._source = source

    def lay_out(self, ref: str, carried: str = "-") -> None:
        """Make the files those of a commit; those below ``carried`` too, which are left out otherwise."""
        for entry in self.path.iterdir() if self.path.exists() else ():
            if entry.name != ".git":
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        names = run_git(self._source.path, "ls-tree", "-r", "-z", "--name-only", ref).split(b"\0")[:-1]
        present = [name for name in map(os.fsdecode, names) if is_present(name, carried)]
        archive = run_git(self._source.path, "archive", "--format=tar", ref, "--", *present)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            unpack(tar, self.path)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Repository]:
        repository = Repository(self._source.path)
        yield repository
        repository.close()

    def seal(self, ref: str = "main") -> None:
        """Files and git directory of a base."""
        with self._opened() as source:
            commit = source.commit(ref)
            gitdir.write_full(self.path / ".git", source=source, state=state(source, commit))
        self.lay_out(ref)

    def move(
        self, ref: str, *, base: str = "main", carried: str = "-", complete: bool = False, published: bool = False
    ) -> Commit:
        """Files of an overlay, and what it lays over the git directory."""
        laid = self.path.parent / "laid"
        with self._opened() as source:
            commit, old = source.commit(ref), state(source, source.commit(base))
            new = state(source, commit, carried)
            gitdir.write_move(laid, source=source, old=old, new=new, complete=complete, published=published)
        shutil.copytree(laid, self.path / ".git", dirs_exist_ok=True)
        shutil.rmtree(laid)
        self.lay_out(ref, carried)
        return commit

    def git(self, *words: str) -> str:
        """Git as a person in the container runs it, without a network."""
        return run_git(self.path, *words, env={"GIT_ALLOW_PROTOCOL": "none"}).decode(errors="surrogateescape").strip()

    def without_source(self) -> None:
        """The container does not see the repository that it was made from."""
        shutil.rmtree(self._source.path)


@pytest.fixture(scope="module")
def sealed(template: Work, tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = Image(tmp_path_factory.mktemp("sealed") / "image", template)
    image.seal()
    return image.path


@pytest.fixture
def image(source: Work, sealed: Path, tmp_path: Path) -> Image:
    """A base, and the repository that it was made from."""
    shutil.copytree(sealed, tmp_path / "image", symlinks=True)
    return Image(tmp_path / "image", source)


def test_a_base_is_clean_and_names_its_commit(image: Image, source: Work) -> None:
    commit = source.git("rev-parse", "main")
    image.without_source()
    assert image.git("status", "--porcelain") == ""
    assert image.git("log", "--format=%H %s") == f"{commit} Base"
    assert image.git("rev-parse", "llm-d-dev/base") == commit
    assert image.git("fsck", "--no-dangling") == ""


def test_the_source_is_only_read(source: Work, tmp_path: Path) -> None:
    before = contents(source.path)
    image = Image(tmp_path / "image", source)
    image.seal()
    image.move("next")
    assert contents(source.path) == before


def test_the_four_remotes_are_set_up(image: Image) -> None:
    assert image.git("remote").split() == ["njhill", "nm", "tms", "vllm"]
    assert image.git("remote", "get-url", "tms") == "https://github.com/tlrmchlsmth/vllm.git"


def test_work_in_it_shows_and_what_is_left_out_does_not(image: Image) -> None:
    image.without_source()
    (image.path / "vllm/a.py").write_text("# mine\n")
    (image.path / "vllm/b.py").unlink()
    (image.path / "vllm/run.sh").chmod(0o644)
    (image.path / "vllm/mine.py").touch()
    shown = {line.strip() for line in image.git("status", "--porcelain").splitlines()}
    assert shown == {"M vllm/a.py", "D vllm/b.py", "M vllm/run.sh", "?? vllm/mine.py"}
    diff = image.git("diff", "vllm/a.py")
    assert "-# vllm/a.py" in diff
    assert "+# mine" in diff


def test_work_in_it_can_be_committed_undone_and_put_aside(image: Image) -> None:
    image.without_source()
    (image.path / "vllm/a.py").write_text("# mine\n")
    image.git("commit", "--quiet", "-am", "Mine")
    assert image.git("show", "--format=%s", "--name-only").split() == ["Mine", "vllm/a.py"]
    image.git("checkout", "--quiet", "llm-d-dev/base")
    assert (image.path / "vllm/a.py").read_text() == "# vllm/a.py\n" * 20
    assert image.git("status", "--porcelain") == ""
    assert not (image.path / "tests").exists()
    assert not (image.path / "odd [a-z]* name ").exists()


def test_an_overlay_is_clean_and_names_its_commit(image: Image) -> None:
    commit = image.move("next")
    image.without_source()
    assert image.git("status", "--porcelain") == ""
    # Its history is cut off: it would have to be fetched.
    assert image.git("log", "--format=%H %s").splitlines()[0] == f"{commit.id} Next"
    # On top of the base, and shown against it.
    assert image.git("log", "--format=%s").split() == ["Next", "Base"]
    assert "vllm/new/c.py" in image.git("show", "--format=", "--name-only", "HEAD")
    assert image.git("show", "HEAD:vllm/new/c.py") == "# new"


def test_what_an_overlay_changed_can_be_asked_for(image: Image) -> None:
    image.move("next")
    image.without_source()
    assert image.git("diff", "--name-status", "llm-d-dev/base", "HEAD", "--", "vllm").split() == [
        *("M", "vllm/a.py", "D", "vllm/b.py", "A", "vllm/new/c.py", "M", "vllm/run.sh"),
    ]
    assert "+# changed" in image.git("diff", "llm-d-dev/base", "--", "vllm/a.py")
    image.git("checkout", "--quiet", "llm-d-dev/base")
    assert image.git("status", "--porcelain") == ""
    assert (image.path / "vllm/b.py").exists()


def test_a_folder_that_the_base_lacks_counts_once_an_overlay_has_it(image: Image) -> None:
    image.move("main", carried="tests/")
    (image.path / "tests/test_a.py").unlink()
    assert image.git("status", "--porcelain").strip() == "D tests/test_a.py"


def test_tools_other_than_git_can_open_it(image: Image) -> None:
    """They refuse an extension that they do not know: a split index (libgit2#6132), or one of the configuration."""
    assert run_git(image.path, "config", "core.repositoryFormatVersion").strip() == b"0"
    assert "extensions" not in (image.path / ".git/config").read_text()
    base = _index(image)
    image.move("next")
    assert _index(image) != base
    for index in (base, _index(image)):
        # gitformat-index(5): extensions whose names are not in capitals must be understood.
        assert index.startswith(b"DIRC\0\0\0\4")
        assert not {name for name in (b"link", b"sdir") if name in index}
    assert image.git("ls-files", "--stage") == image.git("ls-tree", "-r", "HEAD", f"--format={_STAGED}")


def _index(image: Image) -> bytes:
    return (image.path / ".git/index").read_bytes()


def change_much(source: Work) -> None:
    """Make the branch `large`: more than what goes along in any case."""
    source.git("checkout", "--quiet", "-b", "large", "main")
    source.write("vllm/large.py", "# new\n" * (gitdir.CONTENTS_LIMIT // 6 + 1))
    source.git("add", "vllm/large.py")
    source.git("commit", "--quiet", "-m", "Large")


def test_contents_of_a_large_change_are_fetched_from_upstream_when_something_asks_for_them(
    image: Image, source: Work, tmp_path: Path
) -> None:
    change_much(source)
    commit = image.move("large", published=True)
    assert image.git("status", "--porcelain") == ""
    assert image.git("log", "-1", "--format=%H %s") == f"{commit.id} Large"
    assert image.git("fsck", "--no-dangling") == ""
    left_out = source.git("rev-parse", "large:vllm/large.py")
    assert not any(left_out in ids for ids in _packed(image).values())
    # As with a network, where the remotes answer.
    source.git("config", "uploadpack.allowAnySHA1InWant", "true")
    source.git("config", "uploadpack.allowFilter", "true")
    (image.path / "vllm/large.py").write_text("# mine\n")
    image.git("remote", "set-url", "vllm", f"file://{source.path}")
    trace = tmp_path / "trace"
    env = {"GIT_ALLOW_PROTOCOL": "file", "GIT_TRACE": str(trace)}
    assert "+# mine" in run_git(image.path, "diff", env=env).decode()
    # The forks are not even asked.
    assert re.findall(r"^.* run_command: .* fetch (\w+) ", trace.read_text(), re.MULTILINE) == ["vllm"]


def test_contents_that_no_remote_has_go_along_where_others_are_too_many(image: Image, source: Work) -> None:
    change_much(source)
    # What a colleague has pushed.
    source.git("update-ref", "refs/remotes/origin/large", "large")
    source.write("vllm/mine.py", "# nobody else has this\n")
    source.git("add", "vllm/mine.py")
    source.git("commit", "--quiet", "-m", "Only here")
    mine, pushed = source.git("rev-parse", "large:vllm/mine.py"), source.git("rev-parse", "large:vllm/large.py")
    image.move("large")
    image.without_source()
    packed = set().union(*_packed(image).values())
    assert (mine in packed, pushed in packed) == (True, False)
    (image.path / "vllm/mine.py").write_text("# changed\n")
    assert "+# changed" in image.git("diff", "vllm/mine.py")
    image.git("checkout", "--quiet", "--", "vllm/mine.py")
    assert image.git("status", "--porcelain") == ""


def test_contents_that_no_remote_has_are_left_out_too_where_they_are_many(image: Image, source: Work) -> None:
    change_much(source)
    image.move("large")
    image.without_source()
    assert image.git("status", "--porcelain") == ""
    left_out = image.git("rev-parse", "HEAD:vllm/large.py")
    assert not any(left_out in ids for ids in _packed(image).values())


def test_a_change_of_what_the_image_leaves_out_is_shown_and_stays_out(image: Image, source: Work) -> None:
    source.git("checkout", "--quiet", "-b", "beside", "main")
    for name in ("tests/test_a.py", "docs/new.md", "vllm/a.py"):
        source.write(name, "# changed\n")
    source.git("add", "--all", "tests", "docs", "vllm/a.py")
    source.git("commit", "--quiet", "-m", "Beside")
    image.move("beside")
    image.without_source()
    assert "+# changed" in image.git("diff", "llm-d-dev/base", "HEAD", "--", "tests")
    (image.path / "vllm/a.py").write_text("# mine\n")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    image.git(*identity, "stash", "--quiet")
    image.git("stash", "pop", "--quiet")
    image.git("reset", "--quiet", "--hard")
    assert image.git("status", "--porcelain") == ""
    assert not (image.path / "tests").exists()


def test_a_top_level_folder_that_is_new_and_left_out_stays_out(image: Image, source: Work) -> None:
    source.git("checkout", "--quiet", "-b", "newdir", "main")
    source.write("odd [a-z]* name  too/a.py", "# new\n")
    source.git("add", "--all", "odd [a-z]* name  too")
    source.git("commit", "--quiet", "-m", "New folder")
    image.move("newdir")
    image.without_source()
    (image.path / "vllm/a.py").write_text("# mine\n")
    image.git("reset", "--quiet", "--hard")
    assert image.git("status", "--porcelain") == ""


def test_a_folder_that_was_carried_stays_when_work_is_put_aside(image: Image) -> None:
    image.move("next", carried="tests/")
    image.without_source()
    (image.path / "vllm/a.py").write_text("# mine\n")
    image.git("-c", "user.name=t", "-c", "user.email=t@localhost", "stash", "--quiet")
    assert image.git("status", "--porcelain") == ""
    assert (image.path / "tests/test_new.py").exists()


def test_a_commit_that_is_only_here_can_be_moved_to(image: Image, source: Work) -> None:
    # On no branch and no remote.
    source.git("checkout", "--quiet", "--detach", "main")
    source.write("vllm/a.py", "# nobody else has this\n")
    source.git("commit", "--quiet", "-am", "Only here")
    commit = image.move(source.git("rev-parse", "HEAD"))
    image.without_source()
    assert image.git("status", "--porcelain") == ""
    assert image.git("log", "-1", "--format=%H") == commit.id


def test_an_overlay_of_the_bases_own_commit_is_clean(image: Image) -> None:
    commit = image.move("main")
    image.without_source()
    assert image.git("status", "--porcelain") == ""
    assert image.git("log", "--format=%H") == commit.id


def test_a_commit_without_the_bases_history_can_be_moved_to(image: Image, source: Work) -> None:
    source.git("checkout", "--quiet", "--orphan", "unrelated")
    source.git("commit", "--quiet", "-m", "Unrelated")
    commit = image.move("unrelated")
    image.without_source()
    assert image.git("status", "--porcelain") == ""
    assert image.git("log", "--format=%H") == commit.id


def test_a_git_directory_that_the_image_brought_can_be_moved(image: Image, source: Work) -> None:
    shutil.rmtree(image.path)
    run_git(image.path.parent, "clone", "--quiet", "--depth=1", "--branch=main", f"file://{source.path}", image.path)
    change_much(source)
    # Its git directory does not say where what it lacks could be fetched.
    commit = image.move("large", complete=True)
    image.without_source()
    assert image.git("status", "--porcelain") == ""
    assert image.git("log", "-1", "--format=%H") == commit.id
    (image.path / "vllm/large.py").write_text("# mine\n")
    assert "+# mine" in image.git("diff")


def _packed(image: Image) -> dict[str, set[str]]:
    """Ids of the objects of each pack."""
    packs = image.path.glob(".git/objects/pack/*.idx")
    rows = {pack.name: image.git("verify-pack", "-v", str(pack)).splitlines() for pack in packs}
    return {name: {row.split()[0] for row in lines if len(row.split()[0]) == 40} for name, lines in rows.items()}


def test_only_objects_that_are_new_are_laid_over_a_base(image: Image) -> None:
    ((base, had),) = _packed(image).items()
    commit = image.move("next")
    after = _packed(image)
    assert after.pop(base) == had
    ((_, added),) = after.items()
    assert commit.id in added
    assert not added & had


def _files(image: Image) -> dict[str, object]:
    """Contents of its git directory."""
    folder = image.path / ".git"
    return {path.removeprefix(str(folder)): entry[-1] for path, entry in contents(folder).items()}


def test_settings_of_whoever_builds_do_not_count(image: Image, source: Work, isolated: Path, tmp_path: Path) -> None:
    (isolated / ".gitconfig").write_text("[core]\n\tsplitIndex = true\n\tcompression = 0\n[index]\n\tversion = 2\n")
    other = Image(tmp_path / "other", source)
    other.seal()
    assert _files(other) == _files(image)


def test_the_same_commit_gives_the_same_bytes_wherever_it_is_made(
    image: Image, source: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image.move("next")
    monkeypatch.chdir(tmp_path)
    os.utime(source.path / ".git/index", (1, 1))
    source.git("-c", "core.compression=9", "repack", "-adFq", "--window=1")
    other = Image(tmp_path / "other", source)
    other.seal()
    other.move("next")
    assert _files(other) == _files(image)
