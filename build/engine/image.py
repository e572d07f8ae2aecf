"""An image, as an engine describes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from build.engine.temporary import TEMPORARY_REPOSITORY
from build.host import clock

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image as the engine describes it.

    Attributes:
        id: Image ID, ``sha256:…``.
        tags: Local names, sorted, without temporary ones.
        digests: ``repository@sha256:…`` for each registry repository that the image was pushed to or pulled from.
        labels: Labels of the image.
        diff_ids: Digests of its uncompressed layers, lowest first.
        size: Bytes on disk, shared layers included.
        created: RFC 3339 time stamp.
        config: The rest of its configuration (``User``, ``Env``, ``Entrypoint`` …).
        called: The name that the image was looked up by.
    """

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    labels: Mapping[str, str]
    diff_ids: tuple[str, ...]
    size: int
    created: str
    config: Mapping[str, Any]
    called: str | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, attrs: Mapping[str, Any], *, called: str | None = None) -> Image:
        """Parse the engine's ``GET /images/{name}/json``; ``called`` is the name in the request."""
        config = attrs.get("Config") or {}
        names, digests = attrs.get("RepoTags") or (), attrs.get("RepoDigests") or ()
        known = (*names, *digests)
        return cls(
            id=attrs["Id"],
            tags=tuple(sorted(name for name in names if not name.startswith(TEMPORARY_REPOSITORY))),
            digests=tuple(sorted(digests)),
            labels=config.get("Labels") or {},
            diff_ids=tuple(attrs.get("RootFS", {}).get("Layers") or ()),
            size=attrs["Size"],
            # Optional (OCI image-spec v1.1, config.md).
            created=attrs.get("Created") or "",
            config=config,
            called=next((name for name in known if name in (called, f"{called}:latest")), None),
        )

    def tags_in(self, repository: str) -> list[str]:
        """Return the image's names in a repository."""
        return [name for name in self.tags if name.startswith(f"{repository}:")]

    @property
    def name(self) -> str:
        """The name to show: the name looked up, else one without a registry's host, else any name, else the short ID.

        The shortest of several names wins, because the moving name has no commit in it.
        """
        if self.called:
            return self.called
        local = [name for name in self.tags if "/" not in name]
        return min(local or self.tags, key=len, default=self.short_id)

    @property
    def short_id(self) -> str:
        """The first twelve digits of the ID, as Docker prints them."""
        return self.id.removeprefix("sha256:")[:12]


def age_order(image: Image) -> tuple[bool, datetime]:
    """Return the sort key of an image: newest last, images dated into the future first."""
    when = _moment(image.created)
    return when <= clock.tomorrow(), when


def _moment(stamp: str) -> datetime:
    """Return when an image was made; an image without a timestamp is the oldest."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
