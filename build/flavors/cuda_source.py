"""The vLLM commits for cuda bases, in the mirror."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.base.store import NOT_IN_IMAGES
from build.flavors import wheels
from build.source.listing import SUBMODULE
from build.source.repository import FULL_ID, Repository
from build.source.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from build.source.mirror import Mirror, Remote
    from build.source.repository import Commit


@dataclass(frozen=True, kw_only=True)
class CudaSource:
    """The commits of one remote.

    Attributes:
        mirror: Mirror that keeps the commits.
        remote: Remote that they come from.
    """

    mirror: Mirror
    remote: Remote

    def oid(self, wanted: str | None) -> str:
        """Return the full id of a commit, or that of main's newest for None."""
        if wanted is None:
            return self.mirror.tip(self.remote, "main")
        return wanted if FULL_ID.fullmatch(wanted) else self.commit(wanted).id

    def commit(self, oid: str) -> Commit:
        """Return a commit, fetched if necessary."""
        return self.mirror.commit(self.remote, oid)

    @contextlib.contextmanager
    def opened(self, commit: Commit) -> Iterator[Repository]:
        """Open the mirror, with the commit's files that a base holds."""
        with contextlib.closing(Repository(self.mirror.path)) as repository:
            files = repository.listing(commit).files.items()
            held = (
                one.oid for path, one in files if path.partition("/")[0] not in NOT_IN_IMAGES and one.mode != SUBMODULE
            )
            self.mirror.fetch_blobs(self.remote, held)
            yield repository

    def requires(self, oid: str, flavor: str) -> list[str]:
        """Return the requirement lines of a commit."""
        with self._targets(oid) as (target,):
            return target.requires(flavor)

    def ancestors(self, oid: str) -> Sequence[str]:
        """Return the first-parent ancestors that may have a wheel, the newest first."""
        return self.mirror.ancestors(self.remote, oid, count=wheels.SEARCHED)

    def native(self, oid: str, ancestor: str) -> Sequence[str]:
        """Return the native sources in which a commit differs from another."""
        with self._targets(oid, ancestor) as targets:
            return wheels.native_differences(*targets)

    @contextlib.contextmanager
    def _targets(self, *oids: str) -> Iterator[list[Target]]:
        commits = [self.commit(oid) for oid in oids]
        with contextlib.closing(Repository(self.mirror.path)) as repository:
            yield [
                Target.of(repository, one, fetch=lambda blobs: self.mirror.fetch_blobs(self.remote, blobs))
                for one in commits
            ]
