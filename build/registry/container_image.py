"""The image of the embedded registry: pulled, or else built from Debian's package."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from build.engine import buildx, labels, pulling, rootfs
from build.host import scratch

if TYPE_CHECKING:
    from build.config.folders import Folders
    from build.config.settings import Settings
    from build.console import Console
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.pypi.index import PackageIndex

PULLED = "registry:3"
"""Distribution's own image. Debian's package is distribution 2.8, with the same command line and configuration."""
DOCKERFILE = buildx.DOCKERFILES / "registry.Dockerfile"
REPOSITORY = "llm-d-dev-registry"


class Surroundings(Protocol):
    """The parts of a :class:`build.context.Context` that the embedded registry uses."""

    @property
    def settings(self) -> Settings:
        """The settings."""
        ...

    @property
    def console(self) -> Console:
        """The console for steps."""
        ...

    @property
    def folders(self) -> Folders:
        """The folders for state and cache."""
        ...

    @property
    def engine(self) -> Engine:
        """The engine that runs the registry."""
        ...

    @property
    def index(self) -> PackageIndex:
        """The package index of pip on this machine."""
        ...


def _name(context: Surroundings) -> str:
    parts = "\n".join((PULLED, DOCKERFILE.read_text(encoding="utf-8"), context.settings.rootfs_image))
    return f"{REPOSITORY}:{hashlib.sha256(parts.encode()).hexdigest()[:12]}"


def ensure(context: Surroundings) -> Image:
    """Return the image, pulled or built if necessary.

    Raises:
        BuildError: Pull and build failed.
        EngineError: The pull failed, and tools for the build are missing.
    """
    engine, name = context.engine, _name(context)
    if found := engine.find_image(name):
        return found
    with context.console.step("registry image") as progress:
        pulled = pulling.pulled(engine, PULLED, progress)
    if isinstance(pulled, str):
        context.console.note(f"{pulled}: building one from Debian's package")
        engine.tag(_build(context), name)
    else:
        engine.tag(pulled.id, name)
    return engine.image(name)


def _build(context: Surroundings) -> str:
    engine, settings = context.engine, context.settings
    buildx.require_buildkit(engine)
    system = rootfs.ensure(engine, image=settings.rootfs_image, install=settings.install, console=context.console)
    with (
        context.console.step("registry image") as progress,
        scratch.folder() as empty,
        # The image has no Python packages.
        replace(context.index, find_links=()).handed_in() as handed,
        engine.temporary_tag(system.id) as rootfs_name,
    ):
        request = buildx.ImageBuild(
            dockerfile=DOCKERFILE,
            context=Path(empty),
            secrets=handed.secrets,
            arguments={"ROOTFS": rootfs_name},
            labels={labels.KIND: "registry"},
        )
        return buildx.build(engine, request, progress=progress)
