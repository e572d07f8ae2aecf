"""Bases of several flavors, ages, names and schemas on one engine, and what a cpu nightly makes of them."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from build.engine import buildx, labels
from tests.engine import nights
from tests.engine.conftest import LOCAL, RUN
from tests.standin.image import another_base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.nights import Nights


@pytest.fixture
def own(engine: Engine, registry_address: str, vllm: Path, tmp_path: Path) -> Nights:
    return nights.make(engine, registry_address, vllm, tmp_path, f"flavors-{secrets.token_hex(3)}")


@pytest.fixture
def cuda(engine: Engine, base: Image) -> Iterator[str]:
    """A base that says that it is a CUDA image."""
    with another_base(engine, base.id, [f"LABEL {labels.FLAVOR}=cuda {labels.COMMIT}={nights.OLD}"]) as image_id:
        yield image_id


def test_a_cpu_nightly_leaves_the_cuda_images_names_alone_here_and_in_the_registry(own: Nights, cuda: str) -> None:
    own.engine.tag(cuda, f"{own.repository}:nightly")
    own.engine.tag(cuda, f"{own.repository}:nightly-{nights.OLD}")
    (own.cli.checkout / "base_commit.txt").write_text("of cuda\n", encoding="utf-8")
    own.cli.pass_smoke(own.engine.image(cuda))
    assert own("push", f"{own.repository}:nightly").returncode == 0
    commit = own.commit("Tonight's")
    ran = own("nightly", "--json")
    assert ran.returncode == 0, ran.stderr
    assert [name.rpartition(":")[2] for name in ran.json["pushed"]] == [f"nightly-{commit}-cpu", "nightly-cpu"]
    assert own.local("nightly") == own.served("nightly") == own.local(f"nightly-{nights.OLD}") == cuda
    assert own.local("nightly-cpu") == own.served("nightly-cpu") == ran.json["id"]
    assert (own.cli.checkout / "base_commit.txt").read_text() == "of cuda\n"
    assert own.base_commit == commit


def test_a_cpu_base_of_before_gets_names_of_its_own(own: Nights, engine: Engine, base: Image) -> None:
    old = base.labels[labels.COMMIT]
    for tag in ("nightly", f"nightly-{old}"):
        engine.tag(base.id, f"{own.repository}:{tag}")
    (own.cli.checkout / "base_commit.txt").write_text(f"{old}\n", encoding="utf-8")
    dev = own("dev", str(own.vllm), "--no-smoke", "--json")
    assert (dev.returncode, dev.json["base"]) == (0, f"{own.repository}:nightly")
    # Also of a night that fails: what was the last good base is that still.
    own.commit("Tonight's")
    failed = own("nightly", "--json", STANDIN_BUILD_FAILS="ld gave up")
    assert failed.returncode == 5, failed.stderr
    assert [own.local(tag) for tag in ("nightly", f"nightly-{old}")] == [None, None]
    assert own.local("nightly-cpu") == own.local(f"nightly-{old}-cpu") == base.id
    assert not (own.cli.checkout / "base_commit.txt").exists()
    assert own.base_commit == old


def test_a_base_of_an_older_schema_is_made_anew_and_until_then_refused(own: Nights) -> None:
    first = own.commit("Tonight's")
    before = own("nightly", "--json", "--no-push").json
    assert (before["commit"], before["built"]) == (first, True)
    source = own.cli.checkout / "build/base/store.py"
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace("SCHEMA = ", "SCHEMA = 1"), encoding="utf-8")
    refused = own("dev", str(own.vllm), "--no-smoke", "--json")
    assert refused.returncode == 4
    assert "another version of this tool sealed it" in refused.stderr
    assert "`python -m build nightly --flavor cpu` makes a new base" in refused.stderr
    again = own("nightly", "--json", "--no-push").json
    assert (again["commit"], again["built"]) == (first, True)
    assert again["id"] != before["id"]
    assert own("dev", str(own.vllm), "--no-smoke", "--json").json["base"] == f"{own.repository}:nightly-cpu"
    assert own("nightly", "--json", "--no-push").json["built"] is False


def test_a_base_that_is_a_week_old_is_built_again_with_nothing_changed(own: Nights, engine: Engine) -> None:
    own.commit("Of last week")
    made = own("nightly", "--json", "--no-push").json
    with another_base(engine, made["id"], [f"LABEL {labels.OCI_CREATED}=2020-01-01T00:00:00Z"]) as old:
        for name in engine.image(made["id"]).tags:
            engine.tag(old, name)
        engine.discard(engine.image(made["id"]))
        # Keeps pruning from it.
        engine.tag(old, f"{own.repository}:aged")
        ran = own("nightly", "--no-push")
        assert ran.returncode == 0, ran.stderr
        assert "rebuilding it with today's packages" in ran.stderr
        assert own.local("nightly-cpu") not in (old, made["id"], None)
        assert own("nightly", "--json", "--no-push").json["built"] is False


def test_a_stage_without_the_cache_takes_in_what_is_new(engine: Engine, system: Image, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    stamp = "RUN cat /proc/sys/kernel/random/uuid >/stamp"
    file.write_text(f"FROM {system.tags[0]} AS system\n{stamp}\nFROM system\nRUN cp /stamp /copy\n", encoding="utf-8")
    cached = buildx.ImageBuild(dockerfile=file, context=tmp_path, labels={labels.KIND: "unsealed", RUN: LOCAL})
    anew = replace(cached, uncached=("system",))
    made = [buildx.build(engine, request, progress=lambda _: None) for request in (anew, cached, anew)]
    # What stands on the stage follows it.
    assert made[0] == made[1] != made[2]
