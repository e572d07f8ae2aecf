"""Runs the smoke suite as a program, the way that ``python -m build smoke`` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build.config.folders import REPOSITORY
from build.engine import labels
from build.host import identity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from docker.models.containers import Container

    from build.engine.client import Engine

_TIMEOUT_S = 300


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
    argv = [sys.executable, "-m", "pytest", "smoke", "-p", "no:cacheprovider", *map(str, options)]
    return subprocess.Popen(
        argv,
        cwd=REPOSITORY,
        env=_path() | engine.environment | variables,
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


def containers_of(engine: Engine, who: str) -> list[Container]:
    """Containers that belong to a process."""
    return engine.client.containers.list(all=True, filters={"label": f"{labels.OWNER}={who}"})
