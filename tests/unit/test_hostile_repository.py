"""A repository that is only read starts no program and takes no more memory than it is worth."""

from __future__ import annotations

import contextlib
import os
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.cli.checkout import local
from build.console import Console
from build.errors import LlmdDevError, SourceError
from build.source.git import Git, GitError
from build.source.repository import Repository
from build.source.target import Target
from build.source.worktree import snapshot
from tests.unit.bases import PYPROJECT
from tests.unit.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING: frozenset[str] = frozenset()


def read_all(path: Path) -> dict[str, bytes]:
    """All that a plan and an overlay read of a repository, its uncommitted work too."""
    with contextlib.closing(Repository(path)) as source:
        _ = source.is_dirty
        for ref in ("HEAD", "main", "stash@{0}", "0123abc"):
            with contextlib.suppress(SourceError):
                source.release(source.commit(ref))
        with snapshot(source) as work:
            found = {}
            for name, entry in work.source.listing(work.commit).files.items():
                with contextlib.suppress(SourceError), work.source.blob(entry.oid) as (_, content):
                    found[name] = content.read()
            work.source.published(work.commit.id)
            return found


@pytest.fixture
def vllm(work: Work) -> Work:
    """A vLLM tree with a change in its working tree."""
    work.write("vllm/__init__.py")
    work.write("vllm/a.py", "old\n")
    work.write("pyproject.toml", PYPROJECT)
    work.commit()
    work.write("vllm/a.py", "new\n")
    return work


class Trap:
    """A program that must not run."""

    def __init__(self, folder: Path) -> None:
        self._mark = folder / "started"
        self.path = folder / "trap"
        self.path.write_text(f'#!/bin/sh\necho "$0 $@" >> {self._mark}\ncat\n', encoding="utf-8")
        self.path.chmod(0o755)

    @property
    def sprung(self) -> str:
        return self._mark.read_text(encoding="utf-8") if self._mark.exists() else ""


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    folder = tmp_path / "trap"
    folder.mkdir()
    return Trap(folder)


def _everywhere(work: Work, attribute: str) -> None:
    work.write(".git/info/attributes", f"* {attribute}\n")


def _clean_filter(work: Work, trap: Path) -> None:
    work.git("config", "filter.x.clean", str(trap))
    work.git("config", "filter.x.smudge", str(trap))
    _everywhere(work, "filter=x")


def _required_filter(work: Work, trap: Path) -> None:
    _clean_filter(work, trap)
    work.git("config", "filter.x.required", "true")


def _filter_process(work: Work, trap: Path) -> None:
    work.git("config", "filter.x.process", str(trap))
    _everywhere(work, "filter=x")


def _filter_of_a_tracked_file(work: Work, trap: Path) -> None:
    work.git("config", "filter.a b.c.clean", str(trap))
    work.write(".gitattributes", '* filter="a b.c"\n* filter=a\n')
    work.git("config", "filter.a.clean", str(trap))


def _included_filter(work: Work, trap: Path) -> None:
    work.write(".git/more", f'[filter "x"]\n\tclean = {trap}\n[core]\n\tfsmonitor = {trap}\n')
    work.git("config", "include.path", "more")
    work.git("config", f"includeIf.gitdir:{work.path}/.path", "more")
    _everywhere(work, "filter=x")


def _filter_of_the_worktree(work: Work, trap: Path) -> None:
    work.git("config", "extensions.worktreeConfig", "true")
    work.git("config", "--worktree", "filter.x.clean", str(trap))
    work.git("config", "--worktree", "core.fsmonitor", str(trap))
    _everywhere(work, "filter=x")


def _monitor(work: Work, trap: Path) -> None:
    work.git("config", "core.fsmonitor", str(trap))


def _hooks(work: Work, trap: Path) -> None:
    for name in ("post-index-change", "reference-transaction", "pre-commit", "pre-auto-gc", "fsmonitor-watchman"):
        work.write(f".git/hooks/{name}", trap.read_text(encoding="utf-8"), mode=0o755)


def _hooks_path(work: Work, trap: Path) -> None:
    (trap.parent / "post-index-change").symlink_to(trap)
    work.git("config", "core.hooksPath", str(trap.parent))


def _signatures(work: Work, trap: Path) -> None:
    for key in ("gpg.program", "gpg.ssh.program", "gpg.x509.program"):
        work.git("config", key, str(trap))
    for key in ("log.showSignature", "commit.gpgSign", "tag.gpgSign"):
        work.git("config", key, "true")


def _diffs(work: Work, trap: Path) -> None:
    for key in ("diff.external", "diff.x.textconv", "diff.x.command", "merge.x.driver", "core.pager", "pager.log"):
        work.git("config", key, str(trap))
    for key in (
        "interactive.diffFilter",
        "core.editor",
        "core.askPass",
        "credential.helper",
        "core.alternateRefsCommand",
    ):
        work.git("config", key, str(trap))
    _everywhere(work, "diff=x merge=x")


def _submodule_monitor(work: Work, trap: Path) -> None:
    other = Work.new(work.path.with_name("other"))
    other.commit(a="x")
    work.git("submodule", "add", "--quiet", str(other.path), "vllm/inner")
    work.git("commit", "--quiet", "-m", "inner")
    inner = Work(path=work.path / "vllm/inner")
    inner.git("config", "core.fsmonitor", str(trap))
    inner.git("config", "filter.x.clean", str(trap))
    inner.write(inner.git("rev-parse", "--git-path", "info/attributes"), "* filter=x\n")
    # Of the same size, so that git has to look into it.
    inner.write("a", "y")


def _promised(work: Work, trap: Path, **settings: str) -> None:
    """What is missing would be fetched from a remote that starts a program."""
    work.git("repack", "--quiet", "-a", "-d")
    for pack in (work.path / ".git/objects/pack").glob("*.pack"):
        pack.with_suffix(".promisor").touch()
    work.write("vllm/gone.py", "gone\n")
    oid = work.git("hash-object", "-w", "vllm/gone.py")
    work.git("add", "vllm/gone.py")
    tree = work.git("write-tree")
    work.git("update-ref", "HEAD", work.git("commit-tree", tree, "-m", "x", "-p", "HEAD"))
    (work.path / ".git/objects" / oid[:2] / oid[2:]).unlink()
    work.git("config", "core.repositoryFormatVersion", "1")
    for key, value in {"extensions.partialClone": "r", "remote.r.promisor": "true", **settings}.items():
        work.git("config", key, value.format(trap=trap))


def _promised_by_a_program(work: Work, trap: Path) -> None:
    _promised(work, trap, **{"remote.r.url": "ext::{trap}", "protocol.ext.allow": "always"})


def _promised_by_ssh(work: Work, trap: Path) -> None:
    _promised(work, trap, **{"remote.r.url": "ssh://x/y", "core.sshCommand": "{trap}"})


def _promised_by_a_folder(work: Work, trap: Path) -> None:
    _promised(work, trap, **{"remote.r.url": str(work.path), "remote.r.uploadpack": "{trap}"})


def _promised_by_a_proxy(work: Work, trap: Path) -> None:
    _promised(work, trap, **{"remote.r.url": "git://x/y", "core.gitProxy": "{trap}", "remote.r.vcs": "ext"})


TRAPS = (
    _clean_filter,
    _required_filter,
    _filter_process,
    _filter_of_a_tracked_file,
    _included_filter,
    _filter_of_the_worktree,
    _monitor,
    _hooks,
    _hooks_path,
    _signatures,
    _diffs,
    _submodule_monitor,
    _promised_by_a_program,
    _promised_by_ssh,
    _promised_by_a_folder,
    _promised_by_a_proxy,
)


@pytest.mark.parametrize("lay", TRAPS, ids=lambda lay: lay.__name__.strip("_"))
def test_no_program_that_a_repository_names_is_started(
    vllm: Work, trap: Trap, lay: Callable[[Work, Path], None]
) -> None:
    lay(vllm, trap.path)
    # Laying one may have sprung it.
    (trap.path.parent / "started").unlink(missing_ok=True)
    assert read_all(vllm.path)["vllm/a.py"] == b"new\n"
    assert trap.sprung == ""


@pytest.mark.parametrize("lay", [_monitor, _hooks, _hooks_path], ids=lambda lay: lay.__name__.strip("_"))
@pytest.mark.parametrize("made", [Git.sealed, Git.reaching], ids=["sealed", "reaching"])
def test_git_starts_no_monitor_and_no_hook_of_the_directory_that_it_runs_on(
    vllm: Work, trap: Trap, lay: Callable[[Work, Path], None], made: Callable[[Path], Git]
) -> None:
    """The second line of defence: what holds if a view did take over the configuration."""
    lay(vllm, trap.path)
    git = made(vllm.path / ".git").given({"GIT_WORK_TREE": str(vllm.path), "GIT_OPTIONAL_LOCKS": "1"}, cwd=vllm.path)
    assert git.text("status", "--porcelain") == "M vllm/a.py"
    git.output("update-ref", "refs/heads/other", "HEAD")
    assert trap.sprung == ""


def test_sealed_git_does_not_look_into_submodules(vllm: Work, trap: Trap) -> None:
    _submodule_monitor(vllm, trap.path)
    (trap.path.parent / "started").unlink(missing_ok=True)
    git = Git.sealed(vllm.path / ".git").given({"GIT_WORK_TREE": str(vllm.path)}, cwd=vllm.path)
    assert "inner" not in git.text("status", "--porcelain")
    assert trap.sprung == ""


def test_sealed_git_fetches_from_nowhere(vllm: Work, tmp_path: Path) -> None:
    git = Git.sealed(Work.new(tmp_path / "other").path / ".git")
    with pytest.raises(GitError, match="transport 'file' not allowed"):
        git.output("fetch", str(vllm.path), "main")


def test_programs_of_the_users_own_settings_do_not_run_on_it_either(
    vllm: Work, trap: Trap, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (isolated / ".gitconfig").write_text(
        f'[filter "lfs"]\n\tclean = {trap.path} -- %f\n\trequired = true\n', encoding="utf-8"
    )
    monkeypatch.delenv("GIT_CONFIG_NOSYSTEM")
    vllm.write(".gitattributes", "* filter=lfs\n")
    assert read_all(vllm.path)["vllm/a.py"] == b"new\n"
    assert trap.sprung == ""


def test_an_archive_of_a_commit_runs_no_filter(vllm: Work, trap: Trap, tmp_path: Path) -> None:
    _clean_filter(vllm, trap.path)
    vllm.write(".gitattributes", "* filter=x\n")
    with contextlib.closing(Repository(vllm.path)) as source:
        source.archive(source.commit("HEAD"), tmp_path / "tree.tar")
    assert (tmp_path / "tree.tar").stat().st_size > 0
    assert trap.sprung == ""


def test_a_configuration_that_never_ends_is_not_read(vllm: Work) -> None:
    os.mkfifo(vllm.path / ".git/pipe")
    vllm.git("config", "core.excludesFile", str(vllm.path / ".git/pipe"))
    vllm.write(".git/config", (vllm.path / ".git/config").read_text() + "[include]\n\tpath = pipe\n")
    assert read_all(vllm.path)["vllm/a.py"] == b"new\n"
    (vllm.path / ".git/config").unlink()
    (vllm.path / ".git/pipe").rename(vllm.path / ".git/config")
    with pytest.raises(SourceError, match="is not a file"):
        Repository(vllm.path)


@pytest.mark.parametrize("name", [".git", "commondir", "gitdir", "HEAD"])
@pytest.mark.parametrize(
    "content", [b"gitdir: \0\n", b"\xff\n", b"", b"gitdir: " + b"x" * 5000, b"gitdir: .git\n", b"ref: ../../x\n"]
)
def test_links_that_lead_nowhere_are_told(vllm: Work, tmp_path: Path, name: str, content: bytes) -> None:
    vllm.git("worktree", "add", "--quiet", str(tmp_path / "linked"))
    file = tmp_path / "linked/.git" if name == ".git" else vllm.path / ".git/worktrees/linked" / name
    file.write_bytes(content)
    for path in (tmp_path / "linked", vllm.path / ".git/worktrees/linked"):
        with contextlib.suppress(SourceError):
            read_all(path)


def test_a_repository_with_a_working_tree_that_is_gone_is_told(vllm: Work) -> None:
    vllm.git("config", "core.worktree", "/nowhere")
    with contextlib.closing(Repository(vllm.path)) as source:
        assert source.is_users
        with pytest.raises(SourceError, match="does not exist: /nowhere"):
            _ = source.is_dirty


def test_the_working_tree_of_another_user_is_looked_at_only_when_it_is_asked_for(
    vllm: Work, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: vllm.path.stat().st_uid + 1)
    console = Console(quiet=False)
    with local(vllm.path, "HEAD", dirty=False, carried=NOTHING, console=console):
        assert "belongs to another user: its working tree is ignored" in capsys.readouterr().err
    with local(vllm.path, "HEAD", dirty=True, carried=NOTHING, console=console) as (target, _):
        assert target.text("vllm/a.py") == "new\n"


@pytest.mark.parametrize("name", [".", "..", ".git", ".Git"])
def test_a_name_that_git_does_not_check_out_is_told(vllm: Work, name: str) -> None:
    """In a layer, `vllm/../setup.py` would be another file than the one that was judged by its name."""
    tree = vllm.git("rev-parse", "HEAD:vllm")
    for below in (name, "vllm"):
        tree = vllm.git("mktree", stdin=f"040000 tree {tree}\t{below}\n".encode())
    commit = vllm.git("commit-tree", tree, "-m", "x")
    with contextlib.closing(Repository(vllm.path)) as source:
        with pytest.raises(SourceError, match=f"git does not check out the name 'vllm/{re.escape(name)}'"):
            source.listing(source.commit(commit))
        assert source.listing(source.commit("HEAD")).files


# --- What a file with a filter becomes ---------------------------------------------------------------------


def test_a_file_with_a_filter_goes_in_as_it_lies_and_is_named(vllm: Work, capsys: pytest.CaptureFixture[str]) -> None:
    vllm.git("config", "filter.upper.clean", "tr a-z A-Z")
    vllm.write(".gitattributes", "*.txt filter=upper\n")
    vllm.write("vllm/data.txt", "text")
    # Long before the index, so that its time stamp is enough to tell that it did not change.
    os.utime(vllm.write("vllm/kept.txt", "kept"), (10**9, 10**9))
    vllm.commit()
    assert vllm.git("show", "HEAD:vllm/kept.txt") == "KEPT"
    vllm.write("vllm/data.txt", "more text")
    with local(vllm.path, "HEAD", dirty=True, carried=NOTHING, console=Console(quiet=False)) as (target, _):
        assert target.text("vllm/data.txt") == "more text"
        # As git's index has it, which is what the time stamps say.
        assert target.text("vllm/kept.txt") == "KEPT"
    assert "filters are not run, files go in unchanged: vllm/data.txt\n" in capsys.readouterr().err


def test_line_ends_are_as_git_keeps_them(vllm: Work) -> None:
    vllm.git("config", "core.autocrlf", "true")
    (vllm.path / "vllm/a.py").write_bytes(b"one\r\ntwo\r\n")
    assert read_all(vllm.path)["vllm/a.py"] == b"one\ntwo\n"


# --- Bombs -------------------------------------------------------------------------------------------------

_MEMORY = 700 * 2**20


@pytest.fixture
def little_memory() -> None:
    """What children may take, from the time of the largest so far."""
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < _MEMORY, "a test before took more"


def _took() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _zeros(work: Work, size: int) -> str:
    """Write a blob of zeros, which packs a thousandfold; returns its id."""
    file = work.path / "zeros"
    with file.open("wb") as stream:
        stream.truncate(size)
    oid = work.git("hash-object", "-w", "zeros")
    file.unlink()
    return oid


def _commit_of(work: Work, path: str, oid: str) -> str:
    work.git("update-index", "--add", "--cacheinfo", f"100644,{oid},{path}")
    return work.git("commit-tree", work.git("write-tree"), "-m", "bomb", "-p", "HEAD")


@pytest.mark.usefixtures("little_memory")
def test_a_blob_that_packs_a_thousandfold_is_told_and_not_unpacked(vllm: Work) -> None:
    oid = _zeros(vllm, 3 * 10**8)
    bomb = _commit_of(vllm, "vllm/zeros", oid)
    with contextlib.closing(Repository(vllm.path)) as source:
        with pytest.raises(SourceError, match="takes more than 256 MiB"), source.blob(oid) as (_, content):
            content.read(10)
        assert source.sizes([oid]) == [3 * 10**8]
        # The next one is read all the same.
        with source.blob(vllm.git("rev-parse", "HEAD:vllm/a.py")) as (_, content):
            assert content.read() == b"old\n"
        assert source.listing(source.commit(bomb)).files["vllm/zeros"].oid == oid
    assert _took() < _MEMORY


def test_git_itself_unpacks_no_blob_of_that_size_however_it_is_configured(vllm: Work) -> None:
    bomb = _commit_of(vllm, "vllm/zeros", _zeros(vllm, 3 * 10**8))
    vllm.git("config", "core.bigFileThreshold", "1m")
    with pytest.raises(SourceError, match="an object needs more than 256 MiB of memory"):
        Git.sealed(vllm.path / ".git").output("archive", "--format=tar", bomb, limit=10**9)


@pytest.mark.usefixtures("little_memory")
def test_a_pyproject_of_many_megabytes_is_told(vllm: Work) -> None:
    bomb = _commit_of(vllm, "pyproject.toml", _zeros(vllm, 10**7))
    with contextlib.closing(Repository(vllm.path)) as source:
        target = Target.of(source, source.commit(bomb))
        with pytest.raises(SourceError, match=r"pyproject\.toml of \w+ has 10 MB"):
            _ = target.pyproject
    assert _took() < _MEMORY


@pytest.mark.usefixtures("little_memory")
def test_a_tree_that_names_itself_again_and_again_is_told(vllm: Work) -> None:
    blob = vllm.git("rev-parse", "HEAD:vllm/a.py")
    tree = vllm.git("mktree", stdin=b"".join(b"100644 blob %s\tf%d\n" % (blob.encode(), n) for n in range(10)))
    for _ in range(9):
        tree = vllm.git("mktree", stdin=b"".join(b"040000 tree %s\td%d\n" % (tree.encode(), n) for n in range(10)))
    bomb = vllm.git("commit-tree", tree, "-m", "bomb")
    with contextlib.closing(Repository(vllm.path)) as source, pytest.raises(SourceError, match="too large to read"):
        source.listing(source.commit(bomb))
    assert _took() < _MEMORY


@pytest.mark.usefixtures("little_memory")
def test_a_message_of_many_megabytes_is_told(vllm: Work) -> None:
    raw = vllm.git("cat-file", "commit", "HEAD") + "\n"
    with (vllm.path / "message").open("w", encoding="utf-8") as stream:
        stream.write(raw.replace("\n\nx", "\n\n" + "x" * 10**8))
    bomb = vllm.git("hash-object", "-t", "commit", "-w", "message")
    with contextlib.closing(Repository(vllm.path)) as source, pytest.raises(LlmdDevError, match="too large to read"):
        source.commit(bomb)
    assert _took() < _MEMORY


def test_an_archive_of_gigabytes_is_refused(vllm: Work, tmp_path: Path) -> None:
    oid = _zeros(vllm, 10**8)
    for number in range(11):
        vllm.git("update-index", "--add", "--cacheinfo", f"100644,{oid},zeros{number}")
    bomb = vllm.git("commit-tree", vllm.git("write-tree"), "-m", "bomb")
    with contextlib.closing(Repository(vllm.path)) as source, pytest.raises(SourceError, match=r"1\.1 GB of files"):
        source.archive(source.commit(bomb), tmp_path / "tree.tar")
    assert not (tmp_path / "tree.tar").exists()


# --- One room ----------------------------------------------------------------------------------------------


def test_git_is_run_in_one_place() -> None:
    root = Path(__file__).parents[2]
    places = [
        str(file.relative_to(root))
        for folder in ("build", "smoke")
        for file in sorted((root / folder).rglob("*.py"))
        if re.search(r'\[\s*"git"|^import git$', file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert places == ["build/source/git.py"]
