"""The image that the embedded registry runs from: pulled where a hub answers, else built from Debian's package."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from build.engine import buildx, labels, rootfs
from build.host import scratch

if TYPE_CHECKING:
    from build.config.folders import Folders
    from build.config.settings import Settings
    from build.console import Console
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.pypi.index import PackageIndex

PULLED = "registry:3"
"""Distribution's own image. Debian's package is distribution 2.8: both take the same words and configuration."""
DOCKERFILE = buildx.DOCKERFILES / "registry.Dockerfile"
REPOSITORY = "llm-d-dev-registry"


class Surroundings(Protocol):
    """What the embedded registry needs of a run: a :class:`build.context.Context` is one."""

    @property
    def settings(self) -> Settings:
        """Validated settings."""
        ...

    @property
    def console(self) -> Console:
        """Where steps are shown."""
        ...

    @property
    def folders(self) -> Folders:
        """State and cache."""
        ...

    @property
    def engine(self) -> Engine:
        """Where the registry runs."""
        ...

    @property
    def index(self) -> PackageIndex:
        """The package index as pip here uses it."""
        ...


def _name(context: Surroundings) -> str:
    parts = "\n".join((PULLED, DOCKERFILE.read_text(encoding="utf-8"), context.settings.rootfs_image))
    return f"{REPOSITORY}:{hashlib.sha256(parts.encode()).hexdigest()[:12]}"


def ensure(context: Surroundings) -> Image:
    """The image, on the engine under a name of its own.

    Raises:
        BuildError: It could be neither pulled nor built.
        EngineError: It cannot be pulled, and what it takes to build it is missing.
    """
    engine, name = context.engine, _name(context)
    if found := engine.find_image(name):
        return found
    with context.console.step("registry image") as progress:
        pulled = rootfs.obtained(engine, PULLED, progress)
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
        # Packages of Python are not asked for.
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
