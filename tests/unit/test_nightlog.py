"""The log for whoever looks in the morning."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest

from build.errors import UsageError
from build.nightly import nightlog

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(nightlog, "PATH", tmp_path / "nightly-build.log")
    monkeypatch.setattr(nightlog, "_BYTES", 2000)
    logging.getLogger("build").setLevel(logging.DEBUG)
    return nightlog.PATH


def test_lines_carry_the_time_and_no_credentials(path: Path) -> None:
    log = logging.getLogger("build.somewhere")
    with nightlog.written():
        log.info("fetching https://me:secret@index.example/x")
        log.debug("| output of a build")
    log.info("afterwards")
    (line,) = path.read_text().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ INFO +\[\d+\] fetching https://\[redacted\]@index.example/x", line
    )


def test_it_goes_on_and_never_grows_without_end(path: Path) -> None:
    for number in range(100):
        with nightlog.written():
            logging.getLogger("build").info("night %d %s", number, "." * 100)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["nightly-build.log", *(f"nightly-build.log.{n}" for n in (1, 2, 3, 4))]
    assert "night 99 " in path.read_text().splitlines()[-1]
    assert sum(file.stat().st_size for file in files) < 5 * 2200


def test_a_folder_that_cannot_be_written_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightlog, "PATH", path / "none" / "x")
    with pytest.raises(UsageError, match="is not writable"), nightlog.written():
        pass
