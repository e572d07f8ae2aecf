"""What a nightly asks of a flavor: commit, recognition, build, source."""

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
        """Free disk that a first build takes."""
        ...

    @property
    def rebuild_after(self) -> dt.timedelta | None:
        """Age at which a base is built again although nothing changed; None for never."""
        ...

    def commit(self) -> Commit:
        """The commit that the base is built from.

        Raises:
            SourceError: It cannot be had.
        """
        ...

    def fingerprint(self, commit: Commit) -> str:
        """Digest of everything that decides what the base holds, before any of it is fetched."""
        ...

    def build(self, engine: Engine, commit: Commit) -> str:
        """Build the base, unsealed.

        Returns:
            The image ID.

        Raises:
            SourceError: A part cannot be had.
            BuildError: The build failed.
        """
        ...

    def marks(self) -> Mapping[str, str]:
        """Labels that say what it was made of; known once it is built."""
        ...

    def recipe(self) -> Recipe:
        """How it will be built, as far as it can be told without building; needs no engine.

        Raises:
            UsageError: It cannot be built as asked for.
            SourceError: A part cannot be had.
        """
        ...

    def source(self, commit: Commit) -> AbstractContextManager[Repository]:
        """A repository with the commit and every file of it that sealing reads, while the block runs.

        Raises:
            SourceError: It cannot be had.
        """
        ...
