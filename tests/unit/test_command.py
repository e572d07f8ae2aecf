"""Running other programs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from build.config.folders import REPOSITORY
from build.host import process

if TYPE_CHECKING:
    from pathlib import Path

# Says when it is ready, counts what it is sent, and takes a moment to clean up.
_TIDY = """
trap 'echo INT >> "$1/signals"' INT
trap 'echo TERM >> "$1/signals"; exit 4' TERM
echo $$ > "$1/pid"
echo ready
while [ ! -e "$1/signals" ]; do sleep 0.01; done
sleep 0.1; sleep 0.1
touch "$1/tidy"
exit 3
"""
_STUBBORN = """
trap 'echo INT >> "$1/signals"' INT
trap 'echo TERM >> "$1/signals"' TERM
echo $$ > "$1/pid"
echo ready
while :; do sleep 0.01; done
"""


def interrupt(line: str) -> None:
    if line == "ready":
        os.kill(os.getpid(), signal.SIGINT)


def signals(folder: Path) -> list[str]:
    return (folder / "signals").read_text().split()


def is_gone(folder: Path) -> bool:
    """Not even a zombie: somebody waited for it."""
    pid = int((folder / "pid").read_text())
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_output_comes_line_by_line_and_standard_error_with_it() -> None:
    seen: list[str] = []
    done = process.run(["sh", "-c", "echo one; echo two >&2; printf three"], on_line=seen.append)
    assert seen == ["one", "two", "three"]
    assert (done.returncode, done.text) == (0, "one\ntwo\nthree")


def test_a_status_other_than_zero_is_told_and_no_error() -> None:
    assert process.run(["sh", "-c", "exit 7"]).returncode == 7
    assert process.run(["sh", "-c", "kill -KILL $$"]).returncode == -signal.SIGKILL


def test_only_the_end_of_a_long_output_is_kept() -> None:
    done = process.run(["seq", "1000"])
    assert done.tail[-1] == "1000"
    assert len(done.tail) < 1000


def test_a_line_without_end_comes_in_pieces() -> None:
    pieces: list[str] = []
    done = process.run(["head", "-c", str(10 * 2**20), "/dev/zero"], on_line=pieces.append)
    assert done.returncode == 0
    assert sum(map(len, pieces)) == 10 * 2**20
    assert max(map(len, pieces)) <= 1 << 16


def test_bytes_that_are_no_text_do_not_stop_it() -> None:
    assert process.run(["printf", r"a\377b\n"]).text == "a\N{REPLACEMENT CHARACTER}b"


def test_no_shell_reads_the_words(tmp_path: Path) -> None:
    words = ["a b", "$HOME", "'", '"', "", f"; touch {tmp_path}/x"]
    assert process.run(["printf", r"%s\n", *words]).tail == tuple(words)
    assert not (tmp_path / "x").exists()


def test_variables_are_added_to_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    done = process.run(["sh", "-c", "echo $OURS $THEIRS; pwd"], env={"THEIRS": "2"}, cwd=tmp_path)
    assert done.tail == ("1 2", str(tmp_path))


def test_nothing_can_ask_for_input() -> None:
    assert process.run(["cat"]).returncode == 0
    assert process.output(["cat"]) == b""


def test_output_is_exact_and_without_standard_error(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b" \x00\n\n")
    with (tmp_path / "in").open("rb") as stdin:
        assert process.output(["sh", "-c", "echo noise >&2; cat"], stdin=stdin) == b" \x00\n\n"


def test_output_of_a_program_that_fails_is_an_error_with_its_words() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        process.output(["sh", "-c", "echo half; echo why >&2; exit 5"])
    assert (caught.value.returncode, caught.value.output, caught.value.stderr) == (5, b"half\n", b"why\n")


def test_an_interrupt_is_passed_on_once_and_its_clean_up_waited_for(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", _TIDY, "sh", tmp_path], on_line=interrupt)
    assert signals(tmp_path) == ["INT"]
    assert (tmp_path / "tidy").exists()
    assert is_gone(tmp_path)


def test_ctrl_c_at_the_terminal_reaches_the_program_once(tmp_path: Path) -> None:
    run = f"from build.host import process; process.run(['sh', '-c', {_TIDY!r}, 'sh', {str(tmp_path)!r}])"
    # The terminal signals every process of its foreground group.
    with subprocess.Popen(
        [sys.executable, "-c", run], cwd=REPOSITORY, start_new_session=True, stderr=subprocess.DEVNULL
    ) as group:
        deadline = time.monotonic() + 10
        while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(group.pid, signal.SIGINT)
        assert group.wait(timeout=10) == -signal.SIGINT
    assert signals(tmp_path) == ["INT"]
    assert (tmp_path / "tidy").exists()


def test_an_interrupt_in_the_middle_of_a_line_is_heeded_at_once(tmp_path: Path) -> None:
    # Of the first part of a line there is more than is taken in at once; then the program stands still.
    part = f"""
    import os, pathlib, signal, time
    os.write(1, b"." * 100_000)
    os.kill({os.getpid()}, signal.SIGINT)
    time.sleep(10)
    pathlib.Path({str(tmp_path / "went on")!r}).touch()
    """
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            process.run([sys.executable, "-c", textwrap.dedent(part)])
        assert not (tmp_path / "went on").exists()


def test_what_ignores_an_interrupt_is_terminated_and_then_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_GRACE_S", 0.2)
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", _STUBBORN, "sh", tmp_path], on_line=interrupt)
    assert signals(tmp_path) == ["INT", "TERM"]
    assert is_gone(tmp_path)


def test_a_second_ctrl_c_does_not_wait_out_the_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GRACE_S", 60.0)
    # The program itself sends us the second one, while we wait for it to end; it says so if it may go on.
    busy = f"""
    trap 'echo INT >> "$1/signals"; kill -INT {os.getpid()}; sleep 10 & wait $!; echo OVER >> "$1/signals"; exit' INT
    echo $$ > "$1/pid"; echo ready
    while :; do sleep 0.01; done
    """
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", busy, "sh", tmp_path], on_line=interrupt)
    assert signals(tmp_path) == ["INT"]
    assert is_gone(tmp_path)


def test_a_program_that_says_much_when_interrupted_can_end(tmp_path: Path) -> None:
    talkative = _TIDY.replace("sleep 0.1; sleep 0.1", "seq 100000")
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", talkative, "sh", tmp_path], on_line=interrupt)
    assert signals(tmp_path) == ["INT"]
    assert (tmp_path / "tidy").exists()


def test_helpers_that_a_program_leaves_end_with_it(tmp_path: Path) -> None:
    # As git leaves those that wait for a server, with its pipes in their hands.
    helper = 'echo $$ > "$1/pid"; echo ready; exec sleep 60'
    leaving = f"sh -c '{helper}' sh \"$1\" & trap 'exit 1' INT; wait"
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", leaving, "sh", tmp_path], on_line=interrupt)
    # Nobody waits for what has lost its parent; it may still be listed for a moment.
    deadline = time.monotonic() + 5
    while not is_gone(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(tmp_path)


def test_a_full_disk_is_told_by_its_name() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        process.output(["sh", "-c", "echo error: x >&2; echo fatal: write: No space left on device >&2; exit 128"])
    assert caught.value.errno == errno.ENOSPC


def test_an_error_in_the_caller_ends_the_program_too(tmp_path: Path) -> None:
    def fail(_line: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        process.run(["sh", "-c", _TIDY, "sh", tmp_path], on_line=fail)
    assert is_gone(tmp_path)


def test_output_without_end_ends_the_program() -> None:
    with pytest.raises(process.LimitError, match="printed more than 100000 bytes"):
        process.output(["yes"], limit=100_000)
    assert process.output(["printf", "x"], limit=1) == b"x"


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(process.LimitError, match=r"took longer than 0\.1 s"):
        process.output(["sleep", "600"], limit=1, seconds=0.1)
