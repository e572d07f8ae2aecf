"""One run at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from build.config.folders import REPOSITORY
from build.errors import BusyError
from build.host import lock

if TYPE_CHECKING:
    from pathlib import Path


def test_who_comes_second_is_told_who_holds_it(tmp_path: Path) -> None:
    with (
        lock.held(tmp_path, "nightly", doing="building a base"),
        pytest.raises(BusyError, match=r"nightly is busy: process \d+ \(building a base, since ") as caught,
        lock.held(tmp_path, "nightly", doing="y"),
    ):
        pass
    assert caught.value.exit_code == 9


def test_it_is_free_again_after_an_error_and_says_nothing_stale(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock.held(tmp_path, "nightly", doing="x"):
        raise ZeroDivisionError
    assert not (tmp_path / "nightly.json").exists()
    with lock.held(tmp_path, "nightly", doing="y"):
        pass


def test_names_do_not_block_each_other(tmp_path: Path) -> None:
    with lock.held(tmp_path, "one", doing="x"), lock.held(tmp_path, "two", doing="y"):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import signal; from pathlib import Path; from build.host import lock\n"
        f"with lock.held(Path({str(tmp_path)!r}), 'nightly', doing='x'): print('held', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"process {other.pid} "), lock.held(tmp_path, "nightly", doing="y"):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        with lock.held(tmp_path, "nightly", doing="y"):
            pass


def test_a_holder_in_another_container_is_named_with_its_host(tmp_path: Path) -> None:
    with lock.held(tmp_path, "nightly", doing="x"):
        path = tmp_path / "nightly.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "other-box"}))
        message = rf"process {os.getpid()} on other-box \(x, since "
        with pytest.raises(BusyError, match=message), lock.held(tmp_path, "nightly", doing="y"):
            pass


@pytest.mark.parametrize("text", ["{", "{}", "[]", "null"])
def test_a_holder_that_says_nothing_yet_is_still_in_the_way(tmp_path: Path, text: str) -> None:
    with lock.held(tmp_path, "nightly", doing="x"):
        (tmp_path / "nightly.json").write_text(text)
        with pytest.raises(BusyError, match="just starting"), lock.held(tmp_path, "nightly", doing="y"):
            pass
