"""The smoke suite on a server that already runs: no image, and no engine to ask."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import requests

from build.folders import REPOSITORY
from tests.standin.source import VERSION, source_tree, version_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEY = "a-key-of-ones-own-0123456789"
_UP_S = 20.0
# What cannot be known of a server that somebody else started.
_NOT_ASKED = {
    "server/version",
    "openai/completion_is_right",
    "openai/chat_is_right",
    "shutdown/no_traceback",
    "shutdown/sigterm",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def standin(folder: Path, fault: str = "", **variables: str) -> Iterator[str]:
    """The address of a stand-in that runs on this machine."""
    source_tree(folder)
    (folder / "vllm/_version.py").write_text(version_file(VERSION, None), encoding="utf-8")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    url = f"http://127.0.0.1:{(port := free_port())}"
    words = ("serve", str(folder), "--served-model-name", "their-model", "--port", str(port))
    environment = {**os.environ, "VLLM_API_KEY": _KEY, "STANDIN_FAULT": fault, "PYTHONPATH": str(folder), **variables}
    argv = [sys.executable, "-c", "from vllm.entrypoints.cli.main import main; main()", *words]
    with subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(url)
            yield url
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"{url}/health", timeout=1)
            return
        time.sleep(0.1)
    raise AssertionError("the stand-in did not start")


def smoke(*options: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    # An engine that does not answer: nothing may ask for it.
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DOCKER_HOST": "unix:///nowhere"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "smoke", "-p", "no:cacheprovider", *map(str, options)],
        cwd=REPOSITORY,
        env=environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("way", ["file", "variable", "option"])
def test_server_that_runs_is_tested_without_an_engine(tmp_path: Path, way: str) -> None:
    file = tmp_path / "key"
    file.write_text(f"{_KEY}\n", encoding="utf-8")
    options = {"file": ("--api-key-file", file), "variable": (), "option": ("--api-key", _KEY)}[way]
    variables = {"VLLM_API_KEY": _KEY} if way == "variable" else {}
    report = tmp_path / "report"
    with standin(tmp_path / "vllm") as url:
        done = smoke("--url", url, "--report", report, *options, **variables)
    assert done.returncode == 0, done.stdout
    document = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert (document["result"], document["image_id"]) == ("pass", None)
    outcomes = {check["name"]: check["outcome"] for check in document["checks"]}
    skipped = {name for name, outcome in outcomes.items() if outcome == "skipped"}
    of_images = ("image/", "binaries/", "gpu/", "any_user/", "server/exp")
    assert {name for name in skipped if not name.startswith(of_images)} == _NOT_ASKED
    assert not (report / "verdict.json").exists()
    assert _KEY not in done.stdout + "".join(path.read_text(encoding="utf-8") for path in report.iterdir())


def test_server_that_answers_wrongly_fails(tmp_path: Path) -> None:
    with standin(tmp_path / "vllm", fault="wrong-usage") as url:
        done = smoke("--url", f"{url}/v1", "--report", tmp_path / "report", VLLM_API_KEY=_KEY)
    assert done.returncode == 1, done.stdout
    document = json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"))
    assert {check["name"] for check in document["checks"] if check["outcome"] == "failed"} == {
        "openai/completion",
        "openai/chat",
    }


@pytest.mark.parametrize("route", ["/metrics", "/v1/models", "/v1/completions"])
def test_server_does_not_lead_to_others_that_only_the_caller_reaches(tmp_path: Path, route: str) -> None:
    with (
        standin(tmp_path / "other") as target,
        standin(tmp_path / "vllm", "redirects", STANDIN_LEADS=route, STANDIN_TARGET=f"{target}/version") as url,
    ):
        done = smoke("--url", url, "--report", tmp_path / "report", VLLM_API_KEY=_KEY)
    assert done.returncode == 1, done.stdout
    assert f"a redirect to '{target}/version', which is not followed" in done.stdout
    assert VERSION not in (tmp_path / "report/report.json").read_text(encoding="utf-8")


def test_address_at_which_nothing_answers(tmp_path: Path) -> None:
    done = smoke("--url", f"http://127.0.0.1:{free_port()}", "--report", tmp_path)
    assert done.returncode == 1, done.stdout
    assert "FAILED smoke/test_3_server.py::test_health" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--url", "http://x", "--image", "y"), "not both"),
        (("--url", "127.0.0.1:8000"), "give an address such as"),
        (("--url", "http://x", "--api-key-file", "/nowhere"), "cannot be read"),
        (("--url", "http://x", "--gpus", "0"), "--gpus is for an image"),
        (("--url", "http://x", "--model", "org/name"), "--model is for an image"),
        (("--image", "x", "--api-key", "y"), "--api-key is for a server that already runs"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], said: str) -> None:
    done = smoke(*options)
    assert done.returncode == 4
    assert said in done.stdout
