"""What every verb promises to the programs and people that call it."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import git
import pytest

from tests.engine.conftest import commit_all, finished, make_cli

if TYPE_CHECKING:
    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli, Ran, Word

LIMIT_BYTES = 300_000_000
# Held in memory by Python it would exceed the limit; git, which holds one object at a time, stays below.
LARGE_BYTES = 250 * 2**20

# Runs the verb and says, on a last line of standard error, how much memory it and its children took at most, in KiB.
_MEASURED = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, "-m", "build", *sys.argv[1:]])
sys.stderr.write(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}\\n")
sys.exit(code)
"""


def measured(cli: Cli, *words: Word) -> tuple[Ran, int]:
    """A verb, and its peak memory in bytes."""
    ran = finished(cli.start(*words, program=(sys.executable, "-c", _MEASURED)))
    assert ran.returncode == 0, ran.stderr
    return ran, int(ran.stderr.splitlines()[-1]) * 1024


@pytest.fixture(scope="module")
def own(engine: Engine, registry_address: str, base: Image, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The command line, with a base that passed and was pushed."""
    cli = make_cli(engine, registry_address, tmp_path_factory.mktemp("contract"))
    cli.pass_smoke(base)
    assert cli("push", base.id).returncode == 0
    return cli


@pytest.fixture(scope="module")
def work(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a commit of its own."""
    folder = tmp_path_factory.mktemp("work") / "vllm"
    with contextlib.closing(git.Repo.clone_from(str(vllm), folder)) as clone:
        commit_all(clone, "To be delivered")
    return folder


@pytest.fixture(scope="module")
def delivered(own: Cli, work: Path) -> tuple[Ran, int]:
    """`dev` from the commit to the registry, and its peak memory in bytes."""
    return measured(own, "dev", work, "--json")


@pytest.fixture
def document(delivered: tuple[Ran, int]) -> dict[str, Any]:
    made: dict[str, Any] = delivered[0].json
    return made


def test_json_is_all_that_dev_prints(delivered: tuple[Ran, int]) -> None:
    ran, _ = delivered
    assert set(ran.json) >= {"image", "id", "commit", "version", "base", "built", "verdict", "pushed", "digest"}
    assert len(ran.stderr.splitlines()) == 1  # the measurement


@pytest.mark.parametrize(
    "words",
    [["status"], ["engine", "status"], ["dev", "WORK"], ["plan", "WORK"], ["push", "IMAGE"], ["smoke", "IMAGE"]],
    ids=" ".join,
)
def test_json_is_all_that_is_printed(own: Cli, work: Path, document: dict[str, Any], words: list[str]) -> None:
    known = {"WORK": str(work), "IMAGE": document["image"]}
    ran = own(*(known.get(word, word) for word in words), "--json")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert ran.stdout == json.dumps(ran.json, indent=2) + "\n"


def test_progress_is_for_people_and_results_for_pipes(own: Cli, work: Path, document: dict[str, Any]) -> None:
    ran = own("dev", work)
    assert f"image: {document['image']}" in ran.stdout.splitlines()
    assert "already verified" in ran.stderr
    assert "already" not in ran.stdout


def test_status_lists_base_and_overlay(own: Cli, base: Image, document: dict[str, Any]) -> None:
    rows = {row["id"]: row for row in own("status", "--json").json["images"]}
    overlay = rows[document["id"]]
    assert (overlay["kind"], overlay["verdict"], overlay["base"]) == ("overlay", "pass", base.id)
    assert (overlay["names"], overlay["digest"]) == ([document["image"]], document["digest"])
    assert overlay["pushed"] == document["pushed"]
    assert (rows[base.id]["kind"], rows[base.id]["verdict"]) == ("base", "pass")
    assert rows[base.id]["digest"].startswith("sha256:")


def test_what_is_done_is_not_done_again(own: Cli, work: Path, document: dict[str, Any]) -> None:
    again = own("dev", work, "--json").json
    assert again == {**document, "built": False}
    assert len(list(own.folders.reports.iterdir())) == 1


def test_memory_is_small(delivered: tuple[Ran, int]) -> None:
    assert delivered[1] < LIMIT_BYTES


def test_memory_does_not_grow_with_what_is_carried(cli: Cli, clone: git.Repo) -> None:
    with Path(clone.working_dir, "vllm/large.bin").open("wb") as file:
        file.truncate(LARGE_BYTES)
    commit_all(clone, "Add a large file")
    _, peak = measured(cli, "dev", clone.working_dir, "--no-smoke", "--json")
    assert peak < LIMIT_BYTES
