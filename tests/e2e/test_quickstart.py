"""The main job on real vLLM, as the README's first command runs it."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import docker
import git
import pytest
import requests

from build.cli import sample
from build.config.folders import Folders
from build.engine import embedded
from build.registry import login as registry_login
from tests.e2e.conftest import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker.models.containers import Container

    from tests.e2e.conftest import Done

MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="session")
def overlay(quickstart: Any) -> Iterator[Container]:  # noqa: ANN401
    """A container of the overlay to look around in, as an arbitrary user of group 0."""
    host = os.environ.get("DOCKER_HOST", f"unix://{embedded.socket(Folders.default())}")
    with contextlib.closing(docker.DockerClient(base_url=host)) as client:
        container = client.containers.run(
            quickstart["overlay"]["id"],
            entrypoint=["sleep", "600"],
            user="1234567:0",
            network_mode="none",
            detach=True,
            labels={"llm-d-dev.owner": "nobody:0:gone"},
        )
        try:
            yield container
        finally:
            container.remove(force=True)


def inside(container: Container, command: str) -> str:
    status, output = container.exec_run(["sh", "-c", command], workdir="/opt/vllm-source")
    assert isinstance(output, bytes)
    assert status == 0, output.decode()
    return output.decode()


def manifest(host: str, repository: str, tag: str) -> requests.Response:
    """What the embedded registry answers to the user whom it lets in."""
    identity = registry_login.known(Folders.default())
    login = identity.login() if identity else None
    assert login
    return requests.get(
        f"http://{host}/v2/{repository}/manifests/{tag}",
        headers={"Accept": MANIFESTS},
        auth=(login.username, login.password),
        timeout=10,
    )


def served(name: str) -> tuple[str, str]:
    """Digest and configuration digest of what the registry serves under a pushed name."""
    host, _, rest = name.partition("/")
    repository, _, tag = rest.rpartition(":")
    answer = manifest(host, repository, tag)
    return answer.headers["Docker-Content-Digest"], answer.json()["config"]["digest"]


def test_base_and_overlay_passed_and_the_registry_serves_exactly_them(quickstart: Any) -> None:  # noqa: ANN401
    listed = {row["id"]: row for row in json.loads(run("status", "--json").stdout)["images"]}
    for made in (quickstart["base"], quickstart["overlay"]):
        row = listed[made["id"]]
        assert row["verdict"] == "pass"
        for name in made["pushed"]:
            digest, config = served(name)
            assert config == made["id"]
            assert digest == row["digest"]
    assert [name.rpartition(":")[2] for name in quickstart["base"]["pushed"]][-1] == "nightly-cpu"
    # The plain names are the CUDA images'.
    pushed = [name for made in (quickstart["base"], quickstart["overlay"]) for name in made["pushed"]]
    assert all(name.endswith("-cpu") for name in pushed)


def test_a_second_quickstart_does_no_work_twice(quickstart: Any) -> None:  # noqa: ANN401
    again = json.loads(run("quickstart", "--json").stdout)
    for part in ("base", "overlay"):
        assert not again[part]["built"]
        assert again[part]["id"] == quickstart[part]["id"]
        assert again[part]["digest"] == quickstart[part]["digest"]
    assert not {"smoke", "seal", "base image"} & {step["name"] for step in again["durations"]}


def test_the_harness_stays_small(measured: Done) -> None:
    assert measured.largest_kb < 300_000


def test_git_works_in_the_image_for_any_user_without_a_network(
    overlay: Container,
    quickstart: Any,  # noqa: ANN401
) -> None:
    assert inside(overlay, "git status --porcelain") == ""
    assert inside(overlay, "git rev-parse HEAD").strip() == quickstart["overlay"]["commit"]
    assert sample.OWNER in inside(overlay, "git diff llm-d-dev/base")
    assert len(inside(overlay, "git remote").split()) == 4


def test_an_arbitrary_user_of_group_0_can_edit_the_source(overlay: Container) -> None:
    inside(overlay, "echo '# edited' >> vllm/version.py && touch vllm/new.py")
    assert "version.py" in inside(overlay, "git diff --name-only")
    inside(overlay, "git checkout --quiet -- vllm/version.py && rm vllm/new.py")


def test_an_arbitrary_user_cannot_change_the_environment(overlay: Container) -> None:
    assert inside(overlay, "find /opt/vllm -type d -writable").strip() == ""


def test_bytecode_of_the_image_is_checked_by_hash(overlay: Container) -> None:
    script = (
        "import glob; "
        "files = glob.glob('/opt/vllm-source/vllm/**/__pycache__/*.pyc', recursive=True); "
        "print(len(files), {open(f, 'rb').read(8)[4] for f in files})"
    )
    count, _, flags = inside(overlay, f'/opt/vllm/bin/python -c "{script}"').partition(" ")
    assert int(count) > 500
    # PEP 552: bit 0, by hash; bit 1, checked.
    assert flags.strip() == "{3}"


def test_the_binaries_of_the_base_load_in_the_overlay(overlay: Container) -> None:
    script = "import torch, vllm._C; print(hasattr(torch.ops._C, 'init_cpu_memory_env'))"
    assert inside(overlay, f'/opt/vllm/bin/python -c "{script}" 2>&1').strip().endswith("True")


@pytest.fixture
def working(quickstart: Any, tmp_path: Path) -> Iterator[git.Repo]:  # noqa: ANN401
    """A clone of the sample repository."""
    sample = quickstart["sample"]
    with contextlib.closing(git.Repo.clone_from(sample["path"], tmp_path / "vllm", branch=sample["ref"])) as cloned:
        yield cloned


def test_a_commit_that_breaks_the_server_is_not_pushed(working: git.Repo, quickstart: Any) -> None:  # noqa: ANN401
    file = f"{working.working_dir}/vllm/entrypoints/serve/engine/protocol.py"
    with open(file, "a", encoding="utf-8") as stream:  # noqa: PTH123
        stream.write("\nthis is no Python\n")
    working.git.execute(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qam", "Break it"])
    commit = working.head.commit.hexsha
    done = run("dev", str(working.working_dir), "HEAD", "--flavor", "cpu", "--json")
    assert done.returncode == 6
    registry = quickstart["overlay"]["pushed"][0].rpartition(":")[0]
    host, _, repository = registry.partition("/")
    assert manifest(host, repository, f"local-{commit}-cpu").status_code == 404


def test_a_plan_tells_python_from_native(working: git.Repo) -> None:
    plan = json.loads(run("plan", str(working.working_dir), "HEAD", "--flavor", "cpu", "--json").stdout)
    assert plan["verdict"] == "python"
    assert plan["written"] == 1
    with open(f"{working.working_dir}/csrc/ops.h", "a", encoding="utf-8") as stream:  # noqa: PTH123
        stream.write("\n// changed\n")
    working.git.execute(
        ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qam", "Change an operator"]
    )
    plan = json.loads(run("plan", str(working.working_dir), "HEAD", "--flavor", "cpu", "--json").stdout)
    assert plan["verdict"] == "native"
    assert plan["native"] == ["csrc/ops.h"]
    assert run("dev", str(working.working_dir), "HEAD", "--flavor", "cpu", "--json").returncode == 4


def test_a_plan_between_releases_names_what_is_compiled_anew(quickstart: Any) -> None:  # noqa: ANN401
    """vLLM 0.31.0 comes from the package index, and is refused on a base of 0.32.0."""
    del quickstart
    assert run("build", "0.31.0", "--remote", "pypi", "--json").returncode == 4
    releases = str(Folders.default().releases)
    plan = json.loads(run("plan", releases, "v0.32.0", "--base-commit", "v0.31.0", "--json").stdout)
    assert plan["verdict"] == "native"
    assert [path for path in plan["native"] if path.startswith("csrc/")]
