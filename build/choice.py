"""Which base an overlay stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build import base as bases
from build import delta as deltas
from build import freshness
from build.errors import SourceError

if TYPE_CHECKING:
    from build.base import Base
    from build.context import Context
    from build.delta import Delta
    from build.engine import Image
    from build.overlay import Target


def choose(
    context: Context,
    target: Target,
    *,
    wanted: str | None,
    carried: frozenset[str],
    allow_native: bool,
    install_deps: bool,
) -> tuple[Base, Delta]:
    """The base to use, and what turns it into the target.

    Args:
        context: Settings, console, engine.
        target: What the overlay is to hold.
        wanted: Name of a base; None for the newest one with the target's native sources.
        carried: Top-level entries that are carried although a base does not hold them.
        allow_native: Whether native sources may differ.
        install_deps: Whether what a base lacks will be installed.

    Returns:
        The base and the delta, which is compatible as far as was asked for.

    Raises:
        IncompatibleError: No base fits; names what is in the way of the nearest.
        SourceError: ``wanted`` is not on the engine, or is no base.
    """
    pairs = compare(context, target, wanted=wanted, carried=carried)
    fitting = [pair for pair in pairs if not pair[1].native and (install_deps or not pair[1].dependencies)]
    base, delta = fitting[0] if fitting else nearest(pairs)
    if not (fitting or allow_native):
        deltas.require_compatible(delta, base.name)
    age = freshness.age(base.image)
    context.console.note(f"base {base.name} ({base.facts.version}, {age}): {_why(pairs, delta, wanted)}")
    freshness.tell(context, base.image)
    return base, delta


def compare(
    context: Context, target: Target, *, wanted: str | None, carried: frozenset[str]
) -> list[tuple[Base, Delta]]:
    """Every base that may be used, newest first, and what turns it into the target.

    Raises:
        IncompatibleError: There is no base.
        SourceError: ``wanted`` is not on the engine, or is no base.
    """
    engine = context.engine
    images = [engine.image(wanted)] if wanted else bases.candidates(engine, context.settings.repository)
    bases.require_any(images)
    loaded = [base for image in images if (base := _load(context, image, asked_for=bool(wanted)))]
    bases.require_any([base.image for base in loaded])
    return [(base, target.delta(base, carried=carried)) for base in loaded]


def _load(context: Context, image: Image, *, asked_for: bool) -> Base | None:
    """A base; None, with a word about it, for one of another version of this tool that nobody asked for."""
    try:
        # An image can have names in other repositories too, which are no business of this run's.
        promoted = image.tags_in(context.settings.repository, prefix="nightly")
        name = None if asked_for else promoted[0]
        return bases.load(context.engine, image, context.folders.cache, name=name)
    except SourceError as error:
        if asked_for:
            raise
        context.console.note(f"not considered: {error.what}")
        return None


def nearest(pairs: list[tuple[Base, Delta]]) -> tuple[Base, Delta]:
    """The base with the fewest native differences, then the fewest unmet requirements, then the newest."""
    return min(pairs, key=lambda pair: (len(pair[1].native), len(pair[1].dependencies)))


def _why(pairs: list[tuple[Base, Delta]], delta: Delta, wanted: str | None) -> str:
    if delta.native:
        return f"although {len(delta.native)} native sources differ"
    if wanted:
        return "as asked for"
    return "the newest with the same native sources" if len(pairs) > 1 else "the only one, with the same native sources"
