"""The suite's fingerprint: the same for the same files, wherever they are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from build.config.folders import REPOSITORY
from build.gate import fingerprints

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one" / "sub").mkdir(parents=True)
    (tmp_path / "one" / "a.py").write_text("a")
    (tmp_path / "one" / "sub" / "b.py").write_text("b")
    return tmp_path / "one"


def test_equal_folders_are_equal(folder: Path) -> None:
    before = fingerprints.fingerprint(folder)
    assert fingerprints.fingerprint(folder.rename(folder.with_name("two"))) == before


def test_bytecode_does_not_count(folder: Path) -> None:
    before = fingerprints.fingerprint(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"x")
    assert fingerprints.fingerprint(folder) == before


@pytest.mark.parametrize(("name", "text"), [("a.py", "other"), ("c.py", ""), ("sub/b.py", "")])
def test_any_change_counts(folder: Path, name: str, text: str) -> None:
    before = fingerprints.fingerprint(folder)
    (folder / name).write_text(text)
    assert fingerprints.fingerprint(folder) != before


def test_rename_counts(folder: Path) -> None:
    before = fingerprints.fingerprint(folder)
    (folder / "a.py").rename(folder / "z.py")
    assert fingerprints.fingerprint(folder) != before


def test_pattern_chooses(folder: Path) -> None:
    before = fingerprints.fingerprint(folder, "*.py"), fingerprints.fingerprint(folder, "**/*")
    (folder / "config.json").write_text("{}")
    assert fingerprints.fingerprint(folder, "*.py") == before[0]
    assert fingerprints.fingerprint(folder, "**/*") != before[1]


@pytest.mark.parametrize(
    "name",
    [
        "build/vllm/paths.py",
        "build/base/store.py",
        "build/base/inside/probe.py",
        "smoke/image/secret_patterns.py",
        "smoke/diagnosis/signs.py",
    ],
)
def test_a_verdict_is_outdated_when_a_rule_changes_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for folder in ("build", "smoke"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = fingerprints.rules()
    monkeypatch.setattr(fingerprints, "REPOSITORY", tmp_path)
    assert fingerprints.rules() == before
    with (tmp_path / name).open("a") as file:
        file.write("# other\n")
    assert fingerprints.rules() != before
