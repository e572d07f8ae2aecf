"""Runs the smoke suite as a program, the way that ``python -m build smoke`` does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from build.config.folders import REPOSITORY
from build.engine import labels
from build.host import identity
from smoke.server.launch import MODEL_NAME
from smoke.server.server import MODEL_FOLDER
from tests.standin.source import VERSION, source_tree, version_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from docker.models.containers import Container

    from build.engine.client import Engine

_TIMEOUT_S = 300
_UP_S = 60.0

KEY = "a-key-of-ones-own-0123456789"
"""API key of a stand-in that runs as a process."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run of the suite ended.

    Attributes:
        status: Its exit status.
        text: What it printed.
        folder: Its report folder.
        left: Containers that it left behind.
    """

    status: int
    text: str
    folder: Path
    left: Sequence[Container]

    @property
    def report(self) -> dict[str, Any]:
        """The document ``report.json``."""
        return self._document("report.json")

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The document ``verdict.json``; None if there is none."""
        return self._document("verdict.json") if (self.folder / "verdict.json").exists() else None

    def named(self, outcome: str) -> set[str]:
        """Names of the checks with an outcome."""
        return {check["name"] for check in self.report["checks"] if check["outcome"] == outcome}

    def _document(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return document


def start(engine: Engine, *options: str | Path, **variables: str) -> subprocess.Popen[str]:
    """Start the suite, with some variables; it runs on after this returns."""
    return _start(*options, **dict(engine.environment) | variables)


def _start(*options: str | Path, **variables: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "pytest", "smoke", "-p", "no:cacheprovider", *map(str, options)]
    return subprocess.Popen(
        argv,
        cwd=REPOSITORY,
        env=_path() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _path() -> dict[str, str]:
    """The environment without anything that would change how the suite runs."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}


def run(engine: Engine, image_id: str, folder: Path, *options: str, **variables: str) -> Outcome:
    """Run the suite to its end.

    Args:
        engine: Where.
        image_id: The image under test.
        folder: For its report.
        options: Further options.
    """
    with start(engine, "--image", image_id, "--report", folder, *options, **variables) as process:
        who = identity.identity(process.pid)
        text, _ = process.communicate(timeout=_TIMEOUT_S)
    return Outcome(status=process.returncode, text=text, folder=folder, left=containers_of(engine, who))


def run_url(url: str, folder: Path, *options: str | Path, **variables: str) -> Outcome:
    """Run the suite on a server that already runs, where no engine answers.

    Args:
        url: Its address.
        folder: For the report.
        options: Further options.
        variables: Further variables.
    """
    status, text = run_alone("--url", url, "--report", folder, *options, **variables)
    return Outcome(status=status, text=text, folder=folder, left=())


def run_alone(*options: str | Path, **variables: str) -> tuple[int, str]:
    """Run the suite where no engine answers; returns its exit status and what it printed."""
    with _start(*options, **{"DOCKER_HOST": "unix:///nowhere"} | variables) as process:
        text, _ = process.communicate(timeout=_TIMEOUT_S)
    return process.returncode, text


@contextlib.contextmanager
def serving(folder: Path, fault: str = "", *, own: bool = False, **variables: str) -> Iterator[str]:
    """A stand-in that runs on this machine, without an image, while the block runs; yields its address.

    Args:
        folder: For its source.
        fault: How it is broken.
        own: Whether it says that it serves the suite's own model.
        variables: Further variables.
    """
    source_tree(folder)
    (folder / "vllm/_version.py").write_text(version_file(VERSION, None), encoding="utf-8")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    url = f"http://127.0.0.1:{(port := free_port())}"
    words = ("serve", str(folder), "--served-model-name", MODEL_NAME if own else "their-model", "--port", str(port))
    environment = {**os.environ, "VLLM_API_KEY": KEY, "STANDIN_FAULT": fault, "PYTHONPATH": str(folder), **variables}
    environment |= {"STANDIN_ROOT": MODEL_FOLDER} if own else {}
    argv = [sys.executable, "-c", "from vllm.entrypoints.cli.main import main; main()", *words]
    with subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            _await(url)
            yield url
        finally:
            process.kill()


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(url: str) -> None:
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"{url}/health", timeout=_UP_S)
            return
        time.sleep(0.05)
    raise AssertionError("the stand-in did not start")


def containers_of(engine: Engine, who: str) -> list[Container]:
    """Containers that belong to a process."""
    return engine.client.containers.list(all=True, filters={"label": f"{labels.OWNER}={who}"})
