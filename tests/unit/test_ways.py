"""Which ways of testing an image answer for which, and what the gate makes of several verdicts about one image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from build.gate import demands, fingerprints, verdict
from build.gate.ways import Way
from tests.standin.verdicts import passing
from tests.unit.fakes import IMAGE

if TYPE_CHECKING:
    from pathlib import Path

WAYS: dict[str, dict[str, Any]] = {
    "standard": {"gpus": "none"},
    "expect": {"gpus": "none", "expect": ["/v1/models=me"]},
    "checks": {"gpus": "none", "checks": "c"},
    "real": {"gpus": "none", "profile": "real"},
    "model": {"gpus": "none", "exact": False},
    "gpus": {"gpus": "0"},
    "changed": {"gpus": "none", "numbers": "changed (by 0.3)"},
}


def keep(folder: Path, *runs: str) -> None:
    """Keep verdicts, a minute apart: ``<way>+`` passed, ``<way>-`` failed."""
    for minute, run in enumerate(runs):
        found = replace(passing(IMAGE, **WAYS[run[:-1]]), finished=f"2026-01-02T03:{minute:02}:00+00:00")
        verdict.record(folder, found if run.endswith("+") else replace(found, failed=("x/y",)))


@pytest.mark.parametrize(
    ("runs", "refused"),
    [
        ("", "was not tested"),
        ("standard+", None),
        ("standard-", "failed"),
        ("standard+ standard-", "failed"),
        ("standard- standard+", None),
        # A way that asks for more.
        ("expect+", None),
        ("expect-", "failed"),
        ("standard+ expect-", None),
        ("standard- expect+", None),
        ("expect+ standard-", "failed"),
        ("expect- standard+", None),
        ("real+", "in other ways"),
        ("standard+ real-", None),
        ("checks+", None),
        ("standard+ checks-", None),
        ("standard- checks+", None),
        # Another model says nothing of the standard way.
        ("model+", "in other ways"),
        ("model-", "in other ways"),
        ("standard+ model-", None),
        ("standard- model+", "failed"),
        # What a machine has, and what a user allows.
        ("gpus+", None),
        ("standard+ gpus-", "failed"),
        ("standard- changed+", None),
        ("changed+ standard-", "failed"),
    ],
)
def test_the_newest_verdict_that_answers_decides(tmp_path: Path, runs: str, refused: str | None) -> None:
    keep(tmp_path, *runs.split())
    why = demands.shortcoming(tmp_path, IMAGE, rules=fingerprints.rules())
    assert why is None if refused is None else refused in (why or "")


def test_no_way_overwrites_the_verdict_of_another(tmp_path: Path) -> None:
    keep(tmp_path, *(f"{way}+" for way in WAYS))
    keep(tmp_path, *(f"{way}-" for way in WAYS))
    found = verdict.about(tmp_path, IMAGE.id)
    assert len(found) == len(WAYS)
    assert not any(each.ok for each in found)


def test_failures_in_other_ways_are_named(tmp_path: Path) -> None:
    keep(tmp_path, "standard+", "expect-", "model-", "gpus+", "changed+")
    found = verdict.failed_otherwise(tmp_path, IMAGE.id, rules=fingerprints.rules())
    assert {each.way.text for each in found} == {"--expect /v1/models=me", "another model"}
    assert not verdict.failed_otherwise(tmp_path, IMAGE.id, rules="other")


@pytest.mark.parametrize(("run", "opens"), [("checks+", True), ("checks-", False), ("standard+", False)])
def test_own_checks_are_asked_for_where_the_settings_say_so(tmp_path: Path, run: str, *, opens: bool) -> None:
    keep(tmp_path, run)
    why = demands.shortcoming(tmp_path, IMAGE, rules=fingerprints.rules(), required=Way(checks="c"))
    assert (why is None) == opens


def test_a_failure_of_the_standard_way_counts_where_own_checks_are_asked_for(tmp_path: Path) -> None:
    keep(tmp_path, "checks+", "standard-")
    assert demands.shortcoming(tmp_path, IMAGE, rules=fingerprints.rules(), required=Way(checks="c"))
