"""The command that is installed: it works from any folder, and goes as it came."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.config.folders import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = (
    ".local/bin/llm-d-dev",
    ".local/share/bash-completion/completions/llm-d-dev",
    ".local/share/zsh/site-functions/_llm-d-dev",
    ".config/fish/completions/llm-d-dev.fish",
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A checkout, its environment, and a user's home; all with awkward names."""

    checkout: Path
    home: Path
    python: Path

    def run(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run something as the user, in a folder that is neither."""
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LLM_D_DEV_STATE": str(self.home.parent / "s")}
        return subprocess.run(words, cwd="/", env=environment | variables, capture_output=True, text=True, check=False)

    def verb(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.python, self.checkout / "build/__main__.py", *words, **variables)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.home / FILES[0], *words)

    @property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if not path.is_dir())


def checkout(folder: Path) -> Path:
    # With its bytecode: it takes a second to make.
    shutil.copytree(REPOSITORY / "build", folder / "build")
    for name in ("pyproject.toml", "requirements.txt", ".gitignore"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of the command's own, with the packages of this one."""
    environment = tmp_path_factory.mktemp("it's $HOME") / "an environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    packages = next(place for place in sys.path if place.endswith("site-packages"))
    (site / "others.pth").write_text(f"{packages}\n", encoding="utf-8")
    return environment / "bin/python"


@pytest.fixture
def machine(tmp_path: Path, python: Path) -> Iterator[Machine]:
    (tmp_path / "a home").mkdir()
    yield Machine(checkout=checkout(tmp_path / "my $check out's"), home=tmp_path / "a home", python=python)
    python.parent.parent.joinpath("llm-d-dev.json").unlink(missing_ok=True)


def test_it_is_started_from_any_folder_and_calls_itself_by_its_name(machine: Machine) -> None:
    ran = machine.verb("install", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"installed": [str(machine.home / name) for name in FILES]}
    assert machine.files == sorted(FILES)
    assert machine.command("dev", "--help").stdout.startswith("usage: llm-d-dev dev ")
    ran = machine.command("status", "--no-such-option")
    assert (ran.returncode, ran.stderr.splitlines()[1]) == (2, "try: `llm-d-dev --help`")


def test_it_goes_without_a_trace(machine: Machine) -> None:
    (machine.home / ".config").mkdir()
    before = [*machine.python.parent.parent.iterdir()]
    machine.verb("install")
    machine.verb("install")
    ran = machine.command("uninstall")
    assert ran.returncode == 0, ran.stderr
    # A folder that was there stays.
    assert [*machine.home.rglob("*")] == [machine.home / ".config"]
    assert [*machine.python.parent.parent.iterdir()] == before
    ran = machine.verb("uninstall", "--json")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"removed": []})


def test_files_that_others_put_beside_it_stay(machine: Machine) -> None:
    machine.verb("install")
    other = machine.home / ".local/bin/other"
    other.touch()
    machine.verb("uninstall")
    assert machine.files == [".local/bin/other"]


def _text(path: Path) -> None:
    path.write_text("#!/bin/sh\necho mine\n", encoding="utf-8")


def _link(path: Path) -> None:
    path.symlink_to("/bin/true")


def _dangling(path: Path) -> None:
    path.symlink_to("/none")


@pytest.mark.parametrize(("name", "put"), [*zip(FILES, (_text, _link, _dangling, Path.mkdir), strict=True)])
def test_a_file_of_another_origin_is_neither_overwritten_nor_removed(
    machine: Machine, name: str, put: Callable[[Path], None]
) -> None:
    path = machine.home / name
    path.parent.mkdir(parents=True)
    put(path)
    before = path.lstat().st_mtime_ns
    ran = machine.verb("install")
    assert ran.returncode == 2, ran.stdout
    what, _ = ran.stderr.splitlines()
    assert what == f"error[usage]: {path} exists and was not written by llm-d-dev"
    ran = machine.verb("uninstall")
    assert ran.returncode == 0, ran.stderr
    assert path.lstat().st_mtime_ns == before
    assert set(machine.files) <= {name}


def test_another_checkout_takes_it_over_and_the_first_leaves_it_then(machine: Machine, tmp_path: Path) -> None:
    machine.verb("install")
    other = replace(machine, checkout=checkout(tmp_path / "other"))
    assert other.verb("install").returncode == 0
    ran = machine.verb("uninstall")
    assert f"{machine.home / FILES[0]} stays: it belongs to {other.checkout}" in ran.stderr
    assert machine.files == sorted(FILES)
    other.verb("uninstall")
    assert machine.files == []


def test_a_checkout_or_environment_that_is_gone_is_told(machine: Machine) -> None:
    machine.verb("install")
    shutil.move(machine.checkout, machine.checkout.with_name("moved"))
    ran = machine.command("status")
    assert ran.returncode == 2
    what, advice = ran.stderr.splitlines()
    assert str(machine.checkout / "build") in what
    assert "nox -s install" in advice


def test_requirements_that_a_pull_changed_are_told(machine: Machine) -> None:
    machine.verb("install")
    words = ("engine", "status")
    assert machine.command(*words).stderr == ""
    with (machine.checkout / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write("# A pull\n")
    ran = machine.command(*words)
    assert ran.returncode == 0
    assert ran.stderr.startswith("warning: the packages are older than requirements.txt: run `nox -s install`")
    machine.verb("install")
    assert machine.command(*words).stderr == ""


def test_a_path_without_the_folder_is_told(machine: Machine, tmp_path: Path) -> None:
    folder = machine.home / ".local/bin"
    assert f"{folder} is not in PATH" in machine.verb("install").stderr
    assert machine.verb("install", PATH=f"/usr/bin:{folder}").stderr == ""
    first = tmp_path / "first/llm-d-dev"
    first.parent.mkdir()
    first.touch()
    assert f"{first} comes first in PATH" in machine.verb("install", PATH=f"{first.parent}:{folder}:/usr/bin").stderr


def test_a_folder_that_cannot_be_written_is_told(machine: Machine) -> None:
    (machine.home / ".local").touch()
    ran = machine.verb("install")
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 2


_COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_llm_d_dev; printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes(machine: Machine) -> None:
    machine.verb("install")

    def found(*words: str) -> set[str]:
        ran = machine.run("bash", "-c", _COMPLETE, "bash", machine.home / FILES[1], "llm-d-dev", *words)
        return set(ran.stdout.split())

    assert found("st") == {"status"}
    assert found("dev", "--no-") == {"--no-install", "--no-smoke", "--no-push"}
    assert found("engine", "") == {"up", "down", "status"}
    assert found("dev", "/et") == {"/etc"}
    assert found("plan", "--state", "/et") == {"/etc"}


def test_every_shell_s_completion_is_complete(machine: Machine) -> None:
    machine.verb("install")
    verbs = re.findall(r"^    (\w+)", machine.verb("--help").stdout, re.MULTILINE)
    for name in FILES[1:]:
        text = (machine.home / name).read_text(encoding="utf-8")
        assert all(re.search(rf"\b{verb}\b", text) for verb in verbs)
        # Nobody's own folder: the same text for everyone.
        assert str(machine.home) not in text
    # What zsh recognises such files by (zshcompsys(1), "Autoloaded files").
    assert (machine.home / FILES[2]).read_text(encoding="utf-8").startswith("#compdef llm-d-dev\n")


# --- The version -------------------------------------------------------------------------------------------


def test_the_version_outside_a_git_checkout_is_the_project_s(machine: Machine) -> None:
    # Another repository's commit is not this program's.
    subprocess.run(["git", "init", "--quiet", machine.checkout.parent], check=True)
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert machine.verb("--version").stdout == f"llm-d-dev {version}\n"


def test_the_version_in_a_git_checkout_names_the_commit(machine: Machine) -> None:
    git = ["git", "-C", str(machine.checkout), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "x"], ["tag", "v7"]):
        subprocess.run([*git, *words], check=True)
    assert machine.verb("--version").stdout.endswith(" (v7)\n")
    (machine.checkout / "pyproject.toml").open("a").close()
    (machine.checkout / "requirements.txt").write_text("", encoding="utf-8")
    assert machine.verb("--version").stdout.endswith(" (v7-dirty)\n")


def test_the_version_of_a_broken_git_checkout_is_the_project_s(machine: Machine) -> None:
    (machine.checkout / ".git").mkdir()
    assert re.fullmatch(r"llm-d-dev [0-9.]+\n", machine.verb("--version").stdout)


def test_a_machine_without_git_is_told(machine: Machine) -> None:
    ran = machine.verb("--version", PATH="/nowhere")
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[0] == "error[usage]: the program git is not in PATH"
