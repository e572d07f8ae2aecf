"""What a verb prints at its end works: the name, and the line that serves."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import docker.errors
import pytest
import requests

from build.engine.serving import PORT
from smoke.server import tiny_model
from tests.engine.conftest import LOCAL, commit_all
from tests.unit.runner import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    import git

    from build.engine.client import Engine
    from tests.engine.conftest import Cli

pytestmark = pytest.mark.usefixtures("base")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a model that the user of a container may read."""
    folder = tmp_path / "model"
    folder.mkdir(mode=0o755)
    tiny_model.write(folder)
    # Of the tests' own folders only root may see what is in them.
    for above in tmp_path.parents:
        if above.name.startswith("pytest"):
            above.chmod(0o755)
    tmp_path.chmod(0o755)
    return folder


@contextlib.contextmanager
def run(engine: Engine, line: str) -> Iterator[str]:
    """Run a line as a shell does, under a name of its own, with a volume that goes with it; yields the container's."""
    name, words = f"{LOCAL}-ending", shlex.split(line)
    words = [word.replace("llm-d-dev-models:", f"{name}:") for word in words]
    # The machine's user may have something on vLLM's own port.
    assert f"127.0.0.1:{PORT}:{PORT}" in words
    words[words.index(f"127.0.0.1:{PORT}:{PORT}")] = f"127.0.0.1::{PORT}"
    words[2:2] = ["--name", name]
    with subprocess.Popen(words, env=os.environ | engine.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT):
        try:
            yield name
        finally:
            subprocess.run(["docker", "rm", "-f", name], env=os.environ | engine.environment, check=False)
            subprocess.run(["docker", "volume", "rm", name], env=os.environ | engine.environment, check=True)


def healthy(engine: Engine, name: str) -> bool:
    with contextlib.suppress(requests.RequestException, docker.errors.NotFound):
        (published,) = engine.client.containers.get(name).ports.get(f"{PORT}/tcp") or [{}]
        if published:
            return requests.get(f"http://{published['HostIp']}:{published['HostPort']}/health", timeout=5).ok
    return False


def test_line_of_a_pushed_image_serves_on_loopback(cli: Cli, clone: git.Repo, engine: Engine, model: Path) -> None:
    commit_all(clone, "To be served by hand")
    ran = cli("dev", clone.working_dir, "HEAD", "--json")
    assert ran.returncode == 0, ran.stderr
    assert ran.json["pinned"] == f"{cli.repository}@{ran.json['digest']}"
    page = Path(ran.json["report"], "report.html")
    assert page.is_file()
    assert cli("report", ran.json["image"], DISPLAY="", WAYLAND_DISPLAY="").stdout == f"{page}\n"
    assert cli("report", "--json").json["reports"][0]["page"] == str(page)
    assert f"report of {ran.json['image']}: {page}\n" in cli("status").stdout
    pinned = ran.json["pinned"]
    tested = cli("smoke", pinned, "--model", str(model), "--json")
    assert tested.json["pinned"] == pinned, tested.stderr
    with run(engine, tested.json["run"]) as name:
        deadline = time.monotonic() + 60
        while not healthy(engine, name):
            assert time.monotonic() < deadline, "the line serves nothing"
            time.sleep(0.2)
        # Its user may write to the volume.
        wrote = engine.client.containers.get(name).exec_run(
            ["sh", "-c", 'touch "$HF_HOME/a" && mkdir "$XDG_CACHE_HOME"']
        )
        assert wrote.exit_code == 0, wrote.output


def test_an_image_that_is_not_pushed_is_called_by_its_id(cli: Cli, clone: git.Repo) -> None:
    commit_all(clone, "Kept here")
    ran = cli("dev", clone.working_dir, "HEAD", "--no-smoke", "--json")
    assert ran.json["pinned"] == ran.json["id"]
    shown = cli("dev", clone.working_dir, "HEAD", "--no-smoke").stdout
    assert f"run: {ran.json['run']}\n" in shown


def test_workflow_verifies_an_image_of_a_registry(cli: Cli, clone: git.Repo, tmp_path: Path) -> None:
    commit_all(clone, "Verified by a workflow")
    pinned = cli("dev", clone.working_dir, "HEAD", "--json").json["pinned"]
    machine = Machine(folder=tmp_path / "machine")
    machine.variables = {**cli.environment, **machine.variables, "GITHUB_ACTIONS": "true"}
    machine.make_up(machine.folder / "temp/llm-d-dev/bin/python", f'exec {sys.executable} "$@"')
    pulled = machine.run("verify/smoke/Pull", IMAGE=pinned)
    assert pulled.returncode == 0, pulled.stderr
    passed = machine.run("verify/smoke/Verify", IMAGE=pinned, COMMIT="", GPUS="auto")
    assert passed.returncode == 0, passed.stderr
    assert passed.stderr.startswith("::group::smoke\n")
    outputs = dict(line.split("=") for line in (machine.folder / "output").read_text(encoding="utf-8").splitlines())
    assert outputs["verdict"] == "pass"
    assert outputs["digest"] == pinned.partition("@")[2]
    assert Path(outputs["report"], "report.html").is_file()
    assert "## smoke: ✅ passed" in (machine.folder / "summary").read_text(encoding="utf-8")
