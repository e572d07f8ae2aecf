"""Commits from a remote: a real `git daemon` on the loopback interface."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import git
import pytest

from build.config.folders import REPOSITORY
from build.console import Console
from build.errors import SourceError, UsageError
from build.host import stored
from build.source.damage import is_sound
from build.source.mirror import Mirror, Remote
from tests.unit.test_worktree import commit
from tests.unit.work import contents

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[git.Repo]:
    """Two commits on main, a tag with an object of its own, a pull request."""
    with contextlib.closing(git.Repo.init(tmp_path / "served" / "vllm", initial_branch="main")) as repository:
        folder = Path(repository.working_dir)
        (folder / "a.py").write_text("first\n")
        commit(repository, "First")
        repository.git.execute(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "tag", "-am", "t", "v1"])
        (folder / "a.py").write_text("second\n")
        (folder / "b.py").write_text("another\n")
        commit(repository, "Second")
        repository.git.checkout("-qb", "proposal")
        (folder / "c.py").write_text("proposed\n")
        commit(repository, "Third")
        repository.git.update_ref("refs/pull/7/head", "proposal")
        repository.git.checkout("-q", "main")
        repository.git.branch("-qD", "proposal")
        repository.git.config("uploadpack.allowFilter", "true")
        repository.git.config("uploadpack.allowAnySHA1InWant", "true")
        yield repository


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def remote(upstream: git.Repo) -> Iterator[Remote]:
    port = free_port()
    base = Path(upstream.working_dir).parent
    argv = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", f"--base-path={base}", "--export-all", str(base)]
    with subprocess.Popen(argv, start_new_session=True) as daemon:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield Remote(name="vllm", address=f"git://127.0.0.1:{port}/vllm")
        finally:
            daemon.terminate()


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "cache" / "vllm.git", console=Console(quiet=True))


def held(mirror: Mirror) -> set[str]:
    """Ids of all objects in the mirror."""
    listed = git.Git(mirror.path).cat_file("--batch-all-objects", "--batch-check=%(objectname)")
    return set(listed.split())


@pytest.mark.parametrize("wanted", ["main", "v1", "pull/7", "HEAD"])
def test_names_are_found(mirror: Mirror, remote: Remote, upstream: git.Repo, wanted: str) -> None:
    refs = {"main": "main", "v1": "v1^{commit}", "pull/7": "refs/pull/7/head", "HEAD": "HEAD"}
    assert mirror.commit(remote, wanted).id == upstream.git.rev_parse(refs[wanted])


def test_ids_are_found_full_and_short_also_in_history(mirror: Mirror, remote: Remote, upstream: git.Repo) -> None:
    first = upstream.git.rev_parse("main~1")
    assert mirror.commit(remote, first).subject == "First"
    assert mirror.commit(remote, first[:9]).id == first
    assert mirror.commit(remote, upstream.git.rev_parse("main")[:9]).subject == "Second"


def test_only_trees_come_with_a_commit_and_blobs_when_they_are_named(
    mirror: Mirror, remote: Remote, upstream: git.Repo
) -> None:
    commit_ = mirror.commit(remote, "main")
    blob = upstream.git.rev_parse("main:a.py")
    assert held(mirror) == {commit_.id, upstream.git.rev_parse("main^{tree}")}
    mirror.fetch_blobs(remote, [blob])
    assert held(mirror) == {commit_.id, upstream.git.rev_parse("main^{tree}"), blob}


def test_what_is_here_needs_no_remote(mirror: Mirror, remote: Remote, upstream: git.Repo) -> None:
    oid = upstream.git.rev_parse("main")
    mirror.commit(remote, oid)
    nowhere = Remote(name="vllm", address="git://127.0.0.1:1/vllm")
    assert mirror.commit(nowhere, oid).id == oid


@pytest.mark.parametrize("wanted", ["no-such-branch", "pull/8", "0123456789"])
def test_an_unknown_name_says_where_it_looked(mirror: Mirror, remote: Remote, wanted: str) -> None:
    with pytest.raises(SourceError, match=r"vllm \(git://"):
        mirror.commit(remote, wanted)


def test_the_tip_of_a_branch_is_asked_for_and_nothing_fetched(
    mirror: Mirror, remote: Remote, upstream: git.Repo
) -> None:
    assert mirror.tip(remote, "main") == upstream.git.rev_parse("main")
    assert held(mirror) == set()
    with pytest.raises(SourceError, match="no branch 'other'"):
        mirror.tip(remote, "other")


def test_ancestors_are_first_parents_and_come_without_trees(mirror: Mirror, remote: Remote, upstream: git.Repo) -> None:
    first, second = upstream.git.rev_parse("main~1"), upstream.git.rev_parse("main")
    upstream.git.checkout("-qb", "side", first)
    commit(upstream, "Aside")
    upstream.git.checkout("-q", "main")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    upstream.git.execute(["git", *identity, "merge", "--quiet", "--no-ff", "-m", "Merge", "side"])
    merged = upstream.git.rev_parse("main")
    assert mirror.ancestors(remote, merged, count=5) == [second, first]
    assert mirror.ancestors(remote, merged, count=1) == [second]
    # A commit that is here without its history does not stand in the way.
    mirror.commit(remote, merged)
    assert mirror.ancestors(remote, merged, count=5) == [second, first]
    with pytest.raises(SourceError):
        mirror.ancestors(remote, "0" * 40, count=5)


def test_runs_on_one_mirror_wait_for_each_other(mirror: Mirror, remote: Remote, upstream: git.Repo) -> None:
    ids = upstream.git.rev_list("main").split()
    code = (
        "import sys; from pathlib import Path\n"
        "from build.console import Console; from build.source.mirror import Mirror, Remote\n"
        "mirror = Mirror(Path(sys.argv[1]), console=Console(quiet=True))\n"
        "print(mirror.commit(Remote(name='vllm', address=sys.argv[2]), sys.argv[3]).id)"
    )
    argv = [sys.executable, "-c", code, str(mirror.path), remote.address]
    runs = [
        subprocess.Popen([*argv, oid], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for oid in (*ids, "main", "v1")
    ]
    ended = [(run.communicate(), run.returncode) for run in runs]
    assert [said for said, status in ended if status] == []


def test_what_a_killed_run_has_left_does_not_stand_in_the_way(mirror: Mirror, remote: Remote) -> None:
    mirror.commit(remote, "v1")
    for name in ("shallow.lock", "config.lock", "objects/pack/x.lock"):
        (mirror.path / name).touch()
    assert mirror.commit(remote, "main").subject == "Second"


def test_whatever_is_in_the_place_of_a_mirror_makes_way(mirror: Mirror, remote: Remote) -> None:
    mirror.path.parent.mkdir(parents=True)
    mirror.path.write_text("no folder")
    assert mirror.commit(remote, "main").subject == "Second"
    stored.clear(mirror.path)
    mirror.path.mkdir()
    assert mirror.commit(remote, "main").subject == "Second"


def test_a_damaged_mirror_in_somebodys_repository_is_mended_and_that_repository_left_alone(
    remote: Remote, tmp_path: Path
) -> None:
    git.Repo.init(tmp_path / "outer").close()
    mirror = Mirror(tmp_path / "outer/cache/vllm.git", console=Console(quiet=True))
    mirror.commit(remote, "v1")
    before = contents(tmp_path / "outer/.git")
    for folder in sorted(mirror.path.rglob("*"), reverse=True):
        # As those clean up who look for empty folders.
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    assert mirror.commit(remote, "main").subject == "Second"
    assert contents(tmp_path / "outer/.git") == before


def test_what_git_says_first_is_told(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"git ls-remote failed: fatal: .*nowhere.* does not (appear|exist)"):
        mirror.commit(Remote(name="x", address=f"file://{tmp_path}/nowhere"), "main")


def test_short_ids_are_of_the_remote_as_it_is(
    mirror: Mirror, remote: Remote, upstream: git.Repo, tmp_path: Path
) -> None:
    # No tip of anything: it is looked for in the history.
    upstream.git.tag("--delete", "v1")
    first = upstream.git.rev_parse("main~1")
    upstream.git.branch("fix")
    assert mirror.commit(remote, first[:9].upper()).id == first
    # A name that excludes the one before, in the same remote and in another.
    upstream.git.branch("-D", "fix")
    upstream.git.branch("fix/deep")
    assert mirror.commit(remote, first[:10]).id == first
    with contextlib.closing(git.Repo.init(tmp_path / "other", initial_branch="fix")) as other:
        theirs = commit(other, "Theirs")
        commit(other, "Later")
    elsewhere = Remote(name="other", address=f"file://{tmp_path / 'other'}")
    assert mirror.commit(elsewhere, theirs[:9]).id == theirs
    with pytest.raises(SourceError, match="no commit of vllm"):
        mirror.commit(remote, theirs[:9])


def test_a_tag_of_a_tree_is_no_commit(mirror: Mirror, remote: Remote, upstream: git.Repo) -> None:
    upstream.git.tag("tree", "main^{tree}")
    with pytest.raises(SourceError, match=r"'tree' of vllm .* is not a commit"):
        mirror.commit(remote, "tree")


def test_an_offline_machine_gets_a_clear_error(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(SourceError, match="is not reachable"):
        mirror.commit(Remote(name="vllm", address="git://127.0.0.1:1/vllm"), "main")


def test_a_remote_is_a_known_name_or_an_address() -> None:
    assert Remote.named("njhill").address == "https://github.com/njhill/vllm.git"
    assert Remote.named("git@example.com:a/b.git").address == "git@example.com:a/b.git"
    for word in ("nobody", "--upload-pack=x@y:", "-ox@y:z", "ext::sh -c x", "ext::sh -c a@b:", "file:", ""):
        with pytest.raises(SourceError, match="is not a remote"):
            Remote.named(word)


@pytest.mark.parametrize(
    "address", ["https://user:secret@x.example/a", "https://token@x.example/a", "ssh://a:secret@x/y"]
)
def test_an_address_with_a_password_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(UsageError, match="password or token") as caught:
        Remote.named(address)
    assert "secret" not in caught.value.what
    assert Remote.named("ssh://git@x.example/a").address == "ssh://git@x.example/a"


def _each(folder: Path, pattern: str, content: bytes) -> None:
    for path in folder.rglob(pattern):
        path.chmod(0o644)
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        ("HEAD", b""),
        ("config", b"[[["),
        ("shallow", b"x"),
        ("packed-refs", b"\xff x"),
        ("*.pack", b""),
        ("*.idx", b"x"),
    ],
)
def test_a_mirror_that_was_damaged_is_fetched_anew(
    mirror: Mirror, remote: Remote, upstream: git.Repo, pattern: str, content: bytes
) -> None:
    oid = mirror.commit(remote, "main").id
    (mirror.path / "packed-refs").touch()
    _each(mirror.path, pattern, content)
    found = Mirror(mirror.path, console=Console(quiet=True)).commit(remote, oid)
    assert found.id == upstream.git.rev_parse("main")
    assert is_sound(mirror.path)


def test_a_mirror_that_is_sound_is_kept_where_nothing_is_found(mirror: Mirror, remote: Remote) -> None:
    oid = mirror.commit(remote, "main").id
    before = held(mirror)
    assert is_sound(mirror.path)
    with pytest.raises(SourceError):
        mirror.commit(remote, "no-such-branch")
    assert held(mirror) == before
    assert oid in before
