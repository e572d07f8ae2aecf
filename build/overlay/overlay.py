"""Overlay images: another commit's source over a base's compiled binaries."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

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
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.host import process
    from build.overlay.delta import Delta
    from build.source.target import Target

DOCKERFILE = buildx.DOCKERFILES / "overlay.Dockerfile"

FORMAT = 5
"""The version of overlay contents. With another number, existing overlays are built anew.

Raise it with every change to the content of an overlay of the same commit on the same base. A test pins the content
and fails if it changed but the number did not.
"""

ARCHIVE = "delta.tar"
"""Name of the file for the engine with everything that is added to the base."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """An overlay to build.

    Attributes:
        base: The base.
        target: Content of the overlay.
        tag: Tag of its image in the local repository.
        delta: The difference.
        expires_after: Value of its label ``quay.expires-after``.
        installed: Requirement lines to install.
    """

    base: Base
    target: Target
    tag: str
    delta: Delta
    expires_after: str
    installed: tuple[str, ...]

    @property
    def version(self) -> str:
        """The version that ``vllm.__version__`` and ``/version`` will report."""
        return version.of_overlay(self.base.facts.version, self.target.commit.id)

    @property
    def fingerprint(self) -> str:
        """The digest of all inputs. An image with the same digest need not be built again."""
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
        """Return labels that replace or add to the base's.

        Args:
            repository: Local repository of the overlay.
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
    """Return the engine's image of this overlay, but not an image derived from it with inherited labels."""
    found = engine.images(kind="overlay", fingerprint=overlay.fingerprint)
    below = overlay.base.image.diff_ids
    return next((image for image in found if content.is_genuine(image) and image.diff_ids[: len(below)] == below), None)


def _gone(overlay: Overlay) -> list[PurePosixPath]:
    """Return the base's files that the commit deletes, as paths in the image."""
    source = overlay.base.facts.layout.source
    return [*(source / path for path in overlay.delta.deleted), *addition.removed_programs(overlay)]


def build(context: Context, overlay: Overlay, *, tag: str, progress: process.OnLine) -> Image:
    """Build an overlay.

    Args:
        context: Settings and engine.
        overlay: Overlay to build.
        tag: Name of the image.
        progress: Called with each line of output.

    Raises:
        SourceError: A blob, or uv for an installation, cannot be fetched; or a layer cannot hold a file's name.
        BuildError: The engine could not build it.
        DiskError: The engine ran out of space.
        EngineError: A build is needed, and the engine has no BuildKit.
    """
    with scratch.folder() as name:
        folder = Path(name)
        write(context, overlay, folder)
        return make(context, overlay, folder, tag=tag, progress=progress)


def write(context: Context, overlay: Overlay, folder: Path) -> None:
    """Write the engine's input: this machine's part of :func:`build`.

    Args:
        context: Settings and engine.
        overlay: Overlay to build.
        folder: Empty folder for the engine's input.
    """
    if _is_built(context, overlay):
        _write_context(folder, overlay)
        return
    with (folder / ARCHIVE).open("wb") as stream:
        addition.write(stream, overlay)


def make(context: Context, overlay: Overlay, folder: Path, *, tag: str, progress: process.OnLine) -> Image:
    """Make the image from the input that :func:`write` wrote: the engine's part of :func:`build`."""
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
                "PYTHON": str(overlay.base.facts.layout.python),
                "SOURCE": str(overlay.base.facts.layout.source),
                "PACKAGES": "installed" if overlay.installed else "base",
                "START": "cleared" if _gone(overlay) else "packaged",
            },
            labels=overlay.labels(context.settings.repository),
        )
        made = buildx.build(engine, request, progress=progress)
        return replace(engine.image(content.mark(engine, made, tags=(tag,), progress=progress)), called=tag)


@contextlib.contextmanager
def _installing(context: Context, overlay: Overlay) -> Iterator[HandedIn]:
    """Yield the host's package settings and uv, if something is to be installed."""
    if not overlay.installed:
        yield HandedIn(secrets={}, contexts={})
        return
    torch = context.index.torch_for(overlay.base.facts.flavor)
    # Imported here: the client of a package index takes a fifth of a second to load.
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
