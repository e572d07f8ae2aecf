"""Overlay images: another commit's source over a base's compiled binaries."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from build import buildx, gitdir, labels, requirements, version
from build.base import PYTHON, SOURCE
from build.delta import Delta, between
from build.index import HandedIn
from build.listing import EXECUTABLE, REGULAR
from build.seal import INSIDE
from build.tarball import Tarball

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

    from build import command
    from build.base import Base, Contents
    from build.context import Context
    from build.engine import Engine, Image
    from build.git import Commit, Repository
    from build.listing import Listing

DOCKERFILE = buildx.DOCKERFILES / "overlay.Dockerfile"


def _at_hand(_oids: Iterable[str]) -> None:
    """A local repository has its blobs."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What an overlay is to hold.

    Attributes:
        source: Repository of the commit.
        commit: The commit.
        tree: All its files and trees.
        tag: Tag of its image in the local repository.
        fetch: Makes sure that the source has some blobs.
    """

    source: Repository
    commit: Commit
    tree: Listing
    tag: str
    fetch: Callable[[Iterable[str]], None]

    @classmethod
    def of(
        cls, source: Repository, commit: Commit, *, tag: str, fetch: Callable[[Iterable[str]], None] = _at_hand
    ) -> Target:
        """Read the commit's tree."""
        return cls(source=source, commit=commit, tree=source.listing(commit), tag=tag, fetch=fetch)

    def text(self, path: str) -> str:
        """Content of one text file; empty where there is none."""
        if path not in self.tree.files:
            return ""
        self.fetch([self.tree.files[path].oid])
        with self.source.blob(self.tree.files[path].oid) as (_, content):
            return content.read().decode(errors="replace")

    def delta(self, base: Contents, *, carried: frozenset[str] = frozenset()) -> Delta:
        """What turns a base into this target; ``carried`` as :func:`build.delta.between` has it."""
        decisive = (path for path in self.tree.files if path == "pyproject.toml" or path.startswith("requirements/"))
        self.fetch(self.tree.files[path].oid for path in decisive)
        return between(base, self.tree, self.text, carried=carried)


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """One overlay to be made.

    Attributes:
        base: What it stands on.
        target: What it is to hold.
        delta: The difference.
        expires_after: Its label ``quay.expires-after``.
        installed: Requirement lines to install into it.
    """

    base: Base
    target: Target
    delta: Delta
    expires_after: str
    installed: tuple[str, ...]

    @property
    def version(self) -> str:
        """What ``vllm.__version__`` and ``/version`` will say."""
        return version.of_overlay(self.base.facts.version, self.target.commit.id)

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the image's content: equal means that it need not be built again."""
        dockerfile = DOCKERFILE.read_text(encoding="utf-8")
        parts = (
            self.base.image.id,
            self.target.commit.id,
            self.delta.fingerprint,
            self.expires_after,
            *self.installed,
            dockerfile,
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def labels(self) -> dict[str, str]:
        """Labels that replace or add to the base's."""
        commit = self.target.commit.id
        return {
            labels.KIND: "overlay",
            labels.COMMIT: commit,
            labels.VERSION: self.version,
            labels.BASE: self.base.image.id,
            labels.FINGERPRINT: self.fingerprint,
            labels.QUAY_EXPIRES: self.expires_after,
            labels.OCI_REVISION: commit,
            labels.OCI_CREATED: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            labels.OCI_BASE_NAME: self.base.name,
            labels.OCI_BASE_DIGEST: self.base.image.id,
            labels.OCI_TITLE: "vLLM overlay image",
            labels.NATIVE: str(len(self.delta.native)),
        }


def find(engine: Engine, overlay: Overlay) -> Image | None:
    """An image on the engine that already is this overlay."""
    found = engine.images(kind="overlay", fingerprint=overlay.fingerprint)
    return found[0] if found else None


def build(context: Context, overlay: Overlay, *, tag: str, progress: command.OnLine) -> Image:
    """Build an overlay.

    Args:
        context: Settings and engine.
        overlay: What to build.
        tag: Name that the image gets.
        progress: Called with each line of output.

    Raises:
        SourceError: A blob cannot be had, or uv for the installation.
        BuildError: The engine could not build it.
    """
    with tempfile.TemporaryDirectory(prefix="llm-d-dev-") as name:
        folder = Path(name)
        _write_context(folder, overlay)
        return lay(context, overlay, folder, tag=tag, progress=progress)


def lay(context: Context, overlay: Overlay, folder: Path, *, tag: str, progress: command.OnLine) -> Image:
    """The engine's part of :func:`build`.

    Args:
        context: Settings and engine.
        overlay: What to build.
        folder: What :func:`build` wrote for the engine.
        tag: Name that the image gets.
        progress: Called with each line of output.

    Raises:
        SourceError: uv for the installation cannot be had.
        BuildError: The engine could not build it.
        DiskError: The engine ran out of space.
        EngineError: It has no BuildKit.
    """
    context.require_buildkit()
    engine = context.engine
    with engine.temporary_tag(overlay.base.image.id) as base_name, _installing(context, overlay) as handed:
        request = buildx.Request(
            dockerfile=DOCKERFILE,
            context=folder,
            contexts={"inside": INSIDE, **handed.contexts},
            secrets=handed.secrets,
            tags=(tag,),
            arguments={
                "BASE": base_name,
                "BASE_USER": overlay.base.user,
                "PACKAGES": "installed" if overlay.installed else "base",
                "START": "cleared" if overlay.delta.deleted else "packaged",
            },
            labels={**overlay.labels(), labels.REPOSITORY: context.settings.repository},
        )
        return engine.image(buildx.build(engine, request, progress=progress))


@contextlib.contextmanager
def _installing(context: Context, overlay: Overlay) -> Iterator[HandedIn]:
    """The host's package settings and uv, if something is to be installed."""
    if not overlay.installed:
        yield HandedIn(secrets={}, contexts={})
        return
    torch = context.index.torch_for(overlay.base.facts.flavor)
    # Here, because what it needs to talk to a package index takes a fifth of a second to import.
    from build import uvtool  # noqa: PLC0415

    uv = uvtool.ensure(context.folders, context.index, console=context.console)
    with context.index.handed_in(torch=torch) as handed:
        yield HandedIn(secrets=handed.secrets, contexts={**handed.contexts, "uv": uv})


def _write_context(folder: Path, overlay: Overlay) -> None:
    with (folder / "delta.tar").open("wb") as stream:
        write_delta(stream, overlay)
    deleted = b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for path in overlay.delta.deleted)
    (folder / "deleted").write_bytes(deleted)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in overlay.installed), encoding="utf-8")


def write_delta(stream: IO[bytes], overlay: Overlay) -> None:
    """Write the archive that is laid over the base: changed files, version file, git directory.

    Contents are streamed from the repository, one file at a time.
    """
    commit = overlay.target.commit
    root = SOURCE.relative_to("/")
    existing = _existing_folders(overlay.base, gone=frozenset(overlay.delta.deleted))
    with Tarball(stream, owner=overlay.base.facts.owner, timestamp=commit.timestamp, existing=existing) as tarball:
        for path, entry in sorted(overlay.delta.written.items()):
            with overlay.target.source.blob(entry.oid) as (size, content):
                tarball.add(root / path, size, content, mode=entry.mode)
        tarball.add_bytes(root / "vllm/_version.py", version.module(overlay.version, commit.id), mode=REGULAR)
        for place, text, mode in _entry_points(overlay):
            tarball.add_bytes(place, text, mode=mode)
        with tempfile.TemporaryDirectory(prefix="llm-d-dev-") as folder:
            target = Path(folder) / ".git"
            gitdir.write_move(
                target,
                source=overlay.target.source,
                commit=commit,
                tree=overlay.target.tree,
                present=overlay.delta.present,
                base_commit=overlay.base.facts.commit,
                known=_known_objects(overlay.base),
            )
            tarball.add_tree(root / ".git", target, mode=REGULAR)


_SCRIPT = """\
#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""


def _entry_points(overlay: Overlay) -> Iterator[tuple[PurePosixPath, bytes, str]]:
    """Path, content and mode of what an installation would make of changed entry points."""
    facts = overlay.base.facts
    pyproject = overlay.target.text("pyproject.toml")
    wanted = requirements.entry_points(pyproject)
    if wanted == facts.entry_points or facts.metadata is None:
        return
    yield PurePosixPath(facts.metadata).relative_to("/") / "entry_points.txt", wanted.encode(), REGULAR
    for name, target in sorted(requirements.console_scripts(pyproject).items()):
        module, _, function = target.partition(":")
        script = _SCRIPT.format(python=PYTHON, module=module, function=function)
        yield PYTHON.relative_to("/").parent / name, script.encode(), EXECUTABLE


def _existing_folders(base: Base, *, gone: frozenset[str]) -> frozenset[str]:
    """Folders that an image of the base has when these files are deleted, and the folders with them that are empty."""
    source = str(SOURCE).lstrip("/")
    paths = [f"{source}/{path}" for path in (*(base.held.files.keys() - gone), *base.facts.made_by_build)]
    # What every git directory has (gitrepository-layout(5)).
    paths += [f"{source}/.git/{name}" for name in ("HEAD", "objects/pack/x", "refs/heads/x")]
    paths.append(str(PYTHON).lstrip("/"))
    if base.facts.metadata:
        paths.append(f"{base.facts.metadata}/entry_points.txt".lstrip("/"))
    folders = {"", ".", "/"}
    for path in paths:
        folder = path.rpartition("/")[0]
        # Text, not paths: there are thousands, and nearly all are in a folder that is known already.
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return frozenset(folders)


def _known_objects(base: Base) -> frozenset[str]:
    """Trees, and blobs of the files that the base holds: what its git directory has."""
    blobs = (base.tree.files[path].oid for path in base.held.files)
    return frozenset((*base.tree.trees.values(), *blobs))
