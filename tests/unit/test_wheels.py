"""Whether there is a precompiled wheel, before anything is built."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from build.errors import SourceError
from build.flavors import wheels
from build.flavors.wheels import Wheel, WheelIndex
from build.llmd.wheel_rule import WheelRule
from tests.unit.loopback import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.unit.loopback import Asked

A, B, C = ("a" * 40, "b" * 40, "c" * 40)


def row(**facts: str) -> dict[str, str]:
    """As vLLM's index has it."""
    name = "vllm-0.33.0.dev1%2Bgabc-cp38-abi3-manylinux_2_28_x86_64.whl"
    return {"package_name": "vllm", "platform_tag": "manylinux_2_28_x86_64", "path": f"../../{name}", **facts}


@dataclass(kw_only=True)
class Index:
    """A wheel index: rows by commit and variant."""

    rows: dict[tuple[str, str], list[dict[str, str]]] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    body: bytes | None = None
    asked: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked.path)
        if self.failures:
            return Answer(status=self.failures.pop(0))
        _, commit, variant, package, name = asked.path.split("/")
        assert (package, name) == ("vllm", "metadata.json")
        found = self.rows.get((commit, variant))
        if self.body is not None:
            return Answer(body=self.body)
        return Answer(body=json.dumps(found).encode()) if found else Answer(status=404)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def index() -> Index:
    return Index()


@pytest.fixture
def address(index: Index) -> Iterator[str]:
    with serving(index) as where:
        yield f"http://{where}"


def find(address: str, commit: str = A, variant: str = "cu130", architecture: str = "x86_64") -> str | None:
    return WheelIndex(address=address).find(commit, variant=variant, architecture=architecture)


def test_exactly_that_commit_variant_and_architecture(index: Index, address: str) -> None:
    index.rows[A, "cu130"] = [
        row(package_name="other", path="other"),
        row(platform_tag="manylinux_2_28_aarch64", path="arm"),
        row(),
    ]
    assert find(address) == f"{address}/{A}/vllm-0.33.0.dev1%2Bgabc-cp38-abi3-manylinux_2_28_x86_64.whl"
    assert find(address, architecture="aarch64") == f"{address}/{A}/cu130/vllm/arm"
    assert find(address, architecture="ppc64le") is None
    assert find(address, variant="cu129") is None
    assert find(address, commit=B) is None


@pytest.mark.parametrize("status", [403, 404])
def test_a_bucket_says_in_two_ways_that_it_has_none(index: Index, address: str, status: int) -> None:
    index.failures = [status]
    assert find(address) is None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_can_get_better_is_tried_again(index: Index, address: str, status: int) -> None:
    index.rows[A, "cu130"] = [row()]
    index.failures = [status, status]
    assert find(address)
    assert len(index.asked) == 3


def test_a_server_that_stays_ill_is_no_missing_wheel(index: Index, address: str) -> None:
    index.failures = [500] * 9
    with pytest.raises(SourceError, match="does not answer: HTTP 500") as caught:
        find(address)
    assert "--no-preflight" in caught.value.hint


@pytest.mark.parametrize("body", [b"<html>", b'{"a": 1}', b'[{"package_name": "vllm"}]', b'["x"]'])
def test_another_answer_is_none_either(index: Index, address: str, body: bytes) -> None:
    index.body = body
    with pytest.raises(SourceError, match=r"metadata\.json is not a list of wheels"):
        find(address)


def test_nobody_answers() -> None:
    with pytest.raises(SourceError, match="does not answer"):
        find("http://127.0.0.1:1")


def choose(address: str, *ancestors: str, native: Mapping[str, Sequence[str]] | None = None) -> Wheel:
    return wheels.choose(
        WheelIndex(address=address),
        A,
        variant="cu130",
        architecture="x86_64",
        ancestors=lambda: ancestors,
        native=lambda ancestor: (native or {}).get(ancestor, ()),
    )


def test_the_commits_own_wheel_needs_no_history(index: Index, address: str) -> None:
    index.rows[A, "cu130"] = [row()]
    wheel = wheels.choose(
        WheelIndex(address=address),
        A,
        variant="cu130",
        architecture="x86_64",
        ancestors=pytest.fail,
        native=pytest.fail,
    )
    assert (wheel.commit, wheel.behind) == (A, 0)


def test_else_the_newest_ancestors_with_the_same_native_sources(index: Index, address: str) -> None:
    index.rows[C, "cu130"] = [row()]
    assert (choose(address, B, C).commit, choose(address, B, C).behind) == (C, 2)
    index.rows[B, "cu130"] = [row()]
    assert choose(address, B, C).commit == B
    assert choose(address, B, C, native={B: ["csrc/x.cu"]}).commit == C


def test_else_it_stops_and_names_what_is_compiled_differently(index: Index, address: str) -> None:
    index.rows[B, "cu130"] = [row()]
    with pytest.raises(
        SourceError, match=rf"{A} has no precompiled wheel for cu130 on x86_64.*{B}, 1 commits.*csrc/x\.cu"
    ) as caught:
        choose(address, B, C, native={B: ["csrc/x.cu"]})
    assert "--compile" in caught.value.hint


def test_no_wheel_anywhere(address: str) -> None:
    with pytest.raises(SourceError, match=r"neither has any of its last 2 ancestors"):
        choose(address, B, C)


def test_only_the_tags_that_the_trees_script_takes_count(index: Index, address: str) -> None:
    index.rows[A, "cu130"] = [row(platform_tag="manylinux_2_35_x86_64", path="new"), row(path="old")]
    found = WheelIndex(address=address)

    def path(*tags: str) -> str | None:
        return found.find(A, variant="cu130", architecture="x86_64", tags=tags)

    assert path("manylinux_2_28_x86_64") == f"{address}/{A}/cu130/vllm/old"
    assert path("manylinux_[0-9_]+_x86_64") == f"{address}/{A}/cu130/vllm/new"
    assert path("manylinux_2_31_x86_64") is None
    assert path() is None


def test_the_default_variant_is_right_below_the_commit() -> None:
    seen: list[str] = []

    def answer(asked: Asked) -> Answer:
        seen.append(asked.path)
        return Answer(body=json.dumps([row(path="it")]).encode())

    with serving(answer) as where:
        assert find(f"http://{where}", variant="") == f"http://{where}/{A}/vllm/it"
    assert seen == [f"/{A}/vllm/metadata.json"]


def test_a_wheel_that_the_script_passes_over_is_named_with_its_tag(index: Index, address: str) -> None:
    index.rows[A, "cu130"] = [row()]
    rule = WheelRule(place="install.sh", index=address, variant="cu130", tags=("manylinux_2_31_x86_64",))
    with pytest.raises(SourceError, match=r"with the tag manylinux_2_31_x86_64, which install\.sh takes"):
        wheels.choose(
            WheelIndex(address=address),
            A,
            variant="cu130",
            architecture="x86_64",
            rule=rule,
            ancestors=tuple,
            native=pytest.fail,
        )


def test_a_wheel_is_checked_where_it_is_known_that_the_tree_takes_it() -> None:
    facts: dict[str, Any] = {"commit": A, "variant": "", "architecture": "x86_64"}
    assert Wheel(**facts, address="there", rule="install.sh").document()["checked"] is True
    assert Wheel(**facts, address="there").document()["checked"] is False
    assert Wheel(**facts, address=None, rule="install.sh").document()["checked"] is False
    assert Wheel(**facts, address=None).document()["variant"] == "default"
