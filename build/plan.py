"""What an overlay would change, and whether it can be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build import choice

if TYPE_CHECKING:
    from build.base import Base
    from build.context import Context
    from build.delta import Delta
    from build.overlay import Target


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


def plan(context: Context, target: Target, *, wanted: str | None, carried: frozenset[str]) -> Plan:
    """Compare a target with a base; nothing is built.

    Args:
        context: Settings, console, engine.
        target: What an overlay would hold.
        wanted: Name of a base; None for the one that differs least.
        carried: Top-level entries that are carried although a base does not hold them.

    Raises:
        SourceError: The base cannot be used.
        IncompatibleError: There is no base at all.
    """
    base, delta = choice.nearest(choice.compare(context, target, wanted=wanted, carried=carried))
    size = 0
    target.fetch(entry.oid for entry in delta.written.values())
    for entry in delta.written.values():
        with target.source.blob(entry.oid) as (length, _):
            size += length
    return Plan(base=base, delta=delta, size=size)
