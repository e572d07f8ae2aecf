"""`dev` on the stand-in: overlay, smoke, gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from build.engine import labels
from smoke.server import tiny_model
from tests.engine.conftest import LOCAL, assert_refused, commit_all, finished
from tests.engine.relay import Relay
from tests.standin.image import another_base

if TYPE_CHECKING:
    import git

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli

pytestmark = pytest.mark.usefixtures("base")

OWNED_BY = Path("vllm/entrypoints/serve/engine/protocol.py")


def edit(clone: git.Repo, path: Path, old: str, new: str) -> None:
    file = Path(clone.working_dir) / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_commit_becomes_an_image_that_is_tested_and_pushed(cli: Cli, clone: git.Repo, engine: Engine) -> None:
    edit(clone, OWNED_BY, '"vllm"', '"somebody"')
    commit = commit_all(clone, "Change the owner")
    ran = cli("dev", clone.working_dir, "HEAD", "--expect", "/v1/models=somebody", "--json")
    assert ran.returncode == 0, ran.stderr
    assert ran.json["image"] == f"{LOCAL}:local-{commit}-cpu"
    assert ran.json["verdict"] == "pass"
    host, _, path = cli.repository.partition("/")
    served = requests.get(
        f"http://{host}/v2/{path}/manifests/local-{commit}-cpu",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        timeout=10,
    )
    assert served.json()["config"]["digest"] == engine.image(ran.json["image"]).id


def test_an_image_that_fails_leaves_no_tag_in_the_registry(cli: Cli, clone: git.Repo) -> None:
    commit = commit_all(clone, "Change nothing")
    ran = cli("dev", clone.working_dir, "HEAD", "--expect", "/v1/models=not there")
    assert ran.returncode == 6
    assert "error[smoke]" in ran.stderr
    host, _, path = cli.repository.partition("/")
    assert requests.get(f"http://{host}/v2/{path}/manifests/local-{commit}-cpu", timeout=10).status_code == 404
    ran = cli("push", f"{LOCAL}:local-{commit}-cpu")
    assert ran.returncode == 7
    assert "error[gate]" in ran.stderr


def test_a_test_with_another_model_pushes_nothing_and_says_so_first(cli: Cli, clone: git.Repo, tmp_path: Path) -> None:
    commit = commit_all(clone, "Change nothing")
    tiny_model.write(tmp_path / "model")
    (tmp_path / "model/padding").write_bytes(b"x")
    ran = cli("dev", clone.working_dir, "HEAD", "--model", tmp_path / "model")
    assert ran.returncode == 0, ran.stderr
    said = " ".join(ran.stderr.split())
    assert said.index("this run does not push: the gate requires a test with") < said.index("base ")
    host, _, path = cli.repository.partition("/")
    assert requests.get(f"http://{host}/v2/{path}/manifests/local-{commit}-cpu", timeout=10).status_code == 404


def test_the_base_is_untouched_by_the_overlay(cli: Cli, clone: git.Repo, engine: Engine, base: Image) -> None:
    edit(clone, OWNED_BY, '"vllm"', '"again"')
    commit_all(clone, "Change the owner again")
    ran = cli("dev", clone.working_dir, "--no-smoke", "--json")
    overlay = engine.image(ran.json["id"])
    assert overlay.diff_ids[: len(base.diff_ids)] == base.diff_ids
    assert len(overlay.diff_ids) == len(base.diff_ids) + 1


def test_a_base_without_a_name_is_there_afterwards(cli: Cli, clone: git.Repo, engine: Engine, base: Image) -> None:
    commit_all(clone, "On a base that has only an ID")
    with another_base(engine, base.id, ["ENV NAMELESS=1"]) as unnamed:
        ran = cli("dev", clone.working_dir, "--base", unnamed, "--no-smoke", "--json")
        assert ran.returncode == 0, ran.stderr
        assert engine.image(unnamed).tags == ()


def test_of_one_commit_on_two_bases_at_once_one_image_wins_whole_and_the_other_run_says_so(
    cli: Cli, clone: git.Repo, engine: Engine, base: Image, tmp_path: Path
) -> None:
    commit = commit_all(clone, "On two bases")
    words = ("dev", clone.working_dir, "--json", "--base")
    with (
        another_base(engine, base.id, ["ENV ANOTHER=1"]) as other,
        Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay,
    ):
        # The first run has named its image, and does not know it yet, while the second runs whole.
        relay.hold("POST .*/images/load", "done")
        first = cli.start(*words, base.id, DOCKER_HOST=relay.host)
        assert relay.wait(seconds=60)
        second = cli(*words, other)
        relay.release()
        refused = finished(first)
    assert second.returncode == 0, second.stderr
    assert_refused(refused, 9, "busy", "which another run made")
    name = f"local-{commit}-cpu"
    assert engine.image(f"{LOCAL}:{name}").id == second.json["id"]
    assert engine.image(second.json["id"]).labels[labels.BASE] == other
    host, _, path = cli.repository.partition("/")
    served = requests.get(
        f"http://{host}/v2/{path}/manifests/{name}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        timeout=10,
    )
    assert served.json()["config"]["digest"] == second.json["id"]
