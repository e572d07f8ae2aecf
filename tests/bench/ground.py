"""What the benchmarks stand on: the engine, the newest base, vLLM's releases; and that nothing of it stays."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.base import store
from build.config import settings
from build.config.folders import REPOSITORY
from build.context import Context
from build.engine import embedded, leftovers
from build.errors import BuildError, IncompatibleError
from build.host import scratch
from build.overlay import comparison
from build.overlay.overlay import Overlay
from build.source import releases
from build.source.repository import Repository
from build.source.target import Target

if TYPE_CHECKING:
    import resource
    from collections.abc import Iterator, Mapping

    from build.base.store import Base
    from build.console import Console
    from build.engine.client import Engine

FAMILY = "llm-d-dev-bench"

_IDENTITY = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgSign=false")


class Clone:
    """A repository of one's own with vLLM's releases.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = itertools.count(1)

    def git(self, *words: str) -> str:
        """What git says."""
        argv = ["git", "-C", str(self.path), *_IDENTITY, *words]
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def edited(self, on: str, *, files: int) -> str:
        """Id of a commit that no other call returns: some Python files of ``on`` get a line more."""
        self.git("checkout", "--quiet", "--force", "--detach", on)
        paths = self.git("ls-files", "vllm/*.py").splitlines()
        # Those at the end, which are no folders' __init__.py.
        chosen = [path for path in paths if not path.endswith("__init__.py")][:files]
        line = f"\n# edit {next(self._number)}\n"
        for path in chosen:
            with (self.path / path).open("a", encoding="utf-8") as file:
                file.write(line)
        self.git("commit", "--quiet", "--all", "--message", line.strip())
        return self.git("rev-parse", "HEAD")

    def with_random_files(self, on: str, *, size: int, count: int, folder: str = "vllm/padding") -> str:
        """Id of a commit that adds some files of random bytes, ``size`` bytes in all."""
        self.git("checkout", "--quiet", "--force", "--detach", on)
        (self.path / folder).mkdir()
        for number in range(count):
            (self.path / folder / f"{number}.bin").write_bytes(os.urandom(size // count))
        self.git("add", "--force", folder)
        self.git("commit", "--quiet", "--message", f"{size} random bytes")
        return self.git("rev-parse", "HEAD")

    def child(self, parent: str, content: str) -> str:
        """Id of a commit on ``parent`` with the tree of another one."""
        return self.git("commit-tree", "-p", parent, "-m", "child", f"{content}^{{tree}}")

    @property
    def size(self) -> int:
        """Bytes of its files, objects included."""
        return sum(path.lstat().st_size for path in self.path.rglob("*") if not path.is_dir())


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How ``python -m build`` ended.

    Attributes:
        document: What it printed.
        peak: Its peak memory in bytes, children included.
    """

    document: Any
    peak: int


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where a benchmark works.

    Attributes:
        context: Settings and engine.
        base: The base.
        base_name: How the command line is told of it.
        commit: The base's commit.
        newer: The release after the base's.
        clone: A clone of the releases.
        folder: For whatever else is needed; removed.
        environment: Variables that the command line is run with.
        opened: What stays open until the end: overlays read their contents when they are made.
        console: For progress.
    """

    context: Context
    base: Base
    base_name: str
    commit: str
    newer: str
    clone: Clone
    folder: Path
    environment: Mapping[str, str]
    opened: contextlib.ExitStack
    console: Console
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def engine(self) -> Engine:
        """The engine."""
        return self.context.engine

    def tag(self) -> str:
        """A name that no image has."""
        return f"{self.context.settings.repository}:{next(self.numbers)}"

    def overlay(self, commit: str) -> Overlay:
        """The overlay of a commit of the clone, not yet made."""
        source = self.opened.enter_context(contextlib.closing(Repository(self.clone.path)))
        target = Target.of(source, source.commit(commit))
        return Overlay(
            base=self.base,
            target=target,
            tag="bench",
            delta=comparison.compare(target, self.base),
            expires_after="1d",
            installed=(),
        )

    def cli(self, *words: str | Path) -> Ran:
        """Run a verb.

        Raises:
            BuildError: It failed.
        """
        argv = [sys.executable, "-m", "build", *map(str, words), "--json"]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(argv, cwd=REPOSITORY, env=dict(self.environment), stdout=out, stderr=err)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                # It cleans up, and what it has tagged by then is removed by us.
                process.terminate()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            if process.returncode:
                said = err.read().decode(errors="replace").strip()
                raise BuildError(f"`build {words[0]}` failed: {said}", hint="run it by hand")
            return Ran(document=json.loads(out.read()), peak=_peak(usage))

    def dev(self, clone: Clone, commit: str, *words: str) -> Ran:
        """``dev`` as far as the tagged image."""
        return self.cli("dev", clone.path, commit, "--base", self.base_name, "--no-smoke", "--no-push", *words)


def _peak(usage: resource.struct_rusage) -> int:
    """Linux counts in KiB (getrusage(2))."""
    return usage.ru_maxrss * 1024


@contextlib.contextmanager
def ground(base_name: str, console: Console) -> Iterator[Ground]:
    """Everything that the benchmarks need, while the block runs.

    Raises:
        IncompatibleError: There is no base.
        SourceError: A release cannot be had.
    """
    repository = f"{FAMILY}-{os.getpid()}"
    loaded = settings.load({})
    context = Context(settings=loaded.model_copy(update={"repository": repository}), console=console)
    engine = embedded.up(loaded.folders, install=False, console=console)
    found = engine.find_image(base_name)
    store.require_any([found] if found else [])
    if found is None:  # for the type checker
        raise IncompatibleError("no base", hint="")
    leftovers.sweep(engine)
    base = store.load(engine, found, loaded.folders.cache)
    newer = releases.ensure(loaded.folders, context.index, _next(loaded.vllm_version), console=console)
    releases.ensure_cpu(loaded.folders, context.index, loaded.vllm_version, console=console)
    with scratch.folder() as name, _no_images_left(engine), contextlib.ExitStack() as opened:
        folder = Path(name)
        clone = Clone(folder / "vllm")
        with console.step("clone the releases"):
            subprocess.run(
                ["git", "clone", "--quiet", "--no-hardlinks", "--no-checkout", loaded.folders.releases, clone.path],
                check=True,
            )
        yield Ground(
            context=context,
            base=base,
            base_name=base_name,
            commit=base.facts.commit,
            newer=newer.id,
            clone=clone,
            folder=folder,
            environment=_environment(engine, folder, repository, context),
            opened=opened,
            console=console,
        )


def _next(release: str) -> str:
    major, minor, *_ = release.split(".")
    return f"{major}.{int(minor) + 1}.0"


def _environment(engine: Engine, folder: Path, repository: str, context: Context) -> dict[str, str]:
    return {
        **os.environ,
        **engine.environment,
        "TMPDIR": str(folder),
        "LLM_D_DEV_REPOSITORY": repository,
        "LLM_D_DEV_STATE": str(context.folders.state),
        "LLM_D_DEV_CACHE": str(context.folders.cache),
    }


@contextlib.contextmanager
def _no_images_left(engine: Engine) -> Iterator[None]:
    """Remove images of this run and of benchmarks that were killed, before and after."""
    untag(engine)
    try:
        yield
    finally:
        untag(engine, os.getpid())


def untag(engine: Engine, *ours: int) -> None:
    """Remove all names of benchmarks whose process is gone or is one of ours, and so the images."""
    for image in engine.client.api.images():
        for name in image["RepoTags"] or ():
            _, family, rest = name.partition(f"{FAMILY}-")
            pid = "".join(itertools.takewhile(str.isdigit, rest))
            if family and pid and (int(pid) in ours or not Path("/proc", pid).exists()):
                engine.untag(name)
