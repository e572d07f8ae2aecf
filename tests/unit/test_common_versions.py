"""Reading `docker/common-versions`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build import common_versions
from build.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path


def parse(text: str) -> dict[str, tuple[str, int]]:
    return {one.name: (one.value, one.line) for one in common_versions.parse(text, name="v")}


def test_assignments_as_a_shell_reads_them() -> None:
    text = "# comment\n\nA=1   # one\nexport B='two words' # x\n\tC=\"a#b\"\nD=x#y\nE=\nF=https://h/p?q=1\n"
    assert parse(text) == {
        "A": ("1", 3),
        "B": ("two words", 4),
        "C": ("a#b", 5),
        "D": ("x#y", 6),
        "E": ("", 7),
        "F": ("https://h/p?q=1", 8),
    }


def test_the_last_of_a_name_counts() -> None:
    assert parse("A=1\nA=2\n") == {"A": ("2", 2)}


@pytest.mark.parametrize(
    "line", ["A=$(date)", "A=`date`", "A=$B", "A=b c", "A =b", "if true", 'A="b', 'A="b"#c', "A=b; rm -rf /"]
)
def test_what_a_shell_would_work_out_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(SourceError, match=r"v:2 is no plain KEY=value"):
        parse(f"A=1\n{line}\n")


def test_a_tree_without_the_file_states_nothing(tmp_path: Path) -> None:
    assert common_versions.read(tmp_path / "common-versions", name="v") == ()
