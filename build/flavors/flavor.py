"""The interface between a nightly and a flavor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from build.engine.client import Engine
    from build.flavors.recipe import Recipe
    from build.source.repository import Commit, Repository


class Flavor(Protocol):
    """A kind of base."""

    @property
    def name(self) -> str:
        """``cpu`` or ``cuda``."""
        ...

    @property
    def needed_bytes(self) -> int:
        """Free disk that a first build needs."""
        ...

    @property
    def rebuild_after(self) -> dt.timedelta | None:
        """Age at which an unchanged base is rebuilt; None for never."""
        ...

    def commit(self) -> Commit:
        """Return the commit that the base is built from.

        Raises:
            SourceError: It is not available.
        """
        ...

    def fingerprint(self, commit: Commit) -> str:
        """Return a digest of everything that decides the contents of the base, before any download."""
        ...

    def build(self, engine: Engine, commit: Commit) -> str:
        """Build the base, unsealed.

        Returns:
            The image ID.

        Raises:
            SourceError: A part is not available.
            BuildError: The build failed.
        """
        ...

    def marks(self) -> Mapping[str, str]:
        """Return labels with the origin of a built base."""
        ...

    def recipe(self) -> Recipe:
        """Return the build to come, as far as it is known without building. Needs no engine.

        Raises:
            UsageError: The request is not valid.
            SourceError: A part is not available.
        """
        ...

    def source(self, commit: Commit) -> AbstractContextManager[Repository]:
        """Open a repository with the commit and every file that sealing reads.

        Raises:
            SourceError: It is not available.
        """
        ...
