"""A disk that is full is one error, and the log of a run ends in one line."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build import errors
from build.config.folders import REPOSITORY
from build.console import Console
from build.errors import DiskError, EngineError
from build.gate import smoke_run, verdict
from build.host import lock, runlog
from build.host.process import Completed
from build.nightly import nightlog, record
from build.nightly.record import Record
from tests.standin.verdicts import passing
from tests.unit.fakes import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = Console(quiet=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own without a byte left."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=False)
    if mounted.returncode:
        pytest.skip("this user may mount nothing")
    try:
        (folder / "logs").mkdir()
        with pytest.raises(OSError, match="No space left"), (folder / "filler").open("wb") as file:
            file.write(bytes(2**20))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The logger of this tool, put back afterwards."""
    ours = logging.getLogger("build")
    before = (ours.level, list(ours.handlers))
    yield ours
    for added in [one for one in ours.handlers if one not in before[1]]:
        ours.removeHandler(added)
        added.close()
    ours.setLevel(before[0])


def run(*words: str, limit: str = "unlimited", **variables: str) -> subprocess.CompletedProcess[str]:
    """The program, where no file may become larger than so many blocks."""
    program = f'ulimit -f {limit}; exec "$0" -m build "$@"'
    argv = ["sh", "-c", program, sys.executable, *words]
    return subprocess.run(argv, cwd=REPOSITORY, env=os.environ | variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [("dev",), ("smoke", "x"), ("nightly",), ("push", "x", "--json")])
def test_a_full_state_folder_is_two_lines(full: Path, words: tuple[str, ...]) -> None:
    ran = run(*words, LLM_D_DEV_STATE=str(full))
    assert ran.returncode == 8
    told = ran.stderr.splitlines()
    assert "Traceback" not in ran.stderr
    assert told[0].startswith("error[disk]: no space left on this machine: ")
    assert told[1].startswith("try: ")
    assert len(told) == 2
    assert not list((full / "logs").iterdir())
    if "--json" in words:
        assert json.loads(ran.stdout)["error"]["word"] == "disk"


@pytest.mark.parametrize("words", [("status",), ("prune", "--apply")])
def test_what_helps_against_a_full_disk_goes_on_without_a_log(full: Path, words: tuple[str, ...]) -> None:
    ran = run(*words, LLM_D_DEV_STATE=str(full))
    first, *rest = ran.stderr.splitlines()
    assert first.startswith("warning: this run keeps no log: no space left on this machine")
    # No engine answers a unit test.
    assert [line.partition(":")[0] for line in rest][-2:] == ["error[engine]", "try"]
    assert "Traceback" not in ran.stderr


def test_a_limit_on_the_size_of_files_is_told_as_a_full_disk() -> None:
    ran = run("smoke", "x", limit="0")
    assert ran.returncode == 8
    assert [line.partition(":")[0] for line in ran.stderr.splitlines()] == ["error[disk]", "try"]


def test_a_disk_that_fills_up_meanwhile_ends_the_log_in_one_line(
    log: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runlog.start(tmp_path, "dev", Console(quiet=False))
    assert path
    (handler,) = [one for one in log.handlers if isinstance(one, runlog.LogFile)]
    handler.close()
    handler.baseFilename = "/dev/full"
    handler.stream = handler._open()
    for number in range(100):
        logging.getLogger("build.somewhere").info("step %d", number)
    told = capsys.readouterr().err.splitlines()
    assert told == ["warning: the log ends: /dev/full cannot be written: No space left on device"]


def test_the_log_of_nightlies_ends_so_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nightlog, "PATH", Path("/dev/full"))
    with caplog.at_level(logging.INFO), nightlog.written():
        for number in range(100):
            logging.getLogger("build.somewhere").info("step %d", number)
    assert capsys.readouterr().err == ""
    assert [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING] == [
        "the log ends: /dev/full cannot be written: No space left on device"
    ]


@pytest.mark.parametrize("words", [("--version",), ("dev", "--help"), ("status", "--json")])
def test_standard_output_on_a_full_disk_is_no_traceback(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as nowhere:
        ran = subprocess.run(
            [sys.executable, "-m", "build", *words],
            cwd=REPOSITORY,
            stdout=nowhere,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == 8
    assert [line.partition("[")[0].partition(":")[0] for line in ran.stderr.splitlines()] == ["error", "try"]


def test_a_lock_is_held_on_a_full_disk(full: Path) -> None:
    with lock.held(full / "locks", "nightly", doing="pruning"):
        assert (full / "locks/nightly.lock").exists()


def test_a_verdict_that_cannot_be_written_is_told_and_the_one_before_stays(full: Path) -> None:
    (full / "filler").unlink()
    verdict.record(full, passing(IMAGE))
    with pytest.raises(OSError, match="No space left"):
        (full / "filler").write_bytes(bytes(2**20))
    with pytest.raises(OSError, match="No space left") as caught:
        verdict.record(full, passing(IMAGE, gpus="all", padding="x" * 100_000))
    assert errors.as_ours(caught.value).word == "disk"
    assert verdict.recall(full, IMAGE.id) == passing(IMAGE)
    assert {path.name for path in full.iterdir()} == {"logs", "filler", f"{IMAGE.id.removeprefix('sha256:')}.json"}


def test_a_record_that_cannot_be_written_changes_no_nightly(full: Path) -> None:
    with record.kept(full / "nightlies", flavor="cpu", console=QUIET) as kept:
        pass
    assert isinstance(kept.record, Record)
    assert kept.record.verdict == "pass"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large", "/x"),
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
        OSError(errno.EIO, "Input/output error", "/x"),
    ],
)
def test_what_a_disk_is_to_blame_for(error: OSError) -> None:
    assert errors.as_ours(error).word == "disk"


def test_what_no_disk_is_to_blame_for() -> None:
    assert errors.as_ours(OSError(errno.EPERM, "Operation not permitted", "/x")).word == "usage"
    assert errors.as_ours(FileNotFoundError(errno.ENOENT, "No such file", "/x")).word == "internal"
    assert errors.as_ours(OSError(errno.EPERM, "Operation not permitted")).word == "internal"


def test_without_room_for_temporary_files_it_is_two_lines(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(full)])
    with pytest.raises(OSError, match="temporary directory") as caught:
        tempfile.mkdtemp()
    assert errors.as_ours(caught.value).word == "disk"


@pytest.mark.parametrize(
    ("said", "category"),
    [("E   OSError: [Errno 28] No space left on device: 'report.json'", DiskError), ("E   KeyError: 'x'", EngineError)],
)
def test_a_suite_that_found_the_disk_full_says_so(tmp_path: Path, said: str, category: type[Exception]) -> None:
    done = Completed(returncode=3, tail=("ERROR smoke", said))
    with pytest.raises(category):
        smoke_run._read(tmp_path, done)
