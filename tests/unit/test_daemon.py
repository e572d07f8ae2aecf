"""Starting, recognising and stopping a daemon, with a shell script in its place."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from build.errors import EngineError
from build.host import background
from build.host.background import Daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Daemon]]:
    """Makes a daemon of a shell script; it is gone after the test."""
    script = tmp_path / "daemon.sh"

    def make(text: str) -> Daemon:
        script.write_text(text, encoding="utf-8")
        return Daemon(argv=("sh", str(script)), log=tmp_path / "logs/daemon.log", shields=("STRANGE_",))

    yield make
    background.stop(make(""), grace_s=0)


def ready_when(path: Path) -> Callable[[], bool]:
    return path.exists


def test_a_started_daemon_runs_in_a_session_of_its_own(make: Callable[[str], Daemon], tmp_path: Path) -> None:
    server = make(f"echo hello; touch {tmp_path}/ready; while :; do sleep 0.05; done")
    background.start(server, ready=ready_when(tmp_path / "ready"), timeout_s=10)
    pid = server.pid()
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    assert server.log.read_text() == "hello\n"


def test_a_stopped_daemon_is_gone(make: Callable[[str], Daemon], tmp_path: Path) -> None:
    server = make(f"touch {tmp_path}/ready; while :; do sleep 0.05; done")
    background.start(server, ready=ready_when(tmp_path / "ready"), timeout_s=10)
    assert background.stop(server, grace_s=10)
    assert server.pid() is None
    assert not background.stop(server, grace_s=10)


def test_a_daemon_that_ignores_sigterm_is_killed(make: Callable[[str], Daemon], tmp_path: Path) -> None:
    server = make(f"trap '' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done")
    background.start(server, ready=ready_when(tmp_path / "ready"), timeout_s=10)
    assert background.stop(server, grace_s=0.3)
    assert server.pid() is None


def test_a_daemon_that_stops_by_itself_on_sigterm_is_not_killed(make: Callable[[str], Daemon], tmp_path: Path) -> None:
    farewell = f"trap 'sleep 0.3; touch {tmp_path}/tidy; exit' TERM"
    server = make(f"{farewell}; touch {tmp_path}/ready; while :; do sleep 0.05; done")
    background.start(server, ready=ready_when(tmp_path / "ready"), timeout_s=10)
    background.stop(server, grace_s=10)
    assert (tmp_path / "tidy").exists()


def test_death_while_starting_is_noticed_with_the_end_of_the_log(
    make: Callable[[str], Daemon],
) -> None:
    server = make("seq 1 1000; echo 'no such disk' >&2; exit 3")
    with pytest.raises(EngineError, match=r"ended while starting: 999 \| 1000 \| no such disk$") as caught:
        background.start(server, ready=lambda: False, timeout_s=60)
    assert str(server.log) in caught.value.hint


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    server = Daemon(argv=("no-such-daemon", str(tmp_path / "x")), log=tmp_path / "log", shields=())
    with pytest.raises(EngineError, match="no-such-daemon: not found"):
        background.start(server, ready=lambda: False, timeout_s=60)


def test_a_daemon_that_never_gets_ready_is_stopped(make: Callable[[str], Daemon]) -> None:
    server = make("echo waiting for Godot; while :; do sleep 0.05; done")
    with pytest.raises(EngineError, match=r"does not answer after 1 s: waiting for Godot"):
        background.start(server, ready=lambda: False, timeout_s=1)
    assert server.pid() is None


def test_an_interrupt_while_starting_leaves_nothing_running(make: Callable[[str], Daemon]) -> None:
    server = make("while :; do sleep 0.05; done")

    def interrupt() -> bool:
        if server.pid() is not None:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        background.start(server, ready=interrupt, timeout_s=60)
    assert server.pid() is None


def test_the_log_of_the_start_before_is_kept(make: Callable[[str], Daemon], tmp_path: Path) -> None:
    for text in ("first", "second"):
        (tmp_path / "ready").unlink(missing_ok=True)
        server = make(f"echo {text}; touch {tmp_path}/ready; while :; do sleep 0.05; done")
        background.start(server, ready=ready_when(tmp_path / "ready"), timeout_s=10)
        background.stop(server, grace_s=10)
    assert server.log.read_text() == "second\n"
    assert server.log.with_name("daemon.log.1").read_text() == "first\n"


def test_variables_meant_for_other_programs_do_not_reach_it(
    make: Callable[[str], Daemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRANGE_AUTH_FILE", "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    server = make(f"env; touch {tmp_path}/ready; while :; do sleep 0.05; done")
    background.start(server, ready=ready_when(tmp_path / "ready"), timeout_s=10)
    assert "STRANGE_AUTH_FILE" not in server.log.read_text()
    assert "HTTPS_PROXY=http://proxy.example" in server.log.read_text()


def test_a_daemon_that_is_just_being_launched_is_ours_already(make: Callable[[str], Daemon]) -> None:
    server = make("")
    with subprocess.Popen(["sh", "-c", "sleep 60; :", str(server.log), *server.argv]) as launcher:
        assert server.pid() == launcher.pid
        background.stop(server, grace_s=0)


@pytest.mark.parametrize("last", ["other.conf", "mine.conf more", "mine.conf\nlonger"])
def test_a_process_with_another_command_line_is_not_ours(tmp_path: Path, last: str) -> None:
    server = Daemon(argv=("sleep", "serve", "mine.conf"), log=tmp_path / "log", shields=())
    stranger = subprocess.Popen(["sh", "-c", "sleep 60; :", "sleep", "serve", *last.split(" ")])
    try:
        assert server.pid() is None
        assert not background.stop(server, grace_s=0)
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()


def test_a_number_that_passed_to_another_process_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        background.end(stranger.pid, ours=lambda _pid: False, grace_s=0)
        assert stranger.poll() is None
        background.end(stranger.pid, ours=lambda pid: pid == stranger.pid, grace_s=0)
        assert stranger.wait() == -signal.SIGKILL


def test_ending_a_process_that_is_gone_is_no_error() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    background.end(gone.pid, ours=lambda _pid: True, grace_s=1)


def test_a_zombie_does_not_count_as_running(tmp_path: Path) -> None:
    server = Daemon(argv=("true", str(tmp_path / "x")), log=tmp_path / "log", shields=())
    with subprocess.Popen([*server.argv]) as zombie:
        time.sleep(0.3)
        assert zombie.returncode is None
        assert server.pid() is None


def test_a_process_is_seen_while_it_becomes_another_program(make: Callable[[str], Daemon], tmp_path: Path) -> None:
    server = make(f'[ -e {tmp_path}/ready ] || touch {tmp_path}/ready; exec sh "$0"')
    background.start(server, ready=ready_when(tmp_path / "ready"), timeout_s=10)
    assert None not in [server.pid() for _ in range(300)]


def test_disk_usage_counts_what_is_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    assert 100_000 <= background.disk_usage(tmp_path) < 200_000
    assert background.disk_usage(tmp_path / "absent") == 0
