"""A nightly ends as its work ends, whatever becomes of what is done around it."""

from __future__ import annotations

import datetime as dt
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from build.base import store
from build.config.folders import Folders
from build.console import Console
from build.errors import BusyError, EngineError, SmokeError
from build.flavors.cpu import Cpu
from build.host import lock
from build.nightly import nightlog, notify, pruning, record, run
from build.nightly.run import BaseRequest
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from build.flavors.flavor import Flavor
    from build.nightly.record import Record
    from build.source.repository import Commit

GB = 1_000_000_000
REQUEST = BaseRequest(flavor="cpu", force=False, push=False)
WEEKLY = cast("Flavor", SimpleNamespace(rebuild_after=dt.timedelta(days=7)))


def ago(*, days: float) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).isoformat()


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(nightlog, "PATH", tmp_path / "nightly-build.log")
    logging.getLogger("build").setLevel(logging.DEBUG)
    folders = Folders(state=tmp_path / "state", cache=tmp_path / "cache")
    settings = SimpleNamespace(notify_url=None, notify_url_file=None)
    return cast("Context", SimpleNamespace(folders=folders, settings=settings, console=Console(quiet=False)))


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[str]:
    """Nightlies end with an error; returns what is done after that, in order."""
    after: list[str] = []

    def ended(*_: object) -> None:
        raise error

    def pruned(_: Context) -> pruning.Pruned:
        after.append("prune")
        raise EngineError("the disk is on fire", hint="leave")

    def tell(_: Context, ended: Record) -> None:
        after.append(f"tell {ended.verdict}")

    monkeypatch.setattr(run, "_run", ended)
    monkeypatch.setattr(pruning, "carry_out", pruned)
    monkeypatch.setattr(notify, "tell", tell)
    return after


def test_a_failure_stays_that_failure_when_pruning_fails_too(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    after = ending(monkeypatch, SmokeError("broken", hint="look"))
    with pytest.raises(SmokeError, match="broken"):
        run.nightly(context, REQUEST)
    assert after == ["prune", "tell fail"]
    assert "warning: nothing was pruned: the disk is on fire" in capsys.readouterr().err
    (kept,) = record.recall(context.folders.nightlies)
    assert kept.error is not None
    assert (kept.verdict, kept.error["what"]) == ("fail", "broken")
    assert "error[smoke]: broken" in nightlog.PATH.read_text()


def test_who_interrupts_it_is_not_kept_waiting_by_pruning(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    after = ending(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.nightly(context, REQUEST)
    assert after == ["tell interrupted"]
    assert record.recall(context.folders.nightlies)[0].verdict == "interrupted"


def test_a_second_one_leaves_a_line_in_the_log_and_no_record(context: Context) -> None:
    with lock.held(context.folders.locks, "nightly", doing="x"), pytest.raises(BusyError):
        run.nightly(context, REQUEST)
    assert "nightly is busy: process " in nightlog.PATH.read_text()
    assert record.recall(context.folders.nightlies) == []


@pytest.mark.parametrize(("sizes", "needed"), [((), 12), ((4,), 12), ((28,), 56), ((28, 4), 56)])
def test_the_disk_that_a_build_needs_grows_with_the_bases(sizes: tuple[int, ...], needed: int) -> None:
    engine = FakeEngine()
    for day, size in enumerate(sizes):
        image = engine.hold(kind="base", flavor="cpu", created=f"2026-01-{20 - day}")
        engine.docker.known[image.id]["Size"] = size * GB
    context = cast("Context", SimpleNamespace(engine=engine))
    assert run._needed(context, Cpu(context=context)) == needed * GB


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        ([("llm-d-dev:nightly",), ("llm-d-dev:candidate",), ()], 0),
        ([("llm-d-dev:candidate",), ("elsewhere:nightly",), ()], 0),
        ([("elsewhere:kept",), ()], 1),
        ([(f"llm-d-dev:nightly-{1:040}-cpu",), ("llm-d-dev:nightly-cpu",)], 1),
        ([], None),
    ],
)
def test_a_base_that_passed_is_taken_before_a_newer_copy(names: list[tuple[str, ...]], taken: int | None) -> None:
    engine = FakeEngine()
    made = [
        engine.hold(*found, kind="base", fingerprint="same", created=ago(days=1 - day / 10))
        for day, found in enumerate(names)
    ]
    settings = SimpleNamespace(repository="llm-d-dev")
    where = cast("Context", SimpleNamespace(engine=engine, settings=settings, console=Console(quiet=True)))
    found = run._find(where, WEEKLY, "same")
    assert (found.id if found else None) == (None if taken is None else made[taken].id)


@pytest.mark.parametrize(("ages", "taken"), [((8, 6.9), 1), ((7.1,), None), ((6.9, 8), 0), ((99, 98), None)])
def test_a_base_that_is_too_old_is_built_again(
    ages: tuple[float, ...], taken: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine()
    made = [
        engine.hold(f"llm-d-dev:nightly-{n:040}-cpu", kind="base", fingerprint="same", created=ago(days=age))
        for n, age in enumerate(ages)
    ]
    settings = SimpleNamespace(repository="llm-d-dev")
    where = cast("Context", SimpleNamespace(engine=engine, settings=settings, console=Console(quiet=False)))
    found = run._find(where, WEEKLY, "same")
    assert (found and found.id) == (None if taken is None else made[taken].id)
    assert ("it is built again" in capsys.readouterr().err) == (taken is None)
    never = cast("Flavor", SimpleNamespace(rebuild_after=None))
    assert run._find(where, never, "same") is not None


def test_another_schema_asks_for_another_base(monkeypatch: pytest.MonkeyPatch) -> None:
    context = cast("Context", SimpleNamespace(settings=SimpleNamespace(nightly_expires_after="7d")))
    flavor = cast("Flavor", SimpleNamespace(fingerprint=lambda commit: f"of {commit}"))
    commit = cast("Commit", "0123")
    before = run._fingerprint(context, flavor, commit)
    assert run._fingerprint(context, flavor, commit) == before
    monkeypatch.setattr(store, "SCHEMA", store.SCHEMA + 1)
    assert run._fingerprint(context, flavor, commit) != before
