"""Telling a run that is gone from one that is not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from build.config.folders import REPOSITORY
from build.host import identity


def test_this_process_is_alive() -> None:
    assert identity.alive(identity.identity())
    assert identity.identity() == identity.identity(os.getpid())


def test_an_ended_process_is_not() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        who = identity.identity(process.pid)
        assert identity.alive(who)
        process.kill()
        process.wait()
    assert not identity.alive(who)
    assert not identity.alive(identity.identity(process.pid))


def altered(**parts: str) -> str:
    """This process's identity with other parts."""
    names = ("host", "machine", "boot", "namespace", "pid", "started")
    return ":".join((dict(zip(names, identity.identity().split(":"), strict=True)) | parts).values())


def test_a_later_process_with_the_same_number_is_another() -> None:
    assert not identity.alive(altered(started="1"))


def test_a_process_of_another_pid_namespace_counts_as_alive() -> None:
    """As two containers that share an engine: what is process 7 in one is another process, or none, in the other."""
    assert identity.alive(altered(namespace="4026532999", pid="4194304", started="1"))


def test_a_process_in_a_pid_namespace_of_its_own_counts_as_alive() -> None:
    program = "from build.host import identity; print(identity.identity())"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this machine allows no namespaces: {done.stderr}")
    who = done.stdout.strip()
    assert who.split(":")[:3] == identity.identity().split(":")[:3]
    assert identity.alive(who)


@pytest.mark.parametrize(("namespace", "lives"), [("4026531836", False), ("4026532999", True)])
def test_a_restart_ended_what_ran_before_where_it_can_be_told(
    monkeypatch: pytest.MonkeyPatch, namespace: str, *, lives: bool
) -> None:
    """A container with a copied machine-id may be on another machine that shares the engine."""
    before = altered(boot="0" * 8, namespace=namespace)
    monkeypatch.setattr(identity, "_kernel", lambda: (before.split(":")[1], "1" * 8, namespace))
    assert identity.alive(before) == lives
    assert identity.alive(before.replace(before.split(":")[1], "f" * 8))


def test_a_process_that_proc_hides_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """``hidepid`` hides other users' processes: that they exist can be told, not since when."""
    with subprocess.Popen(["sleep", "60"]) as process:
        who = identity.identity(process.pid)
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
        assert identity.alive(who)
        process.kill()
        process.wait()
        assert not identity.alive(who)


def test_a_machine_that_does_not_tell_judges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_kernel", lambda: ("unknown",) * 3)
    assert identity.alive(altered(started="1"))


@pytest.mark.parametrize("host", ["ci-runner-7.example", "x" * 64, "a"])
def test_an_identity_survives_being_part_of_a_name(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    who = identity.identity()
    assert identity.from_name(identity.in_name(who)) == who
    assert not identity.alive(altered(started="1"))


def test_a_process_with_an_odd_name_is_read_right(tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("x") / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        assert identity.alive(identity.identity(process.pid))
        process.kill()


@pytest.mark.parametrize(
    "who",
    [altered(host="other"), altered(machine="0" * 8), "", "x", "a:b:c", f"{socket.gethostname()}:1:1"],
    ids=["host", "machine", "empty", "word", "words", "short"],
)
def test_what_is_of_another_machine_or_no_identity_is_not_ours_to_judge(who: str) -> None:
    assert identity.alive(who)
