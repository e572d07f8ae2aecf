"""Daemons of this tool, which outlive the run that started them.

A daemon is recognised by its command line, which names a configuration file in this tool's own folders. So no pid file
can go stale, and no other process is ever signalled. Signals go through pidfd_open(2), which is safe when a process ID
passes to another process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import EngineError
from build.host import process
from build.host.apt import SYSTEM_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROC = Path("/proc")
_POLL_S = 0.1
_KILLED_S = 10.0
# Half a second: on a loaded machine, a process may stay in the middle of execve(2).
_LOOKS = 500
_LOOK_S = 0.001
_TAIL_LINES = 3
_TAIL_BYTES = 20_000
_TAIL_WIDTH = 300

# The daemon's own shell opens the log, so the daemon goes on writing after this process and its pipes are gone.
_LAUNCH = 'exec "$@" >>"$0" 2>&1 </dev/null'


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A daemon and what identifies its process.

    Attributes:
        argv: Program and arguments: short and the same in every version, because a running daemon is recognised by
            them. They must name a file of this daemon alone, which holds all other options.
        log: Log file. The log of the previous start is kept next to it, with the suffix ``.1``.
        shields: Prefixes of environment variables to hide from the daemon.
    """

    argv: tuple[str, ...]
    log: Path
    shields: tuple[str, ...]

    @property
    def name(self) -> str:
        """The program's name."""
        return Path(self.argv[0]).name

    def owns(self, pid: int) -> bool:
        """Return whether a process is this daemon, even during its launch."""
        words = arguments(pid)[-len(self.argv) :]
        return words[1:] == self.argv[1:] and [Path(word).name for word in words[:1]] == [self.name]

    def pid(self) -> int | None:
        """Return the daemon's process ID, or None if it does not run."""
        return next((pid for pid in pids() if self.owns(pid)), None)


def pids() -> Iterator[int]:
    """Yield every visible process."""
    return (int(path.name) for path in _PROC.iterdir() if path.name.isdigit())


def arguments(pid: int) -> tuple[str, ...]:
    """Return the command line of a process; empty for a missing process, a zombie, or one of the kernel's."""
    try:
        raw = _command_line(pid)
    except OSError:
        return ()
    return tuple(os.fsdecode(word) for word in raw.split(b"\0")[:-1])


def _command_line(pid: int) -> bytes:
    folder = _PROC / str(pid)
    for _ in range(_LOOKS):
        # During execve(2), a process has memory but no command line for a moment.
        if (raw := (folder / "cmdline").read_bytes()) or (folder / "statm").read_bytes().startswith(b"0 "):
            return raw
        time.sleep(_LOOK_S)
    return b""


def start(daemon: Daemon, *, ready: Callable[[], bool], timeout_s: float) -> None:
    """Start a daemon in a session of its own and wait until it is ready.

    A start that fails or is interrupted leaves nothing running.

    Args:
        daemon: The daemon; it must not run yet.
        ready: Tells whether the daemon works.
        timeout_s: Seconds to wait.

    Raises:
        EngineError: The daemon ended, or was not ready in time. The message quotes the end of its log.
    """
    daemon.log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        daemon.log.replace(f"{daemon.log}.1")
    daemon.log.touch(mode=0o600)
    try:
        _launch(daemon)
        wait(daemon, ready=ready, timeout_s=timeout_s)
    except BaseException:
        stop(daemon, grace_s=_KILLED_S)
        raise


def _launch(daemon: Daemon) -> None:
    hidden = [f"--unset={name}" for name in os.environ if name.startswith(daemon.shields)]
    process.run(
        ["setsid", "--fork", "env", *hidden, "sh", "-c", _LAUNCH, daemon.log, *daemon.argv],
        env={"PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"},
        cwd=Path("/"),
    )


def wait(daemon: Daemon, *, ready: Callable[[], bool], timeout_s: float) -> None:
    """Wait until a running daemon is ready.

    Args:
        daemon: The daemon.
        ready: Tells whether the daemon works.
        timeout_s: Seconds to wait.

    Raises:
        EngineError: The daemon ended, or was not ready in time. The message quotes the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    hint = f"read its log: {daemon.log}"
    while not ready():
        if daemon.pid() is None:
            raise EngineError(f"{daemon.name} ended while starting: {log_end(daemon.log)}", hint=hint)
        if time.monotonic() > deadline:
            raise EngineError(
                f"{daemon.name} does not answer after {timeout_s:.0f} s: {log_end(daemon.log)}", hint=hint
            )
        time.sleep(_POLL_S)


def log_end(path: Path) -> str:
    """Return the last lines of a log, joined; empty without a log."""
    return " | ".join(tail(path, lines=_TAIL_LINES))


def tail(path: Path, *, lines: int) -> list[str]:
    """Return the last lines of a log, each shortened; empty without a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line[-_TAIL_WIDTH:] for line in text.splitlines()[-lines:]]


def stop(daemon: Daemon, *, grace_s: float) -> bool:
    """End a daemon: SIGTERM, then SIGKILL.

    Args:
        daemon: The daemon.
        grace_s: Seconds between the two signals.

    Returns:
        Whether the daemon was running.
    """
    found = False
    while (pid := daemon.pid()) is not None:
        found = True
        end(pid, ours=daemon.owns, grace_s=grace_s)
    return found


def end(pid: int, *, ours: Callable[[int], bool], grace_s: float) -> None:
    """End one process and wait until it is gone.

    Args:
        pid: The process.
        ours: Checked again once the process ID can no longer pass to another process.
        grace_s: Seconds from SIGTERM to SIGKILL; 0 sends SIGKILL at once.

    Raises:
        EngineError: The process does not end, because it hangs in a system call.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not ours(pid) or (grace_s and _gone(handle, signal.SIGTERM, grace_s)):
            return
        if not _gone(handle, signal.SIGKILL, _KILLED_S):
            raise EngineError(f"process {pid} cannot be killed", hint="restart the machine, then run this again")
    finally:
        os.close(handle)


def _gone(handle: int, number: signal.Signals, seconds: float) -> bool:
    """Return whether a process ends within some seconds of a signal: its pidfd is then readable."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def disk_usage(folder: Path) -> int:
    """Return the bytes that a folder takes on its own file system; 0 without the folder."""
    lines = process.run(["du", "--summarize", "--one-file-system", "--block-size=1", folder]).tail
    # du reports an error for files that vanish meanwhile, but counts the rest.
    totals = [line.partition("\t")[0] for line in lines if line.endswith(f"\t{folder}")]
    return int(totals[-1]) if totals else 0
