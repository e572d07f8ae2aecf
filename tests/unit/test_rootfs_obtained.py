"""Where the root file system, and the registry's image, come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.console import Console
from build.engine import pulling, rootfs
from build.engine.image import Image
from build.errors import BuildError, EngineError
from build.host import apt, process

if TYPE_CHECKING:
    from tests.unit.fakes import FakeEngine

NAME = "debian:12-slim"


def test_what_a_registry_has_is_pulled(engine: FakeEngine) -> None:
    def pull(name: str) -> list[dict[str, str]]:
        engine.hold(name)
        return []

    engine.docker.pulls = pull
    found = pulling.pulled(engine, NAME, print)
    assert isinstance(found, Image)
    assert found.name == NAME


def test_what_the_engine_has_is_taken_where_no_registry_answers(engine: FakeEngine) -> None:
    loaded = engine.hold(NAME)
    assert pulling.pulled(engine, NAME, print) == loaded


def test_why_there_is_none_is_said(engine: FakeEngine) -> None:
    assert pulling.pulled(engine, NAME, print) == f"{NAME} cannot be pulled here (lookup hub.example: no such host)"


def test_an_ordinary_user_without_a_registry_is_told_what_to_do(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "missing", tuple)
    with pytest.raises(EngineError, match="not installed: mmdebstrap") as caught:
        rootfs.ensure(engine, image=NAME, install=False, console=Console(quiet=True))
    assert f"let the engine pull {NAME}" in caught.value.hint
    assert "rootfs_image" in caught.value.hint


def test_an_ordinary_user_for_whom_mmdebstrap_finds_no_way_is_told_so(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ("I: automatically chosen mode", "E: unable to pick chroot mode automatically (use --mode …)")
    monkeypatch.setattr(apt, "missing", lambda _: ())
    monkeypatch.setattr(process, "run", lambda *_, **__: process.Completed(returncode=25, tail=said))
    # Its containers have another machine's programs.
    engine.host = "ssh://gpu-box"
    with pytest.raises(BuildError, match="only root") as caught:
        rootfs.ensure(engine, image=NAME, install=False, console=Console(quiet=True))
    assert "run this once as root" in caught.value.hint


def test_none_is_made_for_an_engine_with_another_processor(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "missing", lambda _: ())
    monkeypatch.setattr(process, "run", lambda *_, **__: process.Completed(returncode=1, tail=()))
    engine.docker.about = {"Architecture": "riscv64"}
    with pytest.raises(EngineError, match=r"made here is for \w+, but the engine is on riscv64") as caught:
        rootfs.ensure(engine, image=NAME, install=False, console=Console(quiet=True))
    assert f"let the engine pull {NAME}" in caught.value.hint
