"""The real engine, the real registry, and sealed stand-in bases to work on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import git
import pytest

from build import embedded, labels, registry_server, rootfs, seal, settings
from build.console import Console
from build.folders import REPOSITORY, Folders
from build.git import Repository
from tests.standin.image import build_standin
from tests.standin.source import source_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine import Engine, Image

LOCAL = "llm-d-dev-test"
"""Local repository of everything that these tests tag: nobody's own images are touched."""


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine that answers, or the embedded one. One that cannot start is a failure, never a skip."""
    found = embedded.up(Folders.default(), install=True, console=Console(quiet=False))
    yield found
    found.close()


@pytest.fixture(scope="session")
def registry_address(engine: Engine) -> str:
    """The embedded registry."""
    del engine  # its packages come from the same place; one installation at a time
    return registry_server.up(Folders.default(), port=None, install=True, console=Console(quiet=False))


@pytest.fixture(scope="session")
def system(engine: Engine) -> Image:
    """The Debian root file system."""
    image = settings.load({}).rootfs_image
    return rootfs.ensure(engine, image=image, install=True, console=Console(quiet=False))


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of the stand-in's source, one commit on `main`. Tests clone it."""
    path = tmp_path_factory.mktemp("source") / "vllm"
    source_tree(path)
    repository = git.Repo.init(path, initial_branch="main")
    commit_all(repository, "The stand-in")
    repository.close()
    return path


@pytest.fixture
def clone(vllm: Path, tmp_path: Path) -> git.Repo:
    """A clone of one's own."""
    return git.Repo.clone_from(str(vllm), tmp_path / "vllm")


def commit_all(repository: git.Repo, message: str) -> str:
    """Commit everything as it stands; returns the id."""
    repository.git.add("--all")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgSign=false")
    repository.git.execute(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", message])
    return repository.head.commit.hexsha


@pytest.fixture(scope="session")
def base(engine: Engine, system: Image, vllm: Path) -> Iterator[Image]:
    """A sealed stand-in, promoted as nightly."""
    source = Repository(vllm)
    commit = source.commit("main")
    raw = engine.image(build_standin(engine, system.tags[0], source=vllm))
    marks = {labels.FINGERPRINT: "stand-in", labels.QUAY_EXPIRES: "14d"}
    sealed = seal.seal(
        engine, raw, flavor="cpu", source=source, commit=commit, marks=marks, console=Console(quiet=True)
    )
    names = [f"{LOCAL}:nightly", f"{LOCAL}:nightly-{commit.id}"]
    for name in names:
        engine.tag(sealed, name)
    yield engine.image(sealed)
    for image in engine.client.api.images(name=LOCAL):
        for name in image["RepoTags"]:
            engine.untag(name)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a verb ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        return json.loads(self.stdout)


@dataclass(frozen=True, kw_only=True)
class Cli:
    """`python -m build` with a state folder of its own, on the tests' engine and registry."""

    environment: dict[str, str]
    state: Path
    repository: str

    def __call__(self, *words: str | Path, **variables: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "build", *map(str, words)],
            cwd=REPOSITORY,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def start(self, *words: str | Path, **variables: str) -> subprocess.Popen[str]:
        """A verb that runs on, to be interrupted."""
        return subprocess.Popen(
            [sys.executable, "-m", "build", *map(str, words)],
            cwd=REPOSITORY,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def cli(engine: Engine, registry_address: str, tmp_path: Path) -> Cli:
    """The command line, on the tests' engine and a registry repository of the test's own."""
    repository = f"{registry_address}/test-{os.getpid()}-{abs(hash(tmp_path)) % 10**8}"
    variables = {
        "DOCKER_HOST": engine.host,
        "LLM_D_DEV_STATE": str(tmp_path / "state"),
        "LLM_D_DEV_CACHE": str(tmp_path / "cache"),
        "LLM_D_DEV_REPOSITORY": LOCAL,
        "LLM_D_DEV_REGISTRY": repository,
    }
    return Cli(environment={**os.environ, **variables}, state=tmp_path / "state", repository=repository)
