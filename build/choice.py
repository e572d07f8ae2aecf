"""Which base an overlay stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build import base as bases
from build import delta as deltas

if TYPE_CHECKING:
    from build.base import Base
    from build.context import Context
    from build.delta import Delta
    from build.overlay import Target


def choose(context: Context, target: Target, *, wanted: str | None) -> tuple[Base, Delta]:
    """The base to use, and what turns it into the target.

    Args:
        context: Settings, console, engine.
        target: What the overlay is to hold.
        wanted: Name of a base; None for the newest one with the target's native sources.

    Returns:
        The base and the delta, which is compatible.

    Raises:
        IncompatibleError: No base fits; names what is in the way of the nearest.
        SourceError: ``wanted`` is not on the engine, or is no base.
    """
    engine = context.engine
    images = [engine.image(wanted)] if wanted else bases.candidates(engine, context.settings.repository)
    bases.require_any(images)
    pairs = [
        (base, target.delta(base)) for base in (bases.load(engine, image, context.folders.cache) for image in images)
    ]
    fitting = [pair for pair in pairs if not pair[1].native and not pair[1].dependencies]
    if fitting:
        base, delta = fitting[0]
        context.console.note(f"base {base.name} ({base.facts.version}): {_why(len(pairs), wanted)}")
        return base, delta
    base, delta = min(pairs, key=lambda pair: (len(pair[1].native), len(pair[1].dependencies)))
    deltas.require_compatible(delta, base.name)
    raise AssertionError("a delta that does not fit is refused")


def _why(count: int, wanted: str | None) -> str:
    if wanted:
        return "as asked for"
    return "the newest with the same native sources" if count > 1 else "the only one, with the same native sources"
