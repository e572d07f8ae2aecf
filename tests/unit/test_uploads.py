"""What a killed push leaves is recognised and removed, and what another one needs is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.engine import uploads
from build.engine.credentials import Login
from build.host import lock
from build.nightly import retention
from build.registry import expiry
from build.registry.client import Registry
from build.registry.repository_name import Access, RepositoryName
from tests.unit.fakes import FakeEngine, FakeRegistry
from tests.unit.loopback import serving

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.image import Image

LOCAL = f"llm-d-dev:local-{'c' * 40}"
LOGIN = Login(username="me", password="word", identity_token="")  # noqa: S106


@pytest.fixture
def image(engine: FakeEngine) -> Image:
    return engine.hold(LOCAL, kind="overlay")


def test_the_name_of_a_push_that_is_gone_is_taken_away(engine: FakeEngine, image: Image, tmp_path: Path) -> None:
    engine.tag(image.id, f"a.example/x:{uploads.of(image, tmp_path)}")
    assert uploads.sweep(engine, tmp_path) == 1
    assert engine.image(image.id).tags == (LOCAL,)
    assert uploads.sweep(engine, tmp_path) == 0


def test_the_name_of_a_push_that_runs_or_is_not_of_this_state_folder_stays(
    engine: FakeEngine, image: Image, tmp_path: Path
) -> None:
    engine.tag(image.id, f"a.example/x:{uploads.of(image, tmp_path)}")
    with lock.held(tmp_path, uploads.lock_name(image.short_id), doing="pushing"):
        assert uploads.sweep(engine, tmp_path) == 0
    assert uploads.sweep(engine, tmp_path / "another") == 0
    assert len(engine.image(image.id).tags) == 2


def test_an_image_may_go_with_the_name_of_a_push(engine: FakeEngine, image: Image, tmp_path: Path) -> None:
    engine.docker.keep_digest(image.id, "a.example/x@sha256:0")
    engine.tag(image.id, f"a.example/x:{uploads.of(image, tmp_path)}")
    assert retention.foreign_names(engine.image(image.id), "llm-d-dev") == []


def test_names_that_killed_pushes_left_in_the_embedded_registry_go_and_the_image_stays(
    image: Image, tmp_path: Path
) -> None:
    served = FakeRegistry(untags=False)
    here, elsewhere = str(uploads.of(image, tmp_path)), str(uploads.of(image, tmp_path / "another"))
    for tag in ("nightly", here, elsewhere):
        served.put(tag, image.id)
    with serving(served) as address:
        access = Access(address=address, reached=address, login=LOGIN)
        registry = Registry(RepositoryName(host=address, path="x", access=access))
        with lock.held(tmp_path, uploads.lock_name(image.short_id), doing="pushing"):
            assert expiry.abandoned(registry, tmp_path) == set()
        assert expiry.abandoned(registry, tmp_path) == {here}
        registry.untag(here)
    assert set(served.manifests) == {"nightly", elsewhere}
