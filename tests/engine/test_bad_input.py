"""What cannot work is refused in two lines, with an exit code, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import git
import pytest

from build.engine import labels, names
from build.host import lock
from tests.engine import fake_engine, traces
from tests.engine.conftest import LOCAL, assert_refused, base_fingerprint, commit_all, finished
from tests.engine.relay import Relay
from tests.standin.image import another_base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli


@pytest.fixture(autouse=True)
def _nothing_is_left(engine: Engine, cli: Cli) -> Iterator[None]:
    names = local_names(engine)
    yield
    assert traces.left(engine, cli, ()) == []
    assert traces.containers(engine) == []
    assert local_names(engine) == names


def local_names(engine: Engine) -> list[str]:
    return sorted(name for image in engine.client.api.images(name=LOCAL) for name in image["RepoTags"])


# --- Sources -----------------------------------------------------------------------------------------------------


def test_a_path_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    assert_refused(cli("dev", tmp_path / "none", "--json"), 3, "source", "there is no .*/none")


def test_a_folder_that_is_no_repository(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(cli("dev", tmp_path / "empty", "--json"), 3, "source", "empty is not a git repository")


def test_a_file_that_is_no_repository(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(cli("dev", tmp_path / "file", "--json"), 3, "source", "file is not a git repository")


@pytest.mark.parametrize("ref", ["no-such-branch", "0123456789", "--all", "HEAD:vllm"])
def test_a_ref_that_does_not_resolve(cli: Cli, vllm: Path, ref: str) -> None:
    ran = cli("dev", "--json", "--", vllm, ref)
    assert_refused(ran, 3, "source", f"'{ref}' names no commit")


def test_a_repository_without_commits(cli: Cli, tmp_path: Path) -> None:
    git.Repo.init(tmp_path / "new").close()
    assert_refused(cli("dev", tmp_path / "new", "--json"), 3, "source", "'HEAD' names no commit")


# --- Images ------------------------------------------------------------------------------------------------------


def test_an_image_that_is_not_there(cli: Cli) -> None:
    assert_refused(cli("smoke", f"{LOCAL}:none", "--json"), 3, "source", f"image '{LOCAL}:none' is not on this engine")


def test_an_image_name_that_is_none(cli: Cli) -> None:
    assert_refused(cli("push", "No Image", "--json"), 2, "usage", "'No Image' is not an image name")


def test_a_base_that_is_not_there(cli: Cli, vllm: Path) -> None:
    ran = cli("dev", vllm, "--base", f"{LOCAL}:none", "--json")
    assert_refused(ran, 3, "source", f"image '{LOCAL}:none' is not on this engine")


@pytest.mark.usefixtures("base")
def test_a_base_that_is_none(cli: Cli, vllm: Path, unsealed: Image) -> None:
    assert_refused(cli("dev", vllm, "--base", unsealed.id, "--json"), 3, "source", "is not a base")


@pytest.mark.parametrize("verb", ["dev", "plan"])
def test_no_base_at_all(cli: Cli, vllm: Path, verb: str) -> None:
    ran = cli(verb, vllm, "--json", LLM_D_DEV_REPOSITORY=f"{LOCAL}-empty")
    assert_refused(ran, 4, "incompatible", "no base image")


# --- Settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LLM_D_DEV_REGISTY", "x", "LLM_D_DEV_REGISTY is not a setting"),
        ("LLM_D_DEV_OVERLAY_EXPIRES_AFTER", "soon", "overlay_expires_after"),
        ("LLM_D_DEV_REGISTRY_PORT", "70000", "registry_port"),
        ("LLM_D_DEV_REPOSITORY", "No Name", "repository"),
    ],
)
def test_a_setting_that_is_none(cli: Cli, variable: str, value: str, said: str) -> None:
    assert_refused(cli("status", "--json", **{variable: value}), 2, "usage", said)


@pytest.mark.skipif(os.geteuid() != 0, reason="/proc refuses everybody else in the same way, and more")
def test_a_state_folder_that_cannot_be_written(cli: Cli) -> None:
    assert_refused(cli("status", "--json", "--state", "/proc/none"), 2, "usage", "state folder cannot be written")


# --- Registry ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def listening() -> Iterator[str]:
    """Port of a program that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield str(server.getsockname()[1])


@pytest.mark.usefixtures("base")
def test_a_registry_that_does_not_answer_stops_dev_before_the_work(cli: Cli, clone: git.Repo) -> None:
    commit_all(clone, "Not to be built")
    ran = cli("dev", clone.working_dir, "--json", "--registry", "127.0.0.1:1/x")
    assert_refused(ran, 7, "registry", "registry 127.0.0.1:1 does not answer: connection refused")


def test_a_registry_that_does_not_answer_stops_nightly_before_the_work(cli: Cli, released: None) -> None:
    del released
    ran = cli("nightly", "--json", "--registry", "127.0.0.1:1/x")
    assert_refused(ran, 7, "registry", "registry 127.0.0.1:1 does not answer: connection refused")


def test_a_registry_that_does_not_answer_stops_push(cli: Cli, engine: Engine, base: Image) -> None:
    cli.pass_smoke(base)
    before = engine.image(base.id).tags
    ran = cli("push", base.id, "--json", "--registry", "127.0.0.1:1/x")
    assert_refused(ran, 7, "registry", "registry 127.0.0.1:1 does not answer: connection refused")
    assert engine.image(base.id).tags == before


def test_a_registry_port_that_is_taken(cli: Cli, vllm: Path) -> None:
    with listening() as port:
        ran = without(cli, "LLM_D_DEV_REGISTRY")("dev", vllm, "--json", LLM_D_DEV_REGISTRY_PORT=port)
    assert_refused(ran, 8, "engine", f"port {port} .*is used by another program")


def without(cli: Cli, variable: str) -> Cli:
    """The same command line with a variable less."""
    environment = {name: value for name, value in cli.environment.items() if name != variable}
    return type(cli)(environment=environment, folders=cli.folders, repository=cli.repository)


# --- Engine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["dev", "nightly", "quickstart"])
def test_an_engine_that_is_gone(cli: Cli, clone: git.Repo, tmp_path: Path, verb: str) -> None:
    hidden = {"DOCKER_HOST": f"unix://{tmp_path}/none", "PIP_INDEX_URL": "http://127.0.0.1:1/"}
    ran = cli(verb, "--json", VLLM_LOCAL_GIT_DIR=str(clone.git_dir), **hidden)
    assert_refused(ran, 8, "engine", "nothing answers at DOCKER_HOST=unix:.*/none")


# A machine without engine: the places where one is looked for are elsewhere.
_WITHOUT_ENGINE = """
import sys
from build.cli import main
from build.engine import client
from build.host import apt
client.DEFAULT_SOCKET = "/nowhere/docker.sock"
apt.SYSTEM_PATH = ""
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("words", [["dev"], ["engine", "up"], ["quickstart"]], ids=" ".join)
def test_no_engine_and_none_to_be_installed(cli: Cli, vllm: Path, tmp_path: Path, words: list[str]) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "env"):
        (programs / name).symlink_to(shutil.which(name) or name)
    hidden = {"PATH": str(programs), "HOME": str(tmp_path), "VLLM_LOCAL_GIT_DIR": str(vllm)}
    engineless = without(cli, "DOCKER_HOST")
    program = (sys.executable, "-c", _WITHOUT_ENGINE)
    process = engineless.start(*words, "--json", "--no-install", program=program, **hidden)
    assert_refused(finished(process), 8, "engine", "")


def test_an_engine_that_goes_away_meanwhile(cli: Cli, engine: Engine, vllm: Path, tmp_path: Path, base: Image) -> None:
    del base  # there to be read
    with Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay:
        relay.hold("GET .*/archive", "asked")
        process = cli.start("dev", vllm, "--json", DOCKER_HOST=relay.host)
        assert relay.wait(seconds=60)
    assert_refused(finished(process), 8, "engine", "the engine failed")
    # It could not even remove its container; the next run does.
    assert traces.containers(engine) == [process.pid]
    assert cli("status").returncode == 0


def test_an_engine_without_buildkit(cli: Cli, tmp_path: Path) -> None:
    with fake_engine.answering(tmp_path / "engine", buildkit=False) as host:
        ran = cli("nightly", "--json", DOCKER_HOST=host)
    assert_refused(ran, 8, "engine", "release 22.0.1.* has no BuildKit")


def replace_text(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.usefixtures("base")
def test_a_client_without_buildx(cli: Cli, clone: git.Repo, tmp_path: Path) -> None:
    client = tmp_path / "programs/docker"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    client.chmod(0o755)
    replace_text(Path(clone.working_dir, "requirements/common.txt"), "numpy", "numpy\nnowhere-to-be-had")
    commit_all(clone, "To be built")
    ran = cli("dev", clone.working_dir, "--install-deps", "--json", PATH=f"{client.parent}:{os.environ['PATH']}")
    assert_refused(ran, 8, "engine", "docker buildx version")


# --- nightly -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("released")
def test_too_little_disk(cli: Cli, tmp_path: Path) -> None:
    # Nothing is ever free on /proc.
    with fake_engine.answering(tmp_path / "engine", root="/proc") as host:
        ran = cli("nightly", "--json", DOCKER_HOST=host)
    assert_refused(ran, 8, "disk", "needs 12 GB on the engine's disk, 0.0 GB are free")


def test_a_nightly_while_another_one_runs(cli: Cli) -> None:
    with lock.held(cli.folders.locks, "nightly", doing="building a base"):
        ran = cli("nightly", "--json")
    assert_refused(ran, 9, "busy", rf"nightly is busy: process {os.getpid()} \(building a base, since .*\)")


@pytest.mark.usefixtures("released")
def test_a_broken_nightly_leaves_the_old_one_in_place(cli: Cli, engine: Engine, base: Image) -> None:
    own = f"{LOCAL}-nightly"
    engine.tag(base.id, f"{own}:nightly-cpu")
    before = contents(names.base_commit_file("cpu"))
    broken = [f"LABEL {labels.FINGERPRINT}={base_fingerprint(cli)}", "ENV STANDIN_FAULT=crash"]
    with another_base(engine, base.id, broken) as image_id:
        engine.tag(image_id, f"{own}:kept")
        # Should the image not be recognised: no release file can be had to build one.
        ran = cli("nightly", "--json", LLM_D_DEV_REPOSITORY=own, PIP_INDEX_URL="http://127.0.0.1:1/")
    assert_refused(ran, 6, "smoke", "failed server/health")
    assert engine.image(f"{own}:nightly-cpu").id == base.id
    assert contents(names.base_commit_file("cpu")) == before


def contents(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
