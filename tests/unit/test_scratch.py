"""Temporary folders, and what a killed run left of them."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from build.host import identity, scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary ones."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_folder_is_this_users_and_gone_after_its_block() -> None:
    with scratch.folder() as name:
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o700
    assert not Path(name).exists()


def test_ctrl_c_while_a_folder_is_removed_leaves_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    remove, calls = shutil.rmtree, []

    def interrupted(path: str, *, ignore_errors: bool = False) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), scratch.folder() as name:
        Path(name, "file").touch()
    assert not Path(name).exists()


def test_one_that_another_run_removes_meanwhile_is_no_error(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = temporary / "llm-d-dev-x-1-1-abcdefgh"
    monkeypatch.setattr(Path, "glob", lambda _self, _pattern: iter([gone]))
    assert scratch.sweep() == 0


def test_a_folder_in_use_stays() -> None:
    with scratch.folder() as name:
        assert scratch.sweep() == 0
        assert Path(name).is_dir()


def test_a_folder_of_a_run_that_is_gone_is_removed(temporary: Path) -> None:
    who = identity.identity().rpartition(":")[0].replace(":", "-")
    left = temporary / f"llm-d-dev-{who}-1-abcd_efg"
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "secret").touch(mode=0o600)
    assert scratch.sweep() == 1
    assert list(temporary.iterdir()) == []


def test_a_folder_of_a_run_in_another_container_stays(temporary: Path) -> None:
    """Two containers may share a folder for temporary files; the other's processes cannot be looked at."""
    *place, _, _, _ = identity.identity().split(":")
    folder = temporary / f"llm-d-dev-{'-'.join((*place, '4026532999', '7', '1'))}-abcdefgh"
    folder.mkdir()
    assert scratch.sweep() == 0
    assert folder.is_dir()


@pytest.mark.parametrize("name", ["llm-d-dev-other", "llm-d-dev-elsewhere-1-1-abc", "llm-d-dev-test-1", "else"])
def test_what_is_not_known_to_be_left_over_stays(temporary: Path, name: str) -> None:
    (temporary / name).mkdir()
    assert scratch.sweep() == 0
    assert (temporary / name).is_dir()


def test_a_link_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    who = identity.identity().rpartition(":")[0].replace(":", "-")
    (temporary / f"llm-d-dev-{who}-1-abcdefgh").symlink_to(elsewhere)
    assert scratch.sweep() == 0
    assert elsewhere.is_dir()
