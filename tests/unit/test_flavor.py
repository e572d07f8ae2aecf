"""Which flavor is meant, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.base import chosen
from build.base.chosen import Chosen
from build.cli import options, schedule
from build.cli.nightly import flavor_of
from build.cli.options import Defaults
from build.config import settings
from build.console import Console
from build.context import Context
from build.engine import names
from build.errors import EngineError, UsageError
from build.source.local_source import LocalSource
from tests.unit.fakes import CAPABILITIES, FakeEngine

if TYPE_CHECKING:
    import argparse


class Machine(Context):
    """An engine that passes GPUs or does not; or none."""

    passes: str | None = None
    answers: bool = True

    @property
    def engine(self) -> FakeEngine:
        if not self.answers:
            raise EngineError("no Docker Engine answers", hint="start one")
        engine = FakeEngine()
        engine.pass_gpus(self.passes)
        return engine


def machine(*, passes: str | None = None, answers: bool = True, asked: str = "auto") -> Context:
    found = Machine(settings=settings.load({"flavor": asked}), console=Console(quiet=False))
    object.__setattr__(found, "passes", passes)
    object.__setattr__(found, "answers", answers)
    return found


def nightly(*words: str) -> argparse.Namespace:
    return options.parse_nightly(words)


@pytest.mark.parametrize(
    ("passes", "answers", "name", "why"),
    [
        ("CDI devices", True, "cuda", "the engine can pass a GPU (CDI devices)"),
        ("the NVIDIA runtime", True, "cuda", "the engine can pass a GPU (the NVIDIA runtime)"),
        (None, True, "cpu", "the engine cannot pass a GPU"),
        (None, False, "cpu", "no Docker Engine answers"),
    ],
)
def test_auto_follows_the_engine_and_says_why(
    passes: str | None, name: str, why: str, capsys: pytest.CaptureFixture[str], *, answers: bool
) -> None:
    found = flavor_of(machine(passes=passes, answers=answers), nightly())
    assert (found.name, found.why) == (name, why)
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"flavor {name}: {why}")


@pytest.mark.parametrize(
    ("asked", "words", "name"),
    [
        ("cuda", (), "cuda"),
        ("cpu", (), "cpu"),
        ("cpu", ("--flavor", "cuda"), "cuda"),
        ("auto", ("--commit", "main"), "cuda"),
        ("auto", ("--compile", "--builder", "x"), "cuda"),
        ("cuda", ("--no-preflight",), "cuda"),
        ("auto", ("--vllm-version", "newest"), "cpu"),
    ],
)
def test_what_was_asked_for_needs_no_engine(asked: str, words: tuple[str, ...], name: str) -> None:
    assert flavor_of(machine(asked=asked, answers=False), nightly(*words)).name == name


@pytest.mark.parametrize(
    ("asked", "words", "complaint"),
    [
        ("auto", ("--flavor", "cpu", "--commit", "main"), "--commit is for bases of the cuda flavor, not of cpu"),
        ("cpu", ("--commit", "main", "--compile"), "--commit, --compile is for bases of the cuda flavor, not of cpu"),
        ("cuda", ("--vllm-version", "0.32.0"), "--vllm-version is for bases of the cpu flavor"),
    ],
)
def test_options_of_another_flavor_are_refused(asked: str, words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        flavor_of(machine(asked=asked), nightly(*words))


@pytest.mark.parametrize(
    ("words", "started"),
    [
        ("", ["--flavor", "cuda"]),
        ("--no-push", ["--no-push", "--flavor", "cuda"]),
        ("--flavor auto", ["--flavor", "auto", "--flavor", "cuda"]),
        ("--flavor cpu", ["--flavor", "cpu"]),
        ("--vllm-version newest", ["--vllm-version", "newest", "--flavor", "cpu"]),
    ],
)
def test_a_timer_keeps_the_flavor_that_was_chosen(words: str, started: list[str]) -> None:
    defaults = Defaults(source=LocalSource(path=Path(), origin=None), ref="")
    arguments = options.parse(["schedule", "install", f"--nightly={words}"], defaults)
    kept = schedule.scheduled(machine(passes="CDI devices"), arguments)
    assert kept == started
    assert flavor_of(machine(), nightly(*kept)).name == started[-1]


def test_the_choice_in_one_line() -> None:
    assert str(Chosen(name="cpu", why="the engine cannot pass a GPU", automatic=True)) == (
        "flavor cpu: the engine cannot pass a GPU"
    )


@pytest.mark.parametrize(
    ("can", "by"),
    [
        ({}, None),
        ({"cdi": True}, None),
        ({"cdi": True, "cdi_gpus": True}, "CDI devices"),
        ({"nvidia_runtime": True, "cdi": True, "cdi_gpus": True}, "the NVIDIA runtime"),
    ],
)
def test_what_passes_a_gpu_is_named(can: dict[str, bool], by: str | None) -> None:
    assert replace(CAPABILITIES, **can).passes_gpus == by  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [chosen.AUTO, *names.FLAVORS])
def test_every_flavor_can_be_the_setting(name: str) -> None:
    assert settings.load({"flavor": name}).flavor == name
