"""Waiting for another run."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from build import turn
from build.console import Console
from build.errors import BusyError

if TYPE_CHECKING:
    from pathlib import Path

QUIET = Console(quiet=True)


def test_the_second_goes_on_when_the_first_has_ended(tmp_path: Path) -> None:
    order: list[str] = []
    held = threading.Event()

    def first() -> None:
        with turn.taken(tmp_path, "engine", doing="starting", console=QUIET):
            held.set()
            time.sleep(0.5)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    with turn.taken(tmp_path, "engine", doing="starting", console=QUIET):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_whoever_waits_is_told_for_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        turn.taken(tmp_path, "engine", doing="starting the engine", console=QUIET),
        pytest.raises(BusyError, match="starting the engine"),
        turn.taken(tmp_path, "engine", doing="y", console=Console(quiet=False), timeout_s=0.5),
    ):
        pass
    assert capsys.readouterr().err.count("waiting: engine is busy") == 1


def test_an_error_inside_frees_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), turn.taken(tmp_path, "engine", doing="x", console=QUIET):
        raise ZeroDivisionError
    with turn.taken(tmp_path, "engine", doing="y", console=QUIET, timeout_s=0):
        pass
