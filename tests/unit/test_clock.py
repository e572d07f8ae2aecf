"""A clock that is wrong, or was: nothing good goes, and nothing of the future counts as the newest."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from build.console import Console
from build.engine import ages
from build.host import clock
from build.host.files import write_json
from build.nightly import freshness, pruning, record, retention
from build.nightly.record import Record
from build.registry import expiry
from tests.unit.fakes import context_of

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from tests.unit.fakes import FakeEngine

LOCAL = f"llm-d-dev:local-{1:040}"
TODAY = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)


@pytest.fixture
def context(engine: FakeEngine, tmp_path: Path) -> Context:
    return context_of(tmp_path, engine, registry="quay.example/x", keep_bases=1, keep_days=14)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "time", made.timestamp)
    return made


class Clock:
    """What the machine's clock says."""

    def __init__(self) -> None:
        self.now = TODAY

    def timestamp(self) -> float:
        """The same as a number."""
        return self.now.timestamp()

    def days(self, number: float) -> str:
        """The time stamp of so many days from today."""
        return (TODAY + dt.timedelta(days=number)).isoformat()

    def leave(self, path: Path, *, days: float) -> Path:
        """Have a file of so many days from today."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        stamp = (TODAY + dt.timedelta(days=days)).timestamp()
        os.utime(path, (stamp, stamp))
        return path


def left(context: Context, at: Clock) -> list[Path]:
    """What runs of the last days left."""
    folders, gone = context.folders, "0" * 64
    return [
        at.leave(path, days=days)
        for days in (-20, -9, -3, -1)
        for path in (
            folders.logs / f"{days}.log",
            folders.nightlies / f"{days}.json",
            folders.reports / str(days),
            folders.verdicts / f"{gone}.{days}.json",
            folders.cache / "bases" / f"{gone}.{days}",
        )
    ]


def overlay(engine: FakeEngine, created: str) -> str:
    return engine.hold(LOCAL, created=created, expires="3d", kind="overlay", repository="llm-d-dev").id


@pytest.mark.parametrize("now", [dt.datetime(2040, 1, 1, tzinfo=dt.UTC), dt.datetime(1970, 1, 1, 0, 5, tzinfo=dt.UTC)])
def test_nothing_goes_by_a_clock_that_jumped(
    context: Context, engine: FakeEngine, at: Clock, now: dt.datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    files, image = left(context, at), overlay(engine, at.days(-1))
    at.now = now
    # This run, and one of a minute ago.
    for name in ("this", "before"):
        os.utime(at.leave(context.folders.logs / f"{name}.log", days=0), (now.timestamp(), now.timestamp()))
    done = pruning.prune(context, apply=True)
    assert [path for path in files if not path.exists()] == []
    assert image in engine.docker.known
    assert done.files == ()
    assert f"nothing is removed because of its age: the clock says {now:%Y-%m-%d}" in capsys.readouterr().err


def test_a_clock_that_is_right_prunes_as_ever(context: Context, engine: FakeEngine, at: Clock) -> None:
    files, image = left(context, at), overlay(engine, at.days(-4))
    done = pruning.prune(context, apply=True)
    assert set(done.files) == set(files[:5])
    assert image not in engine.docker.known


def test_after_a_week_the_clock_of_a_machine_that_was_off_for_years_is_believed(
    context: Context, engine: FakeEngine, at: Clock
) -> None:
    files, image = left(context, at), overlay(engine, at.days(-1))
    at.leave(context.folders.logs / "back.log", days=800)
    at.now = TODAY + dt.timedelta(days=808)
    done = pruning.prune(context, apply=True)
    assert set(done.files) >= set(files)
    assert image not in engine.docker.known


def test_files_of_the_future_stay_and_disturb_nothing(context: Context, at: Clock) -> None:
    files = left(context, at)
    future = at.leave(context.folders.logs / "future.log", days=5000)
    assert set(pruning.prune(context, apply=True).files) == set(files[:5])
    assert future.exists()


@pytest.mark.parametrize("made", ["1970-01-01T00:00:30Z", "2000-01-01T00:00:00Z", "2040-01-01T00:00:00Z"])
def test_an_overlay_that_was_made_while_the_clock_was_wrong_stays(
    context: Context, engine: FakeEngine, at: Clock, made: str
) -> None:
    left(context, at)
    image = overlay(engine, made)
    pruning.prune(context, apply=True)
    assert image in engine.docker.known
    config = {"created": made, "config": {"Labels": {"quay.expires-after": "3d"}}}
    assert not expiry.has_expired(config, clock.now())


@pytest.mark.parametrize("after", ["9" * 30 + "w", "999999999d", "99999w"])
def test_a_lifetime_beyond_the_calendar_is_none(engine: FakeEngine, at: Clock, after: str) -> None:
    image = engine.hold(LOCAL, created=at.days(-1), expires=after, kind="overlay")
    rules = retention.Rules(repository="llm-d-dev", keep_bases=1, now=clock.now(), failed=lambda _: False, used=())
    (decided,) = retention.decide([image], rules)
    assert decided.keep
    config = {"created": at.days(-1), "config": {"Labels": {"quay.expires-after": after}}}
    assert not expiry.has_expired(config, clock.now())


def test_a_base_of_the_future_is_not_the_newest_and_is_built_again(
    context: Context, engine: FakeEngine, at: Clock
) -> None:
    names = [f"llm-d-dev:nightly-{number:040}-cpu" for number in range(3)]
    future = engine.hold(names[0], created=at.days(5000), kind="base", flavor="cpu")
    older = engine.hold(names[1], created=at.days(-9), kind="base", flavor="cpu")
    newest = engine.hold(names[2], created=at.days(-1), kind="base", flavor="cpu")
    assert [image.id for image in engine.images(kind="base")] == [newest.id, older.id, future.id]
    week = dt.timedelta(days=7)
    assert [ages.is_older(image, week) for image in (newest, older, future)] == [False, True, True]
    assert ages.of(future) == "dated 2040-02-22"
    assert str(freshness.stale(context.folders.nightlies, future)).startswith(f"base {names[0]} is dated 2040-02-22; ")
    at.now = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert not ages.is_older(newest, week)


def test_a_record_of_the_future_is_not_the_last_night(context: Context, at: Clock) -> None:
    folder = context.folders.nightlies
    for name, days in (("20260614-020000-1-a", -1), ("20260613-020000-1-a", -2), ("20400101-020000-1-a", 5000)):
        night = Record(started=at.days(days), owner="x", flavor="cpu", verdict="pass", commit=name[:8])
        write_json(folder / f"{name}.json", vars(night))
    assert [one.commit for one in record.recall(folder)] == ["20260614", "20260613", "20400101"]
    at.now = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)
    assert [one.commit for one in record.recall(folder)] == ["20400101", "20260614", "20260613"]


@pytest.mark.parametrize("jump", [-400, 400])
def test_a_night_takes_what_it_takes_whatever_the_clock_does(tmp_path: Path, at: Clock, jump: float) -> None:
    with record.kept(tmp_path, flavor="cpu", console=Console(quiet=True)):
        at.now += dt.timedelta(days=jump)
    (path,) = tmp_path.iterdir()
    kept = json.loads(path.read_bytes())
    assert 0 <= kept["took"] < 3600
    (night,) = record.recall(tmp_path)
    assert night.seconds == kept["took"]
    assert "took" not in night.document()


def test_a_night_of_an_older_version_took_no_negative_time() -> None:
    night = Record(started="2026-01-02T00:00:00Z", finished="2026-01-01T00:00:00Z", owner="x", flavor="cpu")
    assert night.seconds is None


@pytest.mark.parametrize(
    ("traces", "doubted"),
    [
        ([], False),
        ([-1.0], False),
        ([-300.0, 0.0], False),
        ([-400.0], True),
        ([-400.0, -1.0, 5000.0], True),
        ([-400.0, -8.0], False),
    ],
)
def test_when_the_clock_is_doubted(at: Clock, traces: list[float], *, doubted: bool) -> None:
    found = clock.doubt(at.now + dt.timedelta(days=days) for days in traces)
    assert (found is not None) is doubted
