"""The line for a shell that serves a model with an image."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from build.config.model_name import ModelName
from build.engine import labels, serving
from build.engine.image import Image
from build.gate import ending
from build.gate.transfer import Pushed
from tests.unit.fakes import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from build.engine.capabilities import Capabilities

MACHINE = replace(CAPABILITIES, cdi=True)


def image(*, flavor: str = "cpu", variables: Sequence[str] = ("HF_HOME=/var/hf",), user: str = "2000") -> Image:
    return Image(
        id="sha256:" + "1" * 64,
        tags=("llm-d-dev:nightly",),
        digests=(),
        labels={labels.FLAVOR: flavor},
        diff_ids=(),
        size=1,
        created="",
        config={"Env": list(variables), "Entrypoint": ["vllm", "serve"], "User": user},
    )


def words(tested: Image, *, model: Path | ModelName | None = None, machine: Capabilities = MACHINE) -> list[str]:
    return shlex.split(serving.line(tested, name="it@sha256:0", model=model, machine=machine))


def test_line_serves_a_model_that_everyone_can_fetch() -> None:
    found = words(image())
    assert found[:3] == ["docker", "run", "--rm"]
    assert found[-2:] == ["it@sha256:0", serving.DEFAULT_MODEL]
    assert found[found.index("--shm-size") + 1] == "2g"
    assert found[found.index("-p") + 1] == "127.0.0.1:8000:8000"


@pytest.mark.parametrize(
    ("flavor", "machine", "gpus"),
    [
        ("cuda", MACHINE, ["--gpus", "all"]),
        ("cuda", replace(MACHINE, nvidia_runtime=True, cdi_gpus=True), ["--gpus", "all"]),
        ("cuda", replace(MACHINE, cdi_gpus=True), ["--device", "nvidia.com/gpu=all"]),
        ("cpu", replace(MACHINE, nvidia_runtime=True), []),
    ],
)
def test_line_passes_gpus_as_the_machine_does(flavor: str, machine: Capabilities, gpus: list[str]) -> None:
    found = words(image(flavor=flavor), machine=machine)
    assert found[3 : found.index("--shm-size")] == gpus


def test_line_serves_the_model_that_was_tested(tmp_path: Path) -> None:
    folder = tmp_path / "a model"
    found = words(image(), model=folder)
    assert f"{folder}:/model:ro" in found
    assert found[-1] == "/model"
    assert words(image(), model=ModelName(repository="a/b", revision="v1"))[-3:] == ["a/b", "--revision", "v1"]


@pytest.mark.parametrize(
    ("variables", "user", "place"),
    [(("HF_HOME=/var/hf",), "2000", "/var/hf"), ((), "", "/root/.cache"), ((), "0:0", "/root/.cache")],
)
def test_caches_are_where_the_user_may_write(variables: Sequence[str], user: str, place: str) -> None:
    found = words(image(variables=variables, user=user))
    assert f"llm-d-dev-models:{place}" in found


def test_without_a_place_that_is_its_own_a_user_gets_no_cache() -> None:
    assert "-v" not in words(image(variables=(), user="2000"))


def test_name_is_the_digest_once_pushed() -> None:
    pushed = Pushed(names=("host:5000/a/b:nightly-1", "host:5000/a/b:nightly"), digest="sha256:" + "2" * 64, size=1)
    assert ending.pinned(image(), pushed) == f"host:5000/a/b@sha256:{'2' * 64}"
    assert ending.pinned(image()) == f"sha256:{'1' * 64}"
