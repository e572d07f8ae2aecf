"""The real engine, the real registry, and sealed stand-in bases to work on."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import git
import pytest
import requests
from filelock import FileLock

from build.base import seal
from build.config import settings
from build.config.folders import REPOSITORY, Folders
from build.console import Console
from build.context import Context
from build.engine import embedded, labels, rootfs
from build.flavors import cpu
from build.gate import verdict
from build.nightly import run
from build.registry import container_image
from build.source.repository import Repository
from smoke.suite import recorded
from tests.engine import changes
from tests.engine.inside import Inside
from tests.standin.image import build_standin
from tests.standin.source import source_tree
from tests.standin.verdicts import numbers_on, passing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from build.engine.client import Engine
    from build.engine.image import Image
    from build.gate.verdict import Verdict

_FAMILY = "llm-d-dev-test-"
LOCAL = f"{_FAMILY}{os.getpid()}"
"""Local repository of everything that these tests tag: nobody's own images are touched, nor another run's."""
RUN = labels.PREFIX + "test"
"""Label of the base, and so of its overlays and of the containers of both: the run of the tests, by LOCAL."""

Word = str | os.PathLike[str]
"""A word of a command line."""

_NUMBER = itertools.count()


@pytest.fixture(scope="session")
def making(tmp_path_factory: pytest.TempPathFactory) -> FileLock:
    """Held by the worker that makes what all of them use: the others find it there."""
    return FileLock(tmp_path_factory.getbasetemp().parent / "llm-d-dev-tests.lock")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine that answers, or the embedded one. One that cannot start is a failure, never a skip."""
    found = embedded.up(Folders.default(), install=True, console=Console(quiet=False))
    yield found
    _remove_containers(found)
    _remove_images(found)
    found.close()


def _remove_containers(engine: Engine) -> None:
    """Remove what a test found to be left behind."""
    for row in engine.client.api.containers(all=True, filters={"label": f"{RUN}={LOCAL}"}):
        engine.client.api.remove_container(row["Id"], force=True, v=True)


def _remove_images(engine: Engine) -> None:
    """Remove the images of these tests and of runs that were killed, under local names and the registry's."""
    for image in engine.client.api.images():
        for name in image["RepoTags"] or ():
            _, family, rest = name.partition(_FAMILY)
            pid = "".join(itertools.takewhile(str.isdigit, rest))
            if family and (int(pid) == os.getpid() or not Path("/proc", pid).exists()):
                engine.untag(name)
    for image in engine.client.api.images(filters={"label": f"{RUN}={LOCAL}", "dangling": True}):
        engine.client.api.remove_image(image["Id"], force=True, noprune=True)


_OPEN_REGISTRY = {
    "version": "0.1",
    "storage": {"filesystem": {"rootdirectory": "/var/lib/registry/data"}, "delete": {"enabled": True}},
    "http": {"addr": ":5000"},
}


@pytest.fixture(scope="session")
def registry_address(engine: Engine, making: FileLock) -> Iterator[str]:
    """A registry that asks for no login, such as a team has on its own network; gone with the tests.

    The embedded one has tests of its own.
    """
    context = Context(settings=settings.load({}), console=Console(quiet=False))
    with making:
        image = container_image.ensure(context)
    context.engine.close()
    words = ["serve", "/var/lib/registry/config.yml"]
    with engine.created(image.id, command=words, user="0", ports={"5000/tcp": ("127.0.0.1", None)}) as container:
        text = json.dumps(_OPEN_REGISTRY).encode()
        member = tarfile.TarInfo("registry/config.yml")
        member.size = len(text)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(member, io.BytesIO(text))
        container.put_archive("/var/lib", archive.getvalue())
        container.start()
        container.reload()
        published = container.ports["5000/tcp"]
        assert published
        address = f"127.0.0.1:{published[0]['HostPort']}"
        _wait_for_registry(address)
        yield address


def _wait_for_registry(address: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"http://{address}/v2/", timeout=5).ok:
                return
        assert time.monotonic() < deadline, "the registry of these tests does not answer"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def system(engine: Engine, making: FileLock) -> Image:
    """The Debian root file system."""
    image = settings.load({}).rootfs_image
    with making:
        return rootfs.ensure(engine, image=image, install=True, console=Console(quiet=False))


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of the stand-in's source, one commit on `main`. Tests clone it."""
    path = tmp_path_factory.mktemp("source") / "vllm"
    source_tree(path)
    changes.write(path, (change.before for change in changes.ALL))
    repository = git.Repo.init(path, initial_branch="main")
    commit_all(repository, "The stand-in")
    repository.close()
    return path


@pytest.fixture
def clone(vllm: Path, tmp_path: Path) -> Iterator[git.Repo]:
    """A clone of one's own."""
    with contextlib.closing(git.Repo.clone_from(str(vllm), tmp_path / "vllm")) as cloned:
        yield cloned


def commit_all(repository: git.Repo, message: str) -> str:
    """Commit everything as it stands; returns the id."""
    repository.git.add("--all")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgSign=false")
    repository.git.execute(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", message])
    return repository.head.commit.hexsha


@pytest.fixture(scope="session")
def unsealed(engine: Engine, system: Image, vllm: Path) -> Image:
    """A stand-in of the source's `main`, as a build leaves it."""
    image_id = build_standin(engine, system.tags[0], source=vllm, marks={RUN: LOCAL})
    engine.tag(image_id, f"{LOCAL}:unsealed")
    return engine.image(image_id)


@pytest.fixture(scope="session")
def standin(engine: Engine, system: Image) -> str:
    """ID of a stand-in that this tool did not seal, as others make images."""
    return build_standin(engine, system.tags[0])


@pytest.fixture(scope="session")
def base(engine: Engine, unsealed: Image, vllm: Path) -> Image:
    """A sealed stand-in, promoted as nightly."""
    source = Repository(vllm)
    commit = source.commit("main")
    marks = {labels.FINGERPRINT: "stand-in", labels.QUAY_EXPIRES: "14d"}
    sealed = seal.seal(
        engine, unsealed, flavor="cpu", source=source, commit=commit, marks=marks, console=Console(quiet=True)
    )
    source.close()
    for name in (f"{LOCAL}:nightly-cpu", f"{LOCAL}:nightly-{commit.id}-cpu"):
        engine.tag(sealed, name)
    return engine.image(sealed)


@contextlib.contextmanager
def inside(engine: Engine, image: Image, **options: Any) -> Iterator[Inside]:  # noqa: ANN401 - docker's own options
    """A container of an image, without network, to look around in."""
    options = {"entrypoint": ["sleep"], "command": ["inf"], "network_mode": "none", "init": True, **options}
    with engine.created(image.id, **options) as container:
        container.start()
        yield Inside(container)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a verb ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        return json.loads(self.stdout)


def finished(process: subprocess.Popen[str]) -> Ran:
    """Wait for a verb to end."""
    with process:
        stdout, stderr = process.communicate()
    return Ran(returncode=process.returncode, stdout=stdout, stderr=stderr)


def assert_refused(ran: Ran, code: int, word: str, said: str) -> None:
    """Two lines on standard error, what went wrong and what to try, and the same as the only document.

    Args:
        ran: A verb with ``--json``.
        code: Its exit code.
        word: Of the category.
        said: Pattern of something in the first line.
    """
    assert ran.returncode == code, ran.stderr
    error = ran.json["error"]
    assert (error["word"], error["exit_code"]) == (word, code)
    assert re.search(said, error["what"]), error
    assert error["hint"]
    lines = ran.stderr.splitlines()
    assert len(lines) == 2, ran.stderr
    assert re.match(rf"error\[{word}\]: .*{said}", lines[0]), ran.stderr
    assert re.match(r"try: \S", lines[1]), ran.stderr


@dataclass(frozen=True, kw_only=True)
class Cli:
    """`python -m build` with folders of its own, on the tests' engine and registry."""

    environment: dict[str, str]
    folders: Folders
    repository: str
    checkout: Path = REPOSITORY

    def __call__(self, *words: Word, **variables: str) -> Ran:
        return finished(self.start(*words, **variables))

    def start(
        self, *words: Word, program: Sequence[str] = (sys.executable, "-m", "build"), **variables: str
    ) -> subprocess.Popen[str]:
        """A verb that runs on, to be interrupted."""
        return subprocess.Popen(
            [*program, *words],
            cwd=self.checkout,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pass_smoke(self, image: Image) -> Verdict:
        """Keep a verdict as a smoke run that the image passed on this engine does."""
        passed = passing(image, **recorded.entry(numbers_on(self.environment["DOCKER_HOST"])))
        verdict.record(self.folders.verdicts, passed)
        return passed


def make_cli(engine: Engine, registry_address: str, folder: Path) -> Cli:
    """The command line, with its folders below ``folder`` and a registry repository of its own."""
    folders = Folders(state=folder / "state", cache=folder / "cache")
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    repository = f"{registry_address}/{LOCAL}/{next(_NUMBER)}"
    variables = {
        "DOCKER_HOST": engine.host,
        "TMPDIR": str(temporary),
        "LLM_D_DEV_STATE": str(folders.state),
        "LLM_D_DEV_CACHE": str(folders.cache),
        "LLM_D_DEV_REPOSITORY": LOCAL,
        # Other tests give the engine GPUs meanwhile.
        "LLM_D_DEV_FLAVOR": "cpu",
        "LLM_D_DEV_REGISTRY": repository,
    }
    return Cli(environment={**os.environ, **variables}, folders=folders, repository=repository)


@pytest.fixture
def cli(engine: Engine, registry_address: str, tmp_path: Path) -> Cli:
    """The command line, on the tests' engine and a registry repository of the test's own."""
    return make_cli(engine, registry_address, tmp_path)


_RELEASE = "0.32.0"


@pytest.fixture
def released(cli: Cli, vllm: Path) -> None:
    """A cache in which the stand-in is a release of vLLM."""
    with contextlib.closing(git.Repo.clone_from(str(vllm), cli.folders.releases, bare=True)) as releases:
        for tag in (f"v{_RELEASE}", f"v{_RELEASE}-cpu"):
            releases.create_tag(tag)


def base_fingerprint(cli: Cli) -> str:
    """What `nightly` recognises the base by that it would build of that release."""
    context = Context(settings=settings.load({"vllm_version": _RELEASE}), console=Console(quiet=True))
    with contextlib.closing(Repository(cli.folders.releases)) as releases:
        commit = releases.commit(f"v{_RELEASE}-cpu")
        return run._fingerprint(cpu.Cpu(context=context), commit, context.settings.nightly_expires_after)
