"""When a verdict that is known answers the question of a smoke run, and what the suite is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build import trial, verdict
from build.console import Console
from build.context import Context
from build.engine import Image
from build.gpus import Selection
from build.settings import Settings
from build.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = Image(
    id="sha256:" + "1" * 64,
    tags=(),
    digests=(),
    labels={},
    diff_ids=("sha256:" + "2" * 64,),
    size=1,
    created="",
    config={},
)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(settings=Settings(state=tmp_path), console=Console(quiet=True))


def keep(context: Context, *, gpus: str) -> None:
    configuration = {"suite": trial.suite_fingerprint(), "expect": [], "gpus": gpus}
    kept = Verdict(
        image_id=IMAGE.id,
        diff_ids=IMAGE.diff_ids,
        passed=("server/health",),
        failed=(),
        configuration=configuration,
        finished="2026-01-02T03:04:05Z",
    )
    verdict.record(context.folders.verdicts, kept)


@pytest.mark.parametrize(
    ("tested", "asked", "answered"),
    [
        ("none", "auto", True),
        ("all", "auto", True),
        ("0,1", "auto", True),
        ("all", "all", True),
        ("0", "0", True),
        ("none", "all", False),
        ("0", "1", False),
        ("all", "none", False),
    ],
)
def test_verdict_on_other_gpus_than_those_asked_for(
    context: Context, tested: str, asked: str, *, answered: bool
) -> None:
    keep(context, gpus=tested)
    options = trial.Options(gpus=Selection.parse(asked))
    assert (trial.known(context, IMAGE, options) is not None) == answered


@pytest.mark.parametrize("asked", ["auto", "none", "0,1"])
def test_suite_is_told_which_gpus(context: Context, tmp_path: Path, asked: str) -> None:
    argv = trial._argv(context, IMAGE, trial.Options(gpus=Selection.parse(asked)), tmp_path)
    assert argv[argv.index("--gpus") + 1] == asked
