"""The program as it is started: from any folder, by any Python, with and without what it needs."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.cli import installed
from build.config.folders import REPOSITORY

if TYPE_CHECKING:
    from tests.unit.work import Work

BUILD = REPOSITORY / "build"


def start(*words: str | Path, cwd: Path = REPOSITORY, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )


# --- The folder in which a command is typed ----------------------------------------------------------------


@pytest.mark.parametrize("program", [BUILD, BUILD / "__main__.py"])
def test_paths_are_those_of_the_folder_in_which_it_is_started(program: Path, vllm: Work, tmp_path: Path) -> None:
    words = ("plan", "vllm", "--base-commit", "HEAD", "--state", "mine", "--cache=~/cache", "--json")
    ran = start(program, *words, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert vllm.git("rev-parse", "HEAD") in ran.stdout
    assert list((tmp_path / "mine/logs").iterdir())


def test_modules_of_that_folder_are_not_imported(vllm: Work) -> None:
    for name in ("git", "json", "rich", "pip", "build"):
        vllm.write(f"{name}.py", "raise SystemExit('a module of the folder')")
    ran = start(BUILD, "plan", "--base-commit", "HEAD", cwd=vllm.path)
    assert ran.returncode == 0, ran.stderr


def test_nox_starts_it_in_the_folder_in_which_nox_was_called(vllm: Work, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = ("--no-venv", "--no-install", "-f", REPOSITORY / "noxfile.py", "-s", "plan", "--")
    ran = start("-m", "nox", *words, "vllm", "--base-commit", "HEAD", cwd=tmp_path, PATH=path)
    assert ran.returncode == 0, ran.stderr
    assert vllm.git("rev-parse", "--short=12", "HEAD") in ran.stdout + ran.stderr


@pytest.mark.parametrize(("program", "called"), [(BUILD, "llm-d-dev"), (BUILD / "__main__.py", "python -m build")])
def test_it_calls_itself_as_it_was_started(program: Path, called: str, tmp_path: Path) -> None:
    assert f"usage: {called} dev " in start(program, "dev", "--help", cwd=tmp_path).stdout
    assert f"`{called} --help`" in start(program, "none", cwd=tmp_path).stderr


# --- Without what it needs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_without_packages_it_says_what_to_do(words: tuple[str, ...]) -> None:
    # -S: no packages but Python's own.
    ran = start("-S", "-m", "build", "status", *words)
    assert ran.returncode == 2
    what, advice = ran.stderr.splitlines()
    assert what.startswith("error[usage]: the package bcrypt is not installed; the package docker is not installed; ")
    assert sys.executable in what
    assert str(REPOSITORY / "requirements.txt") in advice
    assert (json.loads(ran.stdout)["error"]["exit_code"] == 2) if words else ran.stdout == ""


def missing(folder: Path, *names: str, python: str = "3.11") -> str:
    for name in names:
        (folder / "site" / name).mkdir(parents=True)
    pyproject = folder / "pyproject.toml"
    pyproject.write_text(
        f'[project]\nrequires-python = ">={python}"\ndependencies = [\n    "docker>=7.2",\n    "pypi-simple>=1.8",\n]\n'
    )
    return installed.missing(pyproject, [str(folder / "none"), str(folder / "site")])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("docker-7.2.0.dist-info", "pypi_simple-1.8.0.dist-info"), ""),
        (("docker-10.0.dist-info", "PyPI.Simple-1.8-py3.11.egg-info"), ""),
        (("docker-7.2.0.dist-info",), "the package pypi-simple is not installed"),
        (
            ("docker-7.1.9.dist-info", "pypi_simple-2.dist-info"),
            "the package docker is 7.1.9, and 7.2 or newer is needed",
        ),
    ],
)
def test_one_package_missing_or_too_old(names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert missing(tmp_path, *names) == said


def test_an_older_python_is_named(tmp_path: Path) -> None:
    assert missing(tmp_path, python="99.1") == f"Python is {sys.version.split()[0]}, and 99.1 or newer is needed"


def test_the_program_s_own_requirements_are_read() -> None:
    assert installed.missing(REPOSITORY / "pyproject.toml", sys.path) == ""
    assert "docker" in installed.missing(REPOSITORY / "pyproject.toml", [])


@pytest.mark.parametrize("name", ["__main__.py", "cli/installed.py", "cli/__init__.py", "__init__.py"])
def test_an_older_python_can_read_what_tells_it(name: str) -> None:
    ast.parse((BUILD / name).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_a_checkout_with_spaces_and_without_packages(tmp_path: Path) -> None:
    checkout = tmp_path / "my checkout"
    shutil.copytree(BUILD, checkout / "build", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", checkout)
    ran = start("-S", checkout / "build", "status", cwd=tmp_path)
    assert ran.returncode == 2
    assert f"'{checkout}/requirements.txt'" in ran.stderr.splitlines()[1]
