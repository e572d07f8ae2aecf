"""An image is as this tool made it, or its labels say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from build.engine import content, labels
from build.gate import demands
from tests.standin.verdicts import passing
from tests.unit.fakes import FakeEngine


@pytest.mark.parametrize("kind", ["base", "overlay"])
def test_bases_and_overlays_are_told_by_what_they_hold(kind: str) -> None:
    assert content.is_genuine(FakeEngine().hold("llm-d-dev:x", kind=kind))


@pytest.mark.parametrize(
    "change",
    [
        *({"layers": ["edited"]}, {"env": ["A=1"]}, {"kind": "base"}, {"flavor": "cpu"}, {"native": "0"}),
        *({"base": "sha256:0"}, {"commit": "e" * 40}, {"version": "9"}, {"content": "sha256:0"}),
    ],
)
def test_what_was_made_from_one_is_not_one(change: dict[str, Any]) -> None:
    engine = FakeEngine()
    image = engine.hold("llm-d-dev:x", kind="overlay", flavor="cuda", native="3", base="sha256:1", commit="c" * 40)
    why = content.trouble(engine.commit(image, "mine:x", **change))
    assert why
    assert "was made from an image of this tool" in why


def test_the_label_for_when_it_expires_counts() -> None:
    attrs = {"User": "2000"}
    told = [content.content(attrs, {labels.QUAY_EXPIRES: days}, ["a"]) for days in ("3d", "9999d")]
    assert len(set(told)) == 2


def test_what_engines_add_or_leave_out_does_not_count() -> None:
    marks = {labels.KIND: "base"}
    bare = {"User": "2000", "Env": ["A=1"]}
    full = {**bare, "Hostname": "0a", "Domainname": "", "Image": "sha256:0", "OnBuild": None, "Tty": False, "Cmd": []}
    assert content.content(bare, marks, ["a"]) == content.content(full, marks, ("a",))


@pytest.mark.parametrize("kind", ["other", ""])
def test_what_holds_a_sealed_vllm_is_judged_by_every_check_whatever_its_label_says(kind: str) -> None:
    engine = FakeEngine()
    whole = passing(engine.hold("llm-d-dev:x", kind="base"))
    liar = engine.commit(engine.hold("llm-d-dev:y", kind="base"), "llm-d-dev:z", kind=kind)
    assert set(passing(liar, sealed=True).passed) == set(whole.passed)
    assert len(passing(liar, sealed=False).passed) < len(whole.passed)
    assert demands.missing(passing(liar, sealed=True), liar) == []
