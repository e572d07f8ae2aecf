"""Images of before, when names did not tell flavors apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.engine import names
from build.nightly import renaming
from tests.unit.fakes import context_of

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from tests.unit.fakes import FakeEngine

OLD, NEW = "0" * 40, "1" * 40


@pytest.fixture
def context(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(names, "REPOSITORY", tmp_path)
    return context_of(tmp_path, engine)


def held(engine: FakeEngine, image_id: str) -> list[str]:
    return sorted(name.rpartition(":")[2] for name in engine.image(image_id).tags)


def test_a_cpu_image_gets_the_names_of_its_flavor_and_that_is_said(
    context: Context, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    base = engine.hold("llm-d-dev:nightly", f"llm-d-dev:nightly-{OLD}", kind="base", flavor="cpu", commit=OLD)
    overlay = engine.hold(f"llm-d-dev:{NEW}", f"llm-d-dev:local-{NEW}", "llm-d-dev:mine", kind="overlay", flavor="cpu")
    renaming.rename(context)
    assert held(engine, base.id) == [f"nightly-{OLD}-cpu", "nightly-cpu"]
    assert held(engine, overlay.id) == [f"{NEW}-cpu", f"local-{NEW}-cpu", "mine"]
    assert "is a cpu image: no more llm-d-dev:nightly, now llm-d-dev:nightly-cpu" in capsys.readouterr().err
    # As after a run that was killed in between.
    engine.tag(base.id, "llm-d-dev:nightly")
    renaming.rename(context)
    assert "no more llm-d-dev:nightly, now llm-d-dev:nightly-cpu" in capsys.readouterr().err
    renaming.rename(context)
    assert capsys.readouterr().err == ""


def test_cuda_images_and_those_of_others_keep_theirs(context: Context, engine: FakeEngine) -> None:
    kept = [
        engine.hold("llm-d-dev:nightly", kind="base", flavor="cuda"),
        engine.hold("elsewhere:nightly", "quay.example/llm-d-dev:nightly", kind="base", flavor="cpu"),
        engine.hold(f"llm-d-dev:nightly-{OLD}", kind="base"),
        engine.hold(f"llm-d-dev:nightly-{NEW}", kind="base", flavor="rocm"),
        cpu := engine.hold("llm-d-dev:nightly-cpu", kind="base", flavor="cpu"),
        engine.commit(cpu, f"llm-d-dev:nightly-{'e' * 40}", layers=["a user's work"]),
    ]
    before = dict(engine.docker.names)
    renaming.rename(context)
    assert engine.docker.names == before
    assert len(engine.docker.known) == len(kept)


def test_a_name_that_a_newer_image_has_stays_there_and_no_image_is_lost(
    context: Context, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = engine.hold("llm-d-dev:nightly-cpu", kind="base", flavor="cpu", commit=NEW)
    older = engine.hold("llm-d-dev:nightly", kind="base", flavor="cpu", commit=OLD)
    renaming.rename(context)
    assert held(engine, newer.id) == ["nightly-cpu"]
    assert held(engine, older.id) == []
    assert "which a newer image has as nightly-cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"": OLD}, {"-cpu": OLD}),
        ({"": NEW}, {"": NEW}),
        ({"": OLD, "-cpu": NEW}, {"-cpu": NEW}),
        ({}, {}),
    ],
)
def test_the_file_with_the_commit_goes_along(
    context: Context, engine: FakeEngine, tmp_path: Path, before: dict[str, str], after: dict[str, str]
) -> None:
    engine.hold("llm-d-dev:nightly", kind="base", flavor="cpu", commit=OLD)
    for suffix, commit in before.items():
        (tmp_path / f"base_commit{suffix}.txt").write_text(f"{commit}\n")
    renaming.rename(context)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"base_commit{suffix}.txt": f"{commit}\n" for suffix, commit in after.items()
    }
