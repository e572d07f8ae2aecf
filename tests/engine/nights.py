"""Nights: a checkout, a command line and a vLLM repository of their own, and what can be seen of them afterwards."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import git
import requests

from build.config.folders import REPOSITORY
from build.engine import labels
from tests.engine.conftest import LOCAL, Cli, commit_all, finished, make_cli

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Ran

_PARTS = ("build", "smoke", "dockerfiles", "tests/standin")
_CACHES = shutil.ignore_patterns("__pycache__")
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_RELEASES = ("v0.32.0", "v0.32.0-cpu")

OLD = "0" * 40
"""What a base that is there before says that it is the commit of."""


def checkout(folder: Path) -> Path:
    """A copy of this checkout, so that no night writes into the real one."""
    for part in _PARTS:
        shutil.copytree(REPOSITORY / part, folder / part, ignore=_CACHES)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Nights:
    """A place for nights.

    Attributes:
        engine: Where.
        cli: Folders and environment.
        vllm: Working tree of the source.
        repository: Local repository.
    """

    engine: Engine
    cli: Cli
    vllm: Path
    repository: str

    def commit(self, message: str, *, broken: bool = False) -> str:
        """A new commit, with data that git ignores, that the next nightly builds from; perhaps one that crashes."""
        faults = self.vllm / "vllm/entrypoints/launchers/faults.py"
        sound = faults.read_text(encoding="utf-8").replace(_CRASHES, _SOUND)
        assert _SOUND in sound
        faults.write_text(sound.replace(_SOUND, _CRASHES) if broken else sound, encoding="utf-8")
        payload = self.vllm / "vllm/__pycache__/payload.bin"
        payload.parent.mkdir(exist_ok=True)
        payload.write_bytes(secrets.token_bytes(PAYLOAD_BYTES))
        with contextlib.closing(git.Repo(self.vllm)) as source:
            commit = commit_all(source, message)
            for tag in _RELEASES:
                source.git.push("--force", "--quiet", str(self.cli.folders.releases), f"HEAD:refs/tags/{tag}")
        return commit

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A verb that runs on."""
        program = (sys.executable, "-m", "tests.standin.nightly")
        return self.cli.start(*words, program=program, **variables)

    def __call__(self, *words: str, **variables: str) -> Ran:
        return finished(self.start(*words, **variables))

    @property
    def base_commit(self) -> str | None:
        """What ``base_commit-cpu.txt`` says."""
        file = self.cli.checkout / "base_commit-cpu.txt"
        return file.read_text(encoding="utf-8").strip() if file.exists() else None

    def local(self, tag: str) -> str | None:
        """ID of the image with a local tag."""
        found = self.engine.find_image(f"{self.repository}:{tag}")
        return found.id if found else None

    def served(self, tag: str) -> str | None:
        """ID of the image that the registry serves under a tag."""
        host, _, path = self.cli.repository.partition("/")
        answer = requests.get(f"http://{host}/v2/{path}/manifests/{tag}", headers={"Accept": _MANIFEST}, timeout=10)
        if answer.status_code == requests.codes.not_found:
            return None
        return str(answer.json()["config"]["digest"])


_SOUND, _CRASHES = "return names", 'return frozenset({"crash"})'

PAYLOAD_BYTES = 3_000_000
"""What the base of each commit adds to the disk at least."""


def make(engine: Engine, registry_address: str, vllm: Path, folder: Path, name: str) -> Nights:
    """A place for nights, where none has been."""
    cli = make_cli(engine, registry_address, folder)
    repository = f"{LOCAL}-{name}"
    cli.environment["LLM_D_DEV_REPOSITORY"] = repository
    with contextlib.closing(git.Repo.clone_from(str(vllm), cli.folders.releases, bare=True)) as releases:
        for tag in _RELEASES:
            releases.create_tag(tag)
    git.Repo.clone_from(str(vllm), folder / "vllm").close()
    # With a space: such folders exist.
    cli = replace(cli, checkout=checkout(folder / "check out"))
    cli.environment["STANDIN_TREE"] = str(folder / "vllm")
    return Nights(engine=engine, cli=cli, vllm=folder / "vllm", repository=repository)


def promoted(nights: Nights, image: Image) -> None:
    """Make an image the last good base, everywhere."""
    commit = image.labels[labels.COMMIT]
    for tag in (f"nightly-{commit}-cpu", "nightly-cpu"):
        nights.engine.tag(image.id, f"{nights.repository}:{tag}")
    (nights.cli.checkout / "base_commit-cpu.txt").write_text(f"{commit}\n", encoding="utf-8")
    nights.cli.pass_smoke(image)
    ran = nights("push", f"{nights.repository}:nightly-cpu")
    assert ran.returncode == 0, ran.stderr
