"""The tools of every verb: settings, console, and an engine on demand."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from build.errors import DiskError, EngineError
from build.host import processor, scratch
from build.pypi.index import PackageIndex

if TYPE_CHECKING:
    from build.config.folders import Folders
    from build.config.settings import Settings
    from build.console import Console
    from build.engine.client import Engine
    from build.registry.client import Registry
    from build.registry.repository_name import Access, RepositoryName

# Clients of an engine or a registry are imported where they are used: not every verb needs them.


@dataclass(frozen=True, kw_only=True)
class Context:
    """One run of one verb.

    Attributes:
        settings: Validated settings.
        console: Console for steps and results.
    """

    settings: Settings
    console: Console

    @property
    def folders(self) -> Folders:
        """The folders of state and cache."""
        return self.settings.folders

    @functools.cached_property
    def engine(self) -> Engine:
        """The running engine, or the embedded one started again. Leftovers of killed runs are removed.

        Raises:
            EngineError: No engine answers. Only `quickstart` and `engine up` install one.
        """
        from build.engine import embedded, leftovers, uploads  # noqa: PLC0415
        from build.engine.client import find  # noqa: PLC0415

        if self.folders.engine.exists():
            engine: Engine | None = embedded.up(self.folders, install=False, console=self.console)
        else:
            engine = find(embedded_socket=str(embedded.socket(self.folders)))
        if engine is None:
            raise EngineError(
                "no Docker Engine answers", hint="`python -m build engine up` starts one; or set DOCKER_HOST"
            )
        leftovers.sweep(engine)
        uploads.sweep(engine, self.folders.locks)
        scratch.sweep()
        return engine

    @property
    def architecture(self) -> str:
        """The engine's processor in the form of ``uname -m``; this machine's if the engine is not known yet."""
        if self.knows_engine:
            return self.engine.architecture
        return processor.here()

    @property
    def knows_engine(self) -> bool:
        """Whether the engine was needed before."""
        return "engine" in vars(self)

    def require_buildkit(self) -> None:
        """Check that the engine can build. Called before a build only, because most verbs build nothing.

        Raises:
            EngineError: The engine has no BuildKit, or its client here has no buildx.
        """
        from build.engine import buildx  # noqa: PLC0415

        buildx.require_buildkit(self.engine)

    @functools.cached_property
    def index(self) -> PackageIndex:
        """The package index in pip's configuration here."""
        return PackageIndex.of_this_machine(os.environ)

    @functools.cached_property
    def registry(self) -> RepositoryName:
        """The repository to push to: the setting, else the embedded registry, started if needed."""
        from build.registry import local  # noqa: PLC0415
        from build.registry.repository_name import EMBEDDED_REPOSITORY, RepositoryName  # noqa: PLC0415

        if self.settings.registry is None:
            access = self.embedded_registry()
            return RepositoryName(host=access.address, path=EMBEDDED_REPOSITORY, access=access)
        name = RepositoryName.parse(self.settings.registry)
        if name.host == local.last_address(self.folders):
            access = self.embedded_registry()
            return replace(name, access=access) if access.address == name.host else name
        return name

    def open_registry(self) -> Registry:
        """Return a client of that registry, with the engine's settings."""
        from build.registry.client import Registry  # noqa: PLC0415

        return Registry(self.registry, insecure=self.engine.is_insecure(self.registry.host))

    def embedded_registry(self) -> Access:
        """Return access to the embedded registry, started if needed."""
        from build.registry import local  # noqa: PLC0415

        return local.up(self)

    def require_disk(self, needed: int, *, what: str) -> None:
        """Check free disk before long work.

        Args:
            needed: Bytes needed.
            what: What needs them, in words.

        Raises:
            DiskError: The engine has less free disk.
        """
        free = self.engine.free_disk()
        if free is not None and free < needed:
            raise DiskError(
                f"{what} needs {needed / 1e9:.0f} GB on the engine's disk, {free / 1e9:.1f} GB are free",
                hint="`python -m build prune` shows what can go; `docker system df` what takes space in "
                f"{self.engine.capabilities.root_dir}",
            )
