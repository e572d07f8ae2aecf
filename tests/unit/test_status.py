"""The table of what exists."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from build.cli import report, status
from build.console import Console
from build.gate import reports, verdict
from build.host import stored
from tests.standin.verdicts import passing
from tests.unit.fakes import FakeEngine, context_of, digest

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from build.engine.image import Image

COMMIT = "c" * 40
MARKS = {"commit": COMMIT, "flavor": "cpu", "version": "0.32.0+cpu"}


@pytest.fixture
def context(engine: FakeEngine, tmp_path: Path) -> Context:
    return context_of(tmp_path, engine)


def judge(context: Context, image: Image, *, failed: tuple[str, ...] = (), **configuration: object) -> None:
    found = replace(passing(image, **configuration), failed=failed)
    verdict.record(context.folders.verdicts, found)


def test_bases_then_overlays_each_newest_first(context: Context, engine: FakeEngine) -> None:
    engine.hold("llm-d-dev:local-1", kind="overlay", created="2026-01-03")
    engine.hold("llm-d-dev:nightly-1", kind="base", created="2026-01-01")
    engine.hold("llm-d-dev:nightly-2", kind="base", created="2026-01-02")
    assert [row.names for row in status.rows(context)] == [
        ("llm-d-dev:nightly-2",),
        ("llm-d-dev:nightly-1",),
        ("llm-d-dev:local-1",),
    ]


def test_images_that_are_not_ours_or_lost_their_name_are_left_out(context: Context, engine: FakeEngine) -> None:
    engine.hold("llm-d-dev:x")
    engine.hold(kind="base")
    engine.hold("elsewhere:nightly", kind="base")
    engine.hold("llm-d-dev-rootfs:x", kind="rootfs")
    assert status.rows(context) == []


def test_every_verdict_has_a_word(context: Context, engine: FakeEngine) -> None:
    images = {word: engine.hold(f"llm-d-dev:{word}", kind="base") for word in ("pass", "fail", "outdated", "untested")}
    judge(context, images["pass"])
    judge(context, images["fail"], failed=("y",))
    judge(context, images["outdated"], suite="older")
    judge(context, images["untested"], exact=False)
    assert {row.names[0].partition(":")[2]: row.verdict for row in status.rows(context)} == {
        word: word for word in images
    }


def test_where_an_image_was_pushed(context: Context, engine: FakeEngine) -> None:
    remote = "127.0.0.1:5000/llm-d-dev"
    image = engine.hold("llm-d-dev:nightly", f"{remote}:nightly", f"{remote}:nightly-{COMMIT}", kind="base", **MARKS)
    engine.docker.known[image.id]["RepoDigests"] = [f"{remote}@{digest('manifest')}"]
    (row,) = status.rows(context)
    assert row.names == ("llm-d-dev:nightly",)
    assert row.pushed == (f"{remote}:nightly", f"{remote}:nightly-{COMMIT}")
    assert row.digest == digest("manifest")
    assert row.document() == {
        "id": image.id,
        "name": "llm-d-dev:nightly",
        "names": ["llm-d-dev:nightly"],
        "kind": "base",
        "flavor": "cpu",
        "commit": COMMIT,
        "version": "0.32.0+cpu",
        "base": None,
        "verdict": "untested",
        "failed_with": [],
        "numbers_changed": False,
        "digest": digest("manifest"),
        "pushed": list(row.pushed),
        "bytes": 3_750_000_000,
        "layer_bytes": None,
        "created": "2026-01-01T00:00:00Z",
        "report": None,
    }


def test_a_name_that_was_given_and_not_pushed_is_local(context: Context, engine: FakeEngine) -> None:
    engine.hold("llm-d-dev:nightly", "quay.example/x:nightly", kind="base")
    (row,) = status.rows(context)
    assert (row.digest, row.pushed) == (None, ())


def test_what_has_no_local_name_is_called_by_what_verbs_accept(context: Context, engine: FakeEngine) -> None:
    remote = "quay.example/x:local-1"
    unnamed = engine.hold(kind="base", repository="llm-d-dev")
    pushed = engine.hold(remote, kind="overlay", repository="llm-d-dev")
    engine.docker.known[pushed.id]["RepoDigests"] = [f"quay.example/x@{digest('manifest')}"]
    engine.hold(kind="base", repository="elsewhere")
    rows = status.rows(context)
    assert [row.called for row in rows] == [(unnamed.id.removeprefix("sha256:")[:12],), (remote,)]
    assert [row.document()["name"] for row in rows] == [row.called[0] for row in rows]


def test_an_overlay_s_own_size_stands_beside_the_whole(
    context: Context, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    base = engine.hold("llm-d-dev:nightly", kind="base", **MARKS)
    overlay = engine.hold("llm-d-dev:local-1", kind="overlay", base=base.id, **MARKS)
    engine.hold("llm-d-dev:local-2", kind="overlay", base=digest("gone"), created="2025-01-01T00:00:00Z", **MARKS)
    engine.docker.known[overlay.id]["Size"] += 63_000
    found = status.rows(context)
    assert [row.document()["layer_bytes"] for row in found] == [None, 63_000, None]
    Console(quiet=False).result(status.table(found))
    assert "3.75 GB  63.0 kB  not pushed" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["20", "80", "300"])
def test_no_width_cuts_a_name(
    context: Context,
    engine: FakeEngine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name = f"quay.example:5000/a-team/{'of-people/' * 5}llm-d-dev:local-{COMMIT}-dirty-{COMMIT}"
    context.settings.__dict__["repository"] = name.rpartition(":")[0]
    engine.hold(name, kind="base", **MARKS)
    Console(quiet=False).result(status.table(status.rows(context)))
    assert name in capsys.readouterr().out.split()


def test_a_person_gets_it_short(context: Context, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    image = engine.hold(f"llm-d-dev:nightly-{COMMIT}", "llm-d-dev:nightly", kind="base", **MARKS)
    judge(context, image)
    rows = status.rows(context)
    rows.append(replace(rows[0], verdict="untested", digest=f"sha256:{'d' * 64}"))
    Console(quiet=False).result(status.table(rows))
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["image", "kind", "commit", "verdict", "age", "size", "layer", "pushed", "digest"]
    first = shown[1].split()
    assert first[:5] == ["llm-d-dev:nightly", "base", "(cpu)", "c" * 12, "pass"]
    assert first[6:] == ["days", "3.75", "GB", "not", "pushed"]
    assert shown[2].split() == [f"llm-d-dev:nightly-{COMMIT}"]
    assert shown[3].split()[-1] == "d" * 12


@pytest.mark.parametrize(
    ("numbers", "said"),
    [("changed: prompt of 1 tokens: token 1 is 2, not 3", True), ("as its base's", False), (None, False)],
)
def test_numbers_that_were_changed_on_purpose_are_said(
    context: Context, engine: FakeEngine, capsys: pytest.CaptureFixture[str], numbers: str | None, *, said: bool
) -> None:
    judge(context, engine.hold("llm-d-dev:nightly", kind="base", **MARKS), numbers=numbers)
    (row,) = status.rows(context)
    assert (row.verdict, row.document()["numbers_changed"]) == ("pass", said)
    Console(quiet=False).result(status.table([row]))
    assert ("numbers changed" in capsys.readouterr().out) is said


def test_newest_report_is_named(context: Context, engine: FakeEngine) -> None:
    image = engine.hold("llm-d-dev:nightly-1", kind="base")
    for second, result in enumerate(("fail", "pass")):
        folder = context.folders.reports / f"20260101-00000{second}-{image.short_id}-0"
        folder.mkdir(parents=True)
        nothing: dict[str, object] = {"cause": None, "line": None, "advice": None, "checks": [], "figures": {}}
        stored.write(folder / "report.json", {"result": result, "image_id": image.id, **nothing})
    (row,) = status.rows(context)
    assert row.document()["report"] == str(folder / "report.html")
    assert [each.read.result for each in reports.kept(context.folders.reports, image)] == ["pass", "fail"]


@pytest.mark.parametrize(
    ("variables", "shown"),
    [({}, False), ({"DISPLAY": ""}, False), ({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "w"}, True)],
)
def test_browser_is_started_only_where_it_can_be_seen(variables: dict[str, str], *, shown: bool) -> None:
    assert report.has_display(variables) == shown


def test_a_failure_in_another_way_stands_beside_the_pass(context: Context, engine: FakeEngine) -> None:
    image = engine.hold("llm-d-dev:x", kind="base")
    judge(context, image)
    judge(context, image, failed=("server/expectation[x]",), expect=["/x=y"])
    (row,) = status.rows(context)
    assert (row.verdict, row.document()["failed_with"]) == ("pass", ["--expect /x=y"])
