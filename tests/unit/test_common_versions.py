"""Reading `docker/common-versions`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.llmd import versions

if TYPE_CHECKING:
    from pathlib import Path


def parse(text: str) -> dict[str, tuple[str, int]]:
    found = versions.parse(text, name="v")
    assert not found.unread
    return {one.name: (one.value, int(one.place.removeprefix("v:"))) for one in found.versions}


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


def test_a_value_may_refer_to_an_earlier_one() -> None:
    text = "A=1\nB=$A\nC=\"x${A}\"\nD='$A'\nE=${B:-2}${Z:-3}\n"
    assert {name: value for name, (value, _) in parse(text).items()} == {
        "A": "1",
        "B": "1",
        "C": "x1",
        "D": "$A",
        "E": "13",
    }


@pytest.mark.parametrize(
    "line", ["A=$(date)", "A=`date`", "A=$B", "A=b c", "A =b", "if true", 'A="b', 'A="b"#c', "A=b; rm -rf /"]
)
def test_what_takes_a_shell_is_said_to_be_unread_with_its_line(line: str) -> None:
    found = versions.parse(f"Z=1\n{line}\n", name="v")
    assert [one.name for one in found.versions] == ["Z"]
    assert [(one.text, one.place) for one in found.unread] == [(line, "v:2")]
    assert found.unread[0].name == ("A" if line.startswith("A=") else None)


def test_a_later_assignment_replaces_one_that_cannot_be_read_and_the_other_way_round() -> None:
    assert not versions.parse("A=$(date)\nA=1\n", name="v").unread
    assert not versions.parse("A=1\nA=$(date)\n", name="v").versions


def test_the_later_file_wins() -> None:
    first, second = (versions.parse(text, name=name) for name, text in (("a", "A=1\nB=1\n"), ("b", "B=2\n")))
    assert [(one.name, one.value, one.place) for one in first.then(second).versions] == [
        ("A", "1", "a:1"),
        ("B", "2", "b:1"),
    ]


def test_a_tree_without_the_file_states_nothing(tmp_path: Path) -> None:
    assert versions.read(tmp_path / "common-versions", name="v").versions == ()
