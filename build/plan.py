"""What an overlay would change, and whether it can be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build import base as bases
from build.git import Repository
from build.overlay import Target

if TYPE_CHECKING:
    from pathlib import Path

    from build.base import Base
    from build.context import Context
    from build.delta import Delta


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A delta and its base.

    Attributes:
        base: The base.
        delta: What would change.
        size: Bytes of the files to write.
    """

    base: Base
    delta: Delta
    size: int

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"base": self.base.name, **self.delta.document(size=self.size)}

    def lines(self) -> list[str]:
        """For a person."""
        delta = self.delta
        named = (("native", delta.native), ("dependencies", delta.dependencies), ("metadata", delta.metadata))
        return [
            f"verdict: {delta.verdict}, on base {self.base.name}",
            f"{len(delta.written)} files to write ({self.size / 1e3:.1f} kB), {len(delta.deleted)} to delete",
            *(f"{name}: {', '.join(paths)}" for name, paths in named if paths),
        ]


def plan(context: Context, *, path: Path, ref: str, wanted: str | None) -> Plan:
    """Compare a local ref with a base; nothing is built.

    Args:
        context: Settings, console, engine.
        path: A vLLM repository.
        ref: A commit-ish of it.
        wanted: Name of a base; None for the one that differs least.

    Raises:
        SourceError: Path, ref or base cannot be used.
        IncompatibleError: There is no base at all.
    """
    source = Repository(path)
    try:
        target = Target.of(source, source.commit(ref))
        engine = context.engine
        images = [engine.image(wanted)] if wanted else bases.candidates(engine, context.settings.repository)
        bases.require_any(images)
        loaded = (bases.load(engine, image, context.folders.cache) for image in images)
        base, delta = min(
            ((base, target.delta(base)) for base in loaded),
            key=lambda pair: (len(pair[1].native), len(pair[1].dependencies)),
        )
        size = 0
        for entry in delta.written.values():
            with source.blob(entry.oid) as (length, _):
                size += length
    finally:
        source.close()
    return Plan(base=base, delta=delta, size=size)
