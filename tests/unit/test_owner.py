"""Telling a run that is gone from one that is not."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from build import owner


def test_this_process_is_alive() -> None:
    assert owner.alive(owner.identity())
    assert owner.identity() == owner.identity(os.getpid())


def test_an_ended_process_is_not() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        who = owner.identity(process.pid)
        assert owner.alive(who)
        process.kill()
        process.wait()
    assert not owner.alive(who)
    assert not owner.alive(owner.identity(process.pid))


def test_a_later_process_with_the_same_number_is_another() -> None:
    host, pid, started = owner.identity().rsplit(":", 2)
    assert not owner.alive(f"{host}:{pid}:{int(started) - 1}")


def test_a_process_with_an_odd_name_is_read_right(tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("x") / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        assert owner.alive(owner.identity(process.pid))
        process.kill()


@pytest.mark.parametrize("who", [f"other-{socket.gethostname()}:1:1", "", "x", "a:b:c", f"{socket.gethostname()}:1"])
def test_what_is_of_another_machine_or_no_identity_is_not_ours_to_judge(who: str) -> None:
    assert owner.alive(who)
