"""Waiting for another run."""

from __future__ import annotations

import functools
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from build.console import Console
from build.errors import BusyError
from build.host import lock, turn
from build.source import releases
from build.source.mirror import Mirror, Remote

if TYPE_CHECKING:
    from collections.abc import Callable
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


def _mirror(folder: Path) -> None:
    Mirror(folder / "vllm.git", console=QUIET).tip(Remote(name="x", address="git://127.0.0.1:1/x"), "main")


def _releases(folder: Path) -> None:
    releases._import(folder / "releases.git", folder / "vllm-0.32.0.tar.gz", lambda _: None, QUIET)


@pytest.mark.parametrize(
    ("name", "work"), [("vllm.git", _mirror), ("releases.git", _releases)], ids=["mirror", "releases"]
)
def test_no_wait_is_without_end_or_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(turn, "taken", functools.partial(turn.taken, timeout_s=0))
    with (
        lock.held(tmp_path, name, doing="what takes long"),
        pytest.raises(BusyError, match=rf"{name} is busy: process {os.getpid()} \(what takes long, since "),
    ):
        work(tmp_path)
