"""Writing files so that nobody sees half of one."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from build.config import folders
from build.host import files

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_and_its_folders_are_written(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "a/b/file", "grün\n", mode=0o600)
    assert (tmp_path / "a/b/file").read_bytes() == "grün\n".encode()
    assert (tmp_path / "a/b/file").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("broken", ["fsync", "fdopen"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    file = tmp_path / "file"
    files.write_atomic(file, "old")
    real = getattr(os, broken)

    def full(*arguments: object) -> None:
        if broken == "fdopen":
            real(*arguments).close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(file, "new and longer")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_keeps_the_file_it_opened(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "file", "old")
    with (tmp_path / "file").open() as reader:
        files.write_atomic(tmp_path / "file", "new")
        assert reader.read() == "old"


def test_json_is_for_people_too(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"b": 1, "a": [None, "ü"]})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": [None, "ü"], "b": 1}
    assert text.startswith('{\n  "a"')
    assert text.endswith("}\n")


def test_sockets_of_a_long_state_folder_are_short_enough_for_the_kernel(tmp_path: Path) -> None:
    deep = folders.Folders(state=tmp_path / ("x" * 200), cache=tmp_path)
    other = folders.Folders(state=tmp_path / "y", cache=tmp_path)
    assert len(str(deep.runtime / "docker.sock")) < 60
    assert deep.runtime != other.runtime
