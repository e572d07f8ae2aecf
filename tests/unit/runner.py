"""What GitHub's runner does with the workflows here: their scripts, run on this machine."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped] # its types are a package of their own

from build.config.folders import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))


def read(name: str) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load((REPOSITORY / ".github/workflows" / name).read_text(encoding="utf-8"))
    return document


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """All steps that are scripts, with the workflow and the job that they belong to."""
    for path in WORKFLOWS:
        for job, content in read(path.name)["jobs"].items():
            for step in content.get("steps", ()):
                if "run" in step:
                    yield f"{path.stem}/{job}/{step['name']}", step


STEPS = dict(steps())


@dataclass(kw_only=True)
class Machine:
    """A runner on which some programs are made up: each writes down how it was called, and does what a script says."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bin = self.folder / "bin"
        self.called = self.folder / "called"
        self.folder.mkdir(exist_ok=True)
        self.called.touch()
        self.variables = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_REPOSITORY": "Owner/Name",
            "GITHUB_RUN_ID": "7",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_ACTOR": "me",
            "GH_TOKEN": "of-the-job",
            "TOKEN": "of-the-job",
            "CALLED": str(self.called),
        }

    def make_up(self, path: Path, does: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "{path.name} $*" >>"$CALLED"\n{does}\n', encoding="utf-8")
        path.chmod(0o755)

    def run(self, step: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a step's script as a runner does (docs.github.com, "Workflow syntax", jobs.<id>.steps[*].shell)."""
        script = self.folder / "script.sh"
        script.write_text(STEPS[step]["run"], encoding="utf-8")
        return subprocess.run(
            ["bash", "-e", script],
            cwd=REPOSITORY,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    @property
    def calls(self) -> list[str]:
        return self.called.read_text(encoding="utf-8").splitlines()
