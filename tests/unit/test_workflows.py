"""The workflows for GitHub Actions: the scripts of their steps, run as a runner does, with made-up programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.runner import STEPS, WORKFLOWS, Machine, read

IMAGE = f"host:5000/a/b@sha256:{'d' * 64}"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(folder=tmp_path)


# --- All of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
def test_script_is_sound(name: str, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(f"#!/bin/bash\n{STEPS[name]['run']}", encoding="utf-8")
    subprocess.run([Path(sys.executable).parent / "shellcheck", "--severity=style", script], check=True)


@pytest.mark.parametrize("name", STEPS)
def test_script_takes_what_it_is_given_from_variables_alone(name: str) -> None:
    # What stands in ${{ }} becomes part of the script: a branch could be called like a command.
    assert "${{" not in STEPS[name]["run"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_rights_are_few_and_given_by_the_job(path: Path) -> None:
    document = read(path.name)
    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        assert "timeout-minutes" in job or "uses" in job or len(job["steps"]) == 1
        for step in job.get("steps", ()):
            if "actions/checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_example_calls_the_workflow_with_what_it_has() -> None:
    # YAML 1.1 reads `on` as true.
    declared = read("verify.yml")[True]["workflow_call"]["inputs"]
    job = read("gpu-box.yml")["jobs"]["verify"]
    assert job["uses"] == "./.github/workflows/verify.yml"
    assert set(job["with"]) <= set(declared)
    assert job["permissions"]["actions"] == "write"


# --- The test ----------------------------------------------------------------------------------------------


def test_image_is_pulled_by_its_digest(machine: Machine) -> None:
    machine.make_up(machine.bin / "docker")
    ran = machine.run("verify/smoke/Pull", IMAGE=IMAGE)
    assert ran.returncode == 0, ran.stderr
    assert machine.calls == [f"docker pull --quiet {IMAGE}"]


def test_login_is_not_an_argument(machine: Machine) -> None:
    machine.make_up(machine.bin / "docker", 'read -r word || true; echo "$DOCKER_CONFIG $word" >>"$CALLED"')
    ran = machine.run("verify/smoke/Pull", IMAGE=IMAGE.replace("host:5000", "ghcr.io"))
    assert ran.returncode == 0, ran.stderr
    assert machine.calls[0] == "docker login ghcr.io --username me --password-stdin"
    assert machine.calls[1] == f"{machine.folder}/temp/docker of-the-job"


@pytest.mark.parametrize(
    "image", ["a/b:latest", "a/b", f"--help@sha256:{'d' * 64}", f"a b@sha256:{'d' * 64}", "a@sha256:1"]
)
def test_image_that_is_not_pinned_is_refused(machine: Machine, image: str) -> None:
    machine.make_up(machine.bin / "docker")
    ran = machine.run("verify/smoke/Pull", IMAGE=image)
    assert ran.returncode == 2
    assert ran.stdout.startswith("::error title=Not pinned::")
    assert machine.calls == []


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ({"IMAGE": IMAGE, "COMMIT": ""}, f"-m build smoke --force --gpus=0,1 -- {IMAGE}"),
        ({"IMAGE": "", "COMMIT": "pull/1"}, "-m build build --no-push --force --gpus=0,1 -- pull/1"),
    ],
)
def test_what_is_given_is_tested(machine: Machine, given: dict[str, str], called: str) -> None:
    machine.make_up(machine.folder / "temp/llm-d-dev/bin/python", "exit 6")
    ran = machine.run("verify/smoke/Verify", GPUS="0,1", **given)
    assert ran.returncode == 6
    assert machine.calls == [f"python {called}"]


@pytest.mark.parametrize("given", [{"IMAGE": "", "COMMIT": ""}, {"IMAGE": IMAGE, "COMMIT": "main"}])
def test_one_of_image_and_commit_is_asked_for(machine: Machine, given: dict[str, str]) -> None:
    ran = machine.run("verify/smoke/Verify", GPUS="auto", **given)
    assert ran.returncode == 2
    assert "give one of the inputs" in ran.stdout


# --- The runner --------------------------------------------------------------------------------------------

AWAIT = "verify/runner/Await the runner"


def test_run_without_a_runner_ends_with_a_message(machine: Machine) -> None:
    machine.make_up(machine.bin / "gh", "[[ $* == *POST* ]] || echo queued")
    labels = '["self-hosted", "gpu"]\n::set-output name=verdict::pass'
    ran = machine.run(AWAIT, LABELS=labels, WAIT_MINUTES="0")
    assert ran.returncode == 1
    (told,) = ran.stdout.splitlines()
    assert told.startswith("::error title=No runner::no runner with the labels self-hosted, gpu")
    assert "try: start one" in (machine.folder / "summary").read_text(encoding="utf-8")
    assert machine.calls[-1] == "gh api --method POST repos/Owner/Name/actions/runs/7/cancel"


@pytest.mark.parametrize("status", ["in_progress", "completed"])
def test_runner_that_comes_ends_the_wait(machine: Machine, status: str) -> None:
    asked = machine.folder / "asked"
    machine.make_up(machine.bin / "gh", f"if [[ -e {asked} ]]; then echo {status}; else touch {asked}; echo queued; fi")
    machine.make_up(machine.bin / "sleep")
    ran = machine.run(AWAIT, LABELS="[]", WAIT_MINUTES="15")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert [call.split()[0] for call in machine.calls] == ["gh", "sleep", "gh"]


@pytest.mark.parametrize("does", ["exit 1", "true"], ids=["refuses", "knows of no job yet"])
def test_answer_that_does_not_come_is_not_taken_for_a_runner(machine: Machine, does: str) -> None:
    machine.make_up(machine.bin / "gh", f"[[ $* == *POST* ]] || {does}")
    assert machine.run(AWAIT, LABELS="[]", WAIT_MINUTES="0").returncode == 1


# --- The example -------------------------------------------------------------------------------------------


def test_digest_is_handed_on(machine: Machine) -> None:
    machine.run("gpu-box/build/Lower-case the repository's name")
    machine.run("gpu-box/build/Hand on the digest", NAME="ghcr.io/owner/name", DIGEST="sha256:1")
    outputs = (machine.folder / "output").read_text(encoding="utf-8").splitlines()
    assert outputs == ["name=ghcr.io/owner/name", "image=ghcr.io/owner/name@sha256:1"]
