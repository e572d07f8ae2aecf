"""Images of another's layers and one more: what the engine is handed, and the history that they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from build import identity, labels, processors
from build.thin import Thin, _history, load
from tests.unit.fakes import FakeEngine, digest

WHEN = 1_700_000_000


@pytest.fixture
def image(tmp_path: Path) -> Thin:
    base = FakeEngine().hold("llm-d-dev:nightly", kind="base")
    layer = tmp_path / "layer.tar"
    layer.write_text("layer of its own")
    return Thin(base=base, layer=layer, labels={"title": "thin"}, created="2026-01-01T00:00:00Z", created_by="test")


def test_an_image_is_its_bases_layers_and_one_more(image: Thin) -> None:
    engine = FakeEngine()
    engine.hold("llm-d-dev:nightly", kind="base")
    made = load(engine, image, tag="llm-d-dev:thin")
    assert made.diff_ids == (*image.base.diff_ids, digest("layer of its own"))
    assert made.labels == {**image.base.labels, "title": "thin", labels.CONTENT: made.labels[labels.CONTENT]}
    assert identity.is_genuine(made)
    assert made.tags == ("llm-d-dev:thin",)


@pytest.mark.parametrize(("host", "asked"), [("unix:///nonexistent", 1), ("ssh://elsewhere", 0)])
def test_processors_stay_awake_while_an_engine_on_this_machine_loads(
    host: str, asked: int, image: Thin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = tmp_path / "cpu_dma_latency"
    requests.touch()
    monkeypatch.setattr(processors, "LATENCY_REQUESTS", requests)
    engine = FakeEngine()
    engine.hold("llm-d-dev:nightly", kind="base")
    engine.host = host
    seen: list[bool] = []
    engine.docker.loads = lambda: seen.append(is_open(requests))
    load(engine, image, tag="llm-d-dev:thin")
    assert seen == [bool(asked)]
    assert requests.read_bytes() == bytes(4 * asked)
    assert not is_open(requests)


def is_open(path: Path) -> bool:
    """Whether this process holds a file open."""
    return any(one.resolve() == path for one in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("kind", ["nothing", "folder"])
def test_where_nobody_takes_the_request_an_image_is_made_all_the_same(
    kind: str, image: Thin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = tmp_path / "cpu_dma_latency"
    if kind == "folder":
        requests.mkdir()
    monkeypatch.setattr(processors, "LATENCY_REQUESTS", requests)
    engine = FakeEngine()
    engine.hold("llm-d-dev:nightly", kind="base")
    assert load(engine, image, tag="llm-d-dev:thin").tags == ("llm-d-dev:thin",)
    assert not requests.is_file()


def row(created_by: str, size: int, comment: str = "") -> dict[str, Any]:
    """What the engine says of a step."""
    return {"CreatedBy": created_by, "Size": size, "Created": WHEN, "Comment": comment, "Id": "<missing>"}


@pytest.mark.parametrize(
    ("rows", "layers", "made"),
    [
        ([row("ADD x /", 5)], 1, [True]),
        ([row("ENV A=1", 0), row("ADD x /", 5)], 1, [False, True]),
        ([row("WORKDIR /x", 0), row("ADD x /", 5)], 2, [True, True]),
        ([row("WORKDIR /x", 0), row("ADD x /", 5)], 1, [False, True]),
        ([row("USER 1", 0), row("RUN /bin/sh -c true # buildkit", 0), row("ENV B=2", 0)], 1, [False, True, False]),
    ],
)
def test_as_many_steps_made_a_layer_as_there_are_layers(
    rows: list[dict[str, Any]], layers: int, made: list[bool]
) -> None:
    steps = _history(list(reversed(rows)), layers=layers)
    assert [step["created_by"] for step in steps] == [one["CreatedBy"] for one in rows]
    assert [not step.get("empty_layer") for step in steps] == made


@pytest.mark.parametrize("rows", [[], [row("USER 1", 0)], [row("ADD x /", 5), row("ADD y /", 5), row("ADD z /", 5)]])
def test_a_history_that_does_not_fit_the_layers_is_left_out(rows: list[dict[str, Any]]) -> None:
    steps = _history(rows, layers=2)
    assert len(steps) == 2
    assert not any(step.get("empty_layer") for step in steps)


def test_time_and_comment_survive() -> None:
    (step,) = _history([row("ADD x /", 5, "buildkit.dockerfile.v0")], layers=1)
    assert step == {
        "created": "2023-11-14T22:13:20Z",
        "created_by": "ADD x /",
        "comment": "buildkit.dockerfile.v0",
    }
