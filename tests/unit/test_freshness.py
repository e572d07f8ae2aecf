"""How old a base is, and when somebody should look why."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from build.config.folders import Folders
from build.engine import labels
from build.host import timestamps
from build.host.files import write_json
from build.nightly import freshness
from build.nightly.record import Record
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.image import Image


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "a minute"),
        (119, "a minute"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (47.9 * 3600, "47 hours"),
        (49 * 3600, "2 days"),
        (99 * 86400, "99 days"),
    ],
)
def test_ages_are_said_as_people_do(seconds: float, said: str) -> None:
    assert timestamps.words(dt.timedelta(seconds=seconds)) == said


def ago(days: float) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def nightlies(tmp_path: Path) -> Path:
    return Folders(state=tmp_path, cache=tmp_path).nightlies


def base(days: float) -> Image:
    engine = FakeEngine()
    image = engine.hold("llm-d-dev:nightly", kind="base", flavor="cpu")
    engine.docker.known[image.id]["Config"]["Labels"][labels.OCI_CREATED] = ago(days)
    return engine.image(image.id)


def night(nightlies: Path, days: float, verdict: str, image: Image, *, cause: str = "", flavor: str = "cpu") -> None:
    error = {"category": "smoke", "what": cause, "hint": ""} if cause else None
    kept = Record(
        started=ago(days),
        finished=ago(days),
        owner="x:1:1",
        flavor=flavor,
        verdict=verdict,
        image=image.id,
        error=error,
    )
    write_json(nightlies / f"{1000 - days}.json", vars(kept))


def test_a_new_base_is_nothing_to_talk_about(nightlies: Path) -> None:
    assert freshness.stale(nightlies, base(1.9)) is None


def test_an_old_one_is(nightlies: Path) -> None:
    said = freshness.stale(nightlies, base(5))
    assert said == "base llm-d-dev:nightly is 5 days old; `python -m build nightly --flavor cpu` makes a new one"


def test_one_that_a_nightly_found_still_right_is_not(nightlies: Path) -> None:
    image = base(30)
    night(nightlies, 1, "pass", image)
    night(nightlies, 0.5, "fail", image, cause="x")
    assert freshness.stale(nightlies, image) is None


def test_a_pass_of_another_base_does_not_count(nightlies: Path) -> None:
    night(nightlies, 1, "pass", replace(base(1), id="sha256:other"))
    assert freshness.stale(nightlies, base(30)) is not None


@pytest.mark.parametrize("verdict", ["fail", "interrupted"])
def test_why_there_is_no_newer_one_is_said(nightlies: Path, verdict: str) -> None:
    image = base(4)
    night(nightlies, 4, "pass", image)
    night(nightlies, 1, verdict, image, cause="it is broken" if verdict == "fail" else "")
    said = freshness.stale(nightlies, image) or ""
    cause = ": it is broken" if verdict == "fail" else ""
    assert said.endswith(f"is 4 days old, and the last nightly ({ago(1)}) did not pass ({verdict}{cause})")


def test_nights_of_another_flavor_say_nothing_about_a_base(nightlies: Path) -> None:
    image = base(4)
    night(nightlies, 1, "fail", image, cause="no GPU", flavor="cuda")
    assert "no GPU" not in (freshness.stale(nightlies, image) or "")
    night(nightlies, 0.5, "pass", image, flavor="cuda")
    assert freshness.stale(nightlies, image) is not None
