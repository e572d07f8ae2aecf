"""Removing what may go: from the engine and from the folders."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import TYPE_CHECKING

import pytest

from build.engine import embedded
from build.errors import BusyError
from build.host import lock
from build.nightly import pruning, retention
from tests.unit.fakes import FakeEngine, context_of, digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from build.context import Context
    from build.engine.image import Image
    from build.nightly.retention import Decision, Rules

GB = 1_000_000_000
SIZE = 3_750_000_000
NAMES = [f"llm-d-dev:nightly-{number:040}" for number in range(3)]
LOCAL = f"llm-d-dev:local-{1:040}"


@pytest.fixture
def context(engine: FakeEngine, tmp_path: Path) -> Context:
    return context_of(tmp_path, engine, quiet=True, keep_bases=1, keep_days=14)


def test_nothing_happens_without_apply(context: Context, engine: FakeEngine) -> None:
    engine.hold(NAMES[1], kind="base", created="2026-01-01")
    engine.hold(NAMES[2], kind="base", created="2026-01-02")
    done = pruning.prune(context, apply=False)
    assert len(engine.docker.known) == 2
    assert (done.applied, [one.image.tags for one in done.decisions if not one.keep]) == (
        False,
        [(NAMES[1],)],
    )


def test_an_image_goes_with_all_its_names_and_the_bytes_are_said(context: Context, engine: FakeEngine) -> None:
    kept = engine.hold("llm-d-dev:nightly", kind="base", created="2026-01-02")
    old = engine.hold(NAMES[1], f"quay.example/x:nightly-{1:040}", kind="base", created="2026-01-01")
    engine.docker.known[old.id]["RepoDigests"] = [f"quay.example/x@{digest('m')}"]
    engine.hold(kind="unsealed", repository="llm-d-dev")
    done = pruning.prune(context, apply=True)
    assert list(engine.docker.known) == [kept.id]
    assert list(engine.docker.names) == ["llm-d-dev:nightly"]
    assert done.freed == 2 * SIZE
    assert done.summary == "removed 2 images, 0 in the registry, 0 old files: 7.50 GB freed"
    assert done.document()["freed_bytes"] == 2 * SIZE


@pytest.mark.parametrize("kind", ["overlay", "unsealed"])
def test_what_a_user_made_from_an_image_stays_without_a_name(context: Context, engine: FakeEngine, kind: str) -> None:
    found = engine.hold(kind=kind, created="2020-01-01", repository="llm-d-dev", expires="3d")
    made = engine.commit(found, layers=["a user's work"])
    pruning.prune(context, apply=True)
    assert list(engine.docker.known) == [made.id]


def test_a_base_that_a_run_has_just_taken_stays(context: Context, engine: FakeEngine) -> None:
    engine.hold("llm-d-dev:nightly", kind="base", created="2026-01-02")
    taken = engine.hold(NAMES[1], kind="base", created="2026-01-01")
    with engine.temporary_tag(taken.id):
        done = pruning.prune(context, apply=True)
        assert engine.image(taken.id).tags == ()
    assert done.freed == 0


def test_a_name_that_has_moved_to_a_new_image_stays(
    context: Context, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = engine.hold(LOCAL, kind="overlay", created="2020-01-01", repository="llm-d-dev", expires="3d")
    decide = retention.decide

    def moved_meanwhile(images: Sequence[Image], rules: Rules) -> list[Decision]:
        decided = decide(images, rules)
        engine.hold(LOCAL, kind="overlay", created="2026-01-01")
        return decided

    monkeypatch.setattr(retention, "decide", moved_meanwhile)
    pruning.prune(context, apply=True)
    assert expired.id not in engine.docker.known
    assert engine.image(LOCAL).created == "2026-01-01"


def test_the_build_cache_goes_only_where_nobody_else_builds(context: Context, engine: FakeEngine) -> None:
    assert pruning.prune(context, apply=True).freed == 0
    assert engine.docker.cache_prunes == []
    engine.host = f"unix://{embedded.socket(context.folders)}"
    assert pruning.prune(context, apply=True).freed == 5
    assert engine.docker.cache_prunes == [{"filters": {"until": "336h"}, "all": True}]


def test_it_waits_for_no_nightly_and_disturbs_none(context: Context) -> None:
    with lock.held(context.folders.locks, "nightly", doing="x"):
        pruning.prune(context, apply=False)
        with pytest.raises(BusyError):
            pruning.prune(context, apply=True)


def aged(path: Path, *, days: float, folder: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        path.mkdir()
        (path / "content").write_bytes(b"x" * 1000)
    else:
        path.write_bytes(b"x" * 1000)
    stamp = time.time() - dt.timedelta(days=days).total_seconds()
    os.utime(path, (stamp, stamp))
    return path


def test_old_files_go_and_new_ones_and_those_of_images_that_are_here_stay(context: Context, engine: FakeEngine) -> None:
    folders = context.folders
    here = engine.hold("llm-d-dev:nightly", kind="base").id.removeprefix("sha256:")
    gone = "0" * 64
    old = [
        aged(folders.reports / "1", days=15, folder=True),
        aged(folders.logs / "1.log", days=15),
        aged(folders.nightlies / "1.json", days=15),
        aged(folders.verdicts / f"{gone}.json", days=15),
        aged(folders.verdicts / f"{gone}.{'f' * 64}.json", days=15),
        aged(folders.cache / "bases" / gone, days=15, folder=True),
        aged(folders.cache / ".context-1", days=15, folder=True),
    ]
    new = [
        aged(folders.reports / "2", days=13, folder=True),
        aged(folders.logs / "2.log", days=13),
        aged(folders.nightlies / "2.json", days=13),
        aged(folders.verdicts / f"{here}.json", days=15),
        aged(folders.verdicts / f"{here}.{'f' * 64}.json", days=15),
        aged(folders.verdicts / f"{'1' * 64}.json", days=13),
        aged(folders.cache / "bases" / here, days=15, folder=True),
        aged(folders.downloads / "wheel", days=99),
        aged(folders.state / "engine/daemon.json", days=99),
    ]
    done = pruning.prune(context, apply=True)
    assert set(done.files) == set(old)
    assert [path for path in old if path.exists()] == []
    assert [path for path in new if not path.exists()] == []
    assert done.freed == 7000
