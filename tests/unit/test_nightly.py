"""A nightly ends as its work ends, whatever becomes of what is done around it."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING

import pytest

from build.base import store
from build.errors import BusyError, EngineError, SmokeError
from build.flavors.cpu import Cpu
from build.host import lock
from build.nightly import nightlog, notify, pruning, record, run
from build.nightly.run import BaseRequest
from build.source.repository import Commit
from tests.unit.fakes import FakeEngine, context_of

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from build.nightly.record import Record

GB = 1_000_000_000
REQUEST = BaseRequest(flavor="cpu", force=False, push=False)


def ago(*, days: float) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).isoformat()


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(nightlog, "PATH", tmp_path / "nightly-build.log")
    logging.getLogger("build").setLevel(logging.DEBUG)
    return context_of(tmp_path)


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
def test_the_disk_that_a_build_needs_grows_with_the_bases(
    sizes: tuple[int, ...], needed: int, context: Context
) -> None:
    engine = FakeEngine()
    for day, size in enumerate(sizes):
        image = engine.hold(kind="base", flavor="cpu", created=f"2026-01-{20 - day}")
        engine.docker.known[image.id]["Size"] = size * GB
    assert run._needed(engine, Cpu(context=context)) == needed * GB


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
def test_a_base_that_passed_is_taken_before_a_newer_copy(
    names: list[tuple[str, ...]], taken: int | None, tmp_path: Path
) -> None:
    engine = FakeEngine()
    made = [
        engine.hold(*found, kind="base", fingerprint="same", created=ago(days=1 - day / 10))
        for day, found in enumerate(names)
    ]
    where = context_of(tmp_path, engine, quiet=True, rebuild_days=7)
    found = run._find(where, Cpu(context=where), "same")
    assert (found.id if found else None) == (None if taken is None else made[taken].id)


def test_what_a_user_made_from_a_base_is_not_taken_for_it(tmp_path: Path) -> None:
    engine = FakeEngine()
    base = engine.hold("llm-d-dev:nightly-cpu", kind="base", fingerprint="same", created=ago(days=1))
    made = engine.commit(base, "llm-d-dev:nightly-cpu", env=["VLLM_LOGGING_LEVEL=ERROR"])
    engine.docker.known[made.id]["Created"] = ago(days=0)
    where = context_of(tmp_path, engine, quiet=True, rebuild_days=7)
    found = run._find(where, Cpu(context=where), "same")
    assert found is not None
    assert found.id == base.id


@pytest.mark.parametrize(("ages", "taken"), [((8, 6.9), 1), ((7.1,), None), ((6.9, 8), 0), ((99, 98), None)])
def test_a_base_that_is_too_old_is_built_again(
    ages: tuple[float, ...], taken: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine()
    made = [
        engine.hold(f"llm-d-dev:nightly-{n:040}-cpu", kind="base", fingerprint="same", created=ago(days=age))
        for n, age in enumerate(ages)
    ]
    where = context_of(tmp_path, engine, rebuild_days=7)
    found = run._find(where, Cpu(context=where), "same")
    assert (found and found.id) == (None if taken is None else made[taken].id)
    assert ("rebuilding it" in capsys.readouterr().err) == (taken is None)
    patient = context_of(tmp_path, engine, rebuild_days=100)
    assert run._find(where, Cpu(context=patient), "same") is not None


def test_another_schema_asks_for_another_base(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    flavor, commit = Cpu(context=context), Commit(id="c" * 40, subject="x", timestamp=0)
    before = run._fingerprint(flavor, commit, "7d")
    assert run._fingerprint(flavor, commit, "7d") == before
    monkeypatch.setattr(store, "SCHEMA", store.SCHEMA + 1)
    assert run._fingerprint(flavor, commit, "7d") != before
