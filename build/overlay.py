"""Overlay images: another commit's source over a base's compiled binaries."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build import buildx, labels, layer, scratch, thin, version
from build.delta import Delta, between
from build.index import HandedIn
from build.seal import INSIDE
from build.thin import Thin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from build import command
    from build.base import Base, Contents
    from build.context import Context
    from build.engine import Engine, Image
    from build.git import Commit, Repository
    from build.listing import Listing

DOCKERFILE = buildx.DOCKERFILES / "overlay.Dockerfile"

ARCHIVE = "delta.tar"
"""Of what the engine gets: the file with everything that is added to the base."""


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
    """Make an overlay.

    Args:
        context: Settings and engine.
        overlay: What to make.
        tag: Name that the image gets.
        progress: Called with each line of output.

    Raises:
        SourceError: A blob cannot be had, or uv for the installation; or a file has a name that no image can hold.
        BuildError: The engine could not make it.
        DiskError: The engine ran out of space.
        EngineError: A build is needed, and it has no BuildKit.
    """
    with scratch.folder() as name:
        return prepare(context, overlay, Path(name))(tag, progress)


def prepare(context: Context, overlay: Overlay, folder: Path) -> Callable[[str, command.OnLine], Image]:
    """This machine's part of :func:`build`.

    Args:
        context: Settings and engine.
        overlay: What to make.
        folder: An empty folder, for what the engine is to get.

    Returns:
        The engine's part, given a tag and where lines of output go.
    """
    if overlay.installed or not context.engine.capabilities.takes_thin_images:
        _write_context(folder, overlay)
        return functools.partial(_build, context, overlay, folder)
    with (folder / ARCHIVE).open("wb") as stream:
        layer.write(stream, overlay)
    return functools.partial(_load, context.engine, overlay, folder)


def _load(engine: Engine, overlay: Overlay, folder: Path, tag: str, _progress: command.OnLine) -> Image:
    marks = overlay.labels()
    commit = overlay.target.commit.id
    image = Thin(
        base=overlay.base.image,
        layer=folder / ARCHIVE,
        labels=marks,
        created=marks[labels.OCI_CREATED],
        created_by=f"llm-d-dev: vLLM {commit}",
    )
    return thin.load(engine, image, tag=tag)


def _build(context: Context, overlay: Overlay, folder: Path, tag: str, progress: command.OnLine) -> Image:
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
    with (folder / ARCHIVE).open("wb") as stream:
        layer.write_addition(stream, overlay)
    deleted = b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for path in overlay.delta.deleted)
    (folder / "deleted").write_bytes(deleted)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in overlay.installed), encoding="utf-8")
