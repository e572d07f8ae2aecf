"""Overlay images: another commit's source over a base's compiled binaries."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from build.base.store import SOURCE
from build.config.folders import INSIDE
from build.engine import buildx, content, labels, load
from build.engine.load import Thin
from build.engine.names import Tag
from build.host import scratch
from build.overlay import addition
from build.pypi.index import HandedIn
from build.vllm import version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.base.store import Base
    from build.context import Context
    from build.engine.client import Engine, Image
    from build.host import process
    from build.overlay.delta import Delta
    from build.source.target import Target

DOCKERFILE = buildx.DOCKERFILES / "overlay.Dockerfile"

FORMAT = 4
"""How overlays are made: another number, and those that were made before are made anew.

Raise it with every change to what an overlay of the same commit on the same base holds, wherever that is decided. A
test pins the content and fails where it changed and the number did not.
"""

ARCHIVE = "delta.tar"
"""Of what the engine gets: the file with everything that is added to the base."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """One overlay to be made.

    Attributes:
        base: What it stands on.
        target: What it is to hold.
        tag: Tag of its image in the local repository.
        delta: The difference.
        expires_after: Its label ``quay.expires-after``.
        installed: Requirement lines to install into it.
    """

    base: Base
    target: Target
    tag: str
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
        parts = (
            self.base.image.id,
            self.target.commit.id,
            self.delta.fingerprint,
            self.expires_after,
            *self.installed,
            *(self.delta.constraints if self.installed else ()),
            f"format {FORMAT}",
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def labels(self, repository: str) -> dict[str, str]:
        """Labels that replace or add to the base's.

        Args:
            repository: Local repository that it is made for.
        """
        commit = self.target.commit.id
        tag = Tag.parse(self.tag)
        return {
            **({labels.WORK: tag.stem.work} if tag and tag.stem.work else {}),
            labels.KIND: "overlay",
            labels.COMMIT: commit,
            labels.VERSION: self.version,
            labels.BASE: self.base.image.id,
            labels.FINGERPRINT: self.fingerprint,
            labels.REPOSITORY: repository,
            labels.QUAY_EXPIRES: self.expires_after,
            labels.OCI_REVISION: commit,
            labels.OCI_CREATED: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            labels.OCI_BASE_NAME: self.base.name,
            labels.OCI_BASE_DIGEST: self.base.image.id,
            labels.OCI_TITLE: "vLLM overlay image",
            labels.NATIVE: str(len(self.delta.native)),
        }


def find(engine: Engine, overlay: Overlay) -> Image | None:
    """An image on the engine that already is this overlay, not one that was made from it and inherited its labels."""
    found = engine.images(kind="overlay", fingerprint=overlay.fingerprint)
    below = overlay.base.image.diff_ids
    return next((image for image in found if content.is_genuine(image) and image.diff_ids[: len(below)] == below), None)


def _gone(overlay: Overlay) -> list[PurePosixPath]:
    """Files of the base that the commit deletes, by their path in the image."""
    return [*(SOURCE / path for path in overlay.delta.deleted), *addition.removed_programs(overlay)]


def build(context: Context, overlay: Overlay, *, tag: str, progress: process.OnLine) -> Image:
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
        folder = Path(name)
        write(context, overlay, folder)
        return make(context, overlay, folder, tag=tag, progress=progress)


def write(context: Context, overlay: Overlay, folder: Path) -> None:
    """Write what the engine gets: this machine's part of :func:`build`.

    Args:
        context: Settings and engine.
        overlay: What to make.
        folder: An empty folder.
    """
    if _is_built(context, overlay):
        _write_context(folder, overlay)
        return
    with (folder / ARCHIVE).open("wb") as stream:
        addition.write(stream, overlay)


def make(context: Context, overlay: Overlay, folder: Path, *, tag: str, progress: process.OnLine) -> Image:
    """Make the image of what :func:`write` wrote: the engine's part of :func:`build`."""
    if _is_built(context, overlay):
        return _build(context, overlay, folder, tag, progress)
    return _load(context, overlay, folder, tag)


def _is_built(context: Context, overlay: Overlay) -> bool:
    """Whether the engine runs a Dockerfile, instead of loading a layer."""
    return bool(overlay.installed) or not context.engine.capabilities.takes_thin_images


def _load(context: Context, overlay: Overlay, folder: Path, tag: str) -> Image:
    marks = overlay.labels(context.settings.repository)
    commit = overlay.target.commit.id
    image = Thin(
        base=overlay.base.image,
        layer=folder / ARCHIVE,
        labels=marks,
        created=marks[labels.OCI_CREATED],
        created_by=f"llm-d-dev: vLLM {commit}",
    )
    return load.load(context.engine, image, tag=tag)


def _build(context: Context, overlay: Overlay, folder: Path, tag: str, progress: process.OnLine) -> Image:
    context.require_buildkit()
    engine = context.engine
    with engine.temporary_tag(overlay.base.image.id) as base_name, _installing(context, overlay) as handed:
        request = buildx.ImageBuild(
            dockerfile=DOCKERFILE,
            context=folder,
            contexts={"inside": INSIDE, **handed.contexts},
            secrets=handed.secrets,
            arguments={
                "BASE": base_name,
                "BASE_USER": overlay.base.user,
                "PACKAGES": "installed" if overlay.installed else "base",
                "START": "cleared" if _gone(overlay) else "packaged",
            },
            labels=overlay.labels(context.settings.repository),
        )
        made = buildx.build(engine, request, progress=progress)
        return replace(engine.image(content.mark(engine, made, tags=(tag,), progress=progress)), called=tag)


@contextlib.contextmanager
def _installing(context: Context, overlay: Overlay) -> Iterator[HandedIn]:
    """The host's package settings and uv, if something is to be installed."""
    if not overlay.installed:
        yield HandedIn(secrets={}, contexts={})
        return
    torch = context.index.torch_for(overlay.base.facts.flavor)
    # Here, because what it needs to talk to a package index takes a fifth of a second to import.
    from build.pypi.uv import ensure  # noqa: PLC0415

    uv = ensure(context.folders, context.index, machine=overlay.base.facts.machine, console=context.console)
    with context.index.handed_in(torch=torch) as handed:
        yield HandedIn(secrets=handed.secrets, contexts={**handed.contexts, "uv": uv})


def _write_context(folder: Path, overlay: Overlay) -> None:
    with (folder / ARCHIVE).open("wb") as stream:
        addition.write_addition(stream, overlay)
    deleted = b"".join(os.fsencode(path) + b"\0" for path in _gone(overlay))
    (folder / "deleted").write_bytes(deleted)
    for name, lines in (("requirements.txt", overlay.installed), ("constraints.txt", overlay.delta.constraints)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
