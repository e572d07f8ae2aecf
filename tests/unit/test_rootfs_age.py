"""When the root file system of cpu bases is made again."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from build.console import Console
from build.engine import rootfs
from build.errors import BuildError, DiskError
from build.host import apt
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from build.engine.image import Image

WEEK = dt.timedelta(days=7)


def ago(days: float) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).isoformat()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """One on which nothing can be pulled; what is made is a minute old."""
    engine = FakeEngine()

    def taken(name: str) -> list[dict[str, Any]]:
        engine.hold(name, kind="rootfs", created=ago(0.001))
        return [{"status": "Importing"}, {"status": "sha256:1"}]

    monkeypatch.setattr(apt, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(rootfs, "_bootstrap", lambda *_, **__: None)
    engine.docker.imports = taken
    return engine


def ensure(engine: FakeEngine, max_age: dt.timedelta | None) -> Image:
    return rootfs.ensure(engine, image="x", install=False, console=Console(quiet=True), max_age=max_age)


def there(engine: FakeEngine, *, days: float, **marks: str) -> Image:
    """One that is there already."""
    return engine.hold(f"{rootfs.NAME}:{rootfs._fingerprint('x')}", created=ago(days), **marks)


@pytest.mark.parametrize(("days", "limit", "again"), [(6.9, WEEK, False), (7.1, WEEK, True), (999, None, False)])
def test_one_that_is_too_old_is_made_again_and_the_old_one_goes(
    engine: FakeEngine, days: float, limit: dt.timedelta | None, *, again: bool
) -> None:
    old = there(engine, days=days, kind="rootfs")
    found = ensure(engine, limit)
    assert (found.id != old.id) == again
    assert list(engine.docker.known) == [found.id]
    assert ensure(engine, limit).id == found.id


def test_one_that_was_pulled_is_not_this_tools_to_remove(engine: FakeEngine) -> None:
    old = there(engine, days=30)
    assert ensure(engine, WEEK).id != old.id
    assert old.id in engine.docker.known


@pytest.mark.parametrize(
    ("said", "error"), [("write /x: no space left on device", DiskError), ("invalid tar header", BuildError)]
)
def test_what_the_engine_says_against_one_is_passed_on(engine: FakeEngine, said: str, error: type[Exception]) -> None:
    engine.docker.imports = lambda _: [{"status": "Importing"}, {"error": said}]
    with pytest.raises(error, match=r"the root file system: .*(?:space|tar header)"):
        ensure(engine, WEEK)
