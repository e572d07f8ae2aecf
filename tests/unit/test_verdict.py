"""What is kept about an image, and what is believed of it later."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from build.gate import verdict
from build.gate.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = f"sha256:{'a' * 64}"
PASSED = Verdict(
    image_id=IMAGE,
    diff_ids=(f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"),
    passed=("starts", "answers"),
    failed=(),
    configuration={"suite": "0123", "gpus": "none"},
    finished="2026-01-01T00:00:00Z",
)
FAILED = replace(PASSED, failed=("streams",))


@pytest.mark.parametrize("kept", [PASSED, FAILED])
def test_what_is_recorded_is_recalled(tmp_path: Path, kept: Verdict) -> None:
    verdict.record(tmp_path, kept)
    assert verdict.recall(tmp_path, IMAGE) == kept


def test_the_file_is_an_in_toto_test_result_that_others_can_read(tmp_path: Path) -> None:
    verdict.record(tmp_path, FAILED)
    document = json.loads((tmp_path / f"{'a' * 64}.json").read_text())
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert document["subject"][0] == {"name": "image", "digest": {"sha256": "a" * 64}}
    assert document["predicate"]["result"] == "FAILED"
    assert document["predicate"]["failedTests"] == ["streams"]


def test_a_later_verdict_replaces_an_earlier_one(tmp_path: Path) -> None:
    verdict.record(tmp_path, PASSED)
    verdict.record(tmp_path, FAILED)
    assert verdict.recall(tmp_path, IMAGE) == FAILED


def test_a_run_that_checked_nothing_has_not_passed() -> None:
    nothing = replace(PASSED, passed=())
    assert not nothing.ok
    assert nothing.statement()["predicate"]["result"] == "FAILED"


def test_there_is_none_about_another_image(tmp_path: Path) -> None:
    verdict.record(tmp_path, PASSED)
    assert verdict.recall(tmp_path, f"sha256:{'b' * 64}") is None


def test_a_verdict_that_was_copied_to_another_image_does_not_count(tmp_path: Path) -> None:
    verdict.record(tmp_path, PASSED)
    (tmp_path / f"{'a' * 64}.json").rename(tmp_path / f"{'b' * 64}.json")
    assert verdict.recall(tmp_path, f"sha256:{'b' * 64}") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\udcff"])
def test_a_file_that_cannot_be_read_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{'a' * 64}.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert verdict.recall(tmp_path, IMAGE) is None


def _edited(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    document = copy.deepcopy(PASSED.statement())
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("predicate", "result"), "FAILED"),
        (("predicate", "failedTests"), ["streams"]),
        (("predicate", "passedTests"), []),
        (("predicate", "passedTests"), None),
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("predicateType",), "https://slsa.dev/provenance/v1"),
        (("subject",), []),
        (("subject", 0, "digest"), {"sha512": "x"}),
        (("predicate", "configuration"), [{"name": "suite"}]),
    ],
)
def test_a_statement_that_contradicts_itself_or_is_another_is_refused(
    path: tuple[str | int, ...], value: object
) -> None:
    assert Verdict.parse(PASSED.statement()) == PASSED
    with pytest.raises(ValueError, match=r"."):
        Verdict.parse(_edited(path, value))
