"""The choice of the base for an overlay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from build.base import store
from build.base.chosen import Chosen, chosen
from build.engine import ages, names
from build.errors import IncompatibleError, SourceError
from build.overlay import comparison
from build.overlay.addition import site_packages
from build.overlay.delta import native_paths, refusal
from build.vllm import requirements

if TYPE_CHECKING:
    from build.base.store import Base
    from build.context import Context
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.overlay.delta import Delta
    from build.source.target import Target


@dataclass(frozen=True, kw_only=True)
class BaseWishes:
    """The user's choice about the base.

    Attributes:
        base: Name of a base; None for the newest one with the target's native sources.
        flavor: Flavor given on the command line; None for that of :func:`build.base.chosen.chosen`.
        carried: Top-level entries of the target to carry although a base does not hold them.
    """

    base: str | None
    flavor: str | None
    carried: frozenset[str]


def choose(
    context: Context, target: Target, wishes: BaseWishes, *, allow_native: bool, install_deps: bool
) -> tuple[Base, Delta]:
    """Return the base to use, and the delta that turns it into the target.

    Args:
        context: Settings, console, engine.
        target: Content of the overlay.
        wishes: The user's choice.
        allow_native: Whether native sources may differ.
        install_deps: Whether missing requirements will be installed.

    Returns:
        The base and the delta, compatible as far as requested.

    Raises:
        IncompatibleError: No base fits. The message names what rules out the nearest base.
        SourceError: The named base is not on the engine, is not a base, or has another flavor.
    """
    pairs = compare(context, target, wishes)
    usable = [
        (base, delta)
        for base, delta in pairs
        if (allow_native or not delta.native)
        and (not delta.dependencies or (install_deps and all(map(requirements.can_be_installed, delta.dependencies))))
    ]
    if not usable:
        base, delta = nearest(pairs)
        hindered = replace(delta, native=()) if allow_native else delta
        comments = comparison.comment_changes(target, base, hindered.native)
        raise refusal(hindered, base.name, remedy=_remedy(base, target), only_comments=comments)
    base, delta = nearest(usable)
    age = ages.of(base.image)
    context.console.note(f"base {base.name} ({base.facts.version}, {age}): {_why(pairs, delta, wishes)}")
    return base, delta


def compare(context: Context, target: Target, wishes: BaseWishes) -> list[tuple[Base, Delta]]:
    """Return every usable base, newest first, with the delta that turns it into the target.

    Raises:
        IncompatibleError: The engine has no base.
        SourceError: As :func:`choose`.
    """
    images = _asked_for(context, wishes) if wishes.base else _of_one_flavor(context, wishes.flavor)
    loaded = [base for image in images if (base := _load(context, image, asked_for=bool(wishes.base)))]
    if not loaded:
        raise _outdated(images)
    if wishes.carried and not (loaded := [base for base in loaded if base.facts.layout.editable]):
        # Below installed packages, `tests` would be everyone's.
        raise IncompatibleError(
            "--with: every base has vLLM from a wheel, which has no place for what is not below vllm/",
            hint="leave out --with, or name a base with vLLM editable",
        )
    pairs = [(base, comparison.compare(target, base, carried=wishes.carried)) for base in loaded]
    for base, delta in pairs:
        _require_free(context.engine, base, delta)
    return pairs


def _require_free(engine: Engine, base: Base, delta: Delta) -> None:
    """Refuse a new package that an installed one would hide. A distribution may have another name: PyYAML has ``yaml``.

    Raises:
        SourceError: The base has a package or module of the name.
    """
    if not delta.packages:
        return
    with engine.created(base.image.id) as container:
        for name in (package.removesuffix(".py") for package in delta.packages):
            # Python prefers a later package to a folder without __init__.py.
            modules = (f"{name}/__init__.py", f"{name}.py")
            if any(store.has(container, PurePosixPath("/", site_packages(base), module)) for module in modules):
                raise comparison.hidden(name)


def _asked_for(context: Context, wishes: BaseWishes) -> list[Image]:
    image = context.engine.image(str(wishes.base))
    flavor = names.flavor_of(image)
    if wishes.flavor and flavor and flavor != wishes.flavor:
        raise SourceError(f"{wishes.base} is a {flavor} base", hint=f"leave out --flavor {wishes.flavor}, or --base")
    return [image]


def _of_one_flavor(context: Context, wanted: str | None) -> list[Image]:
    """Return the promoted bases of a flavor, newest first."""
    images = store.candidates(context.engine, context.settings.repository)
    store.require_any(images)
    flavor = chosen(context, wanted or context.settings.flavor)
    found = [image for image in images if names.flavor_of(image) == flavor.name]
    if not found:
        raise _other_flavors_only(images, flavor)
    if others := len(images) - len(found):
        context.console.note(f"bases of another flavor not considered: {others} (--flavor selects one)")
    return found


def _other_flavors_only(images: list[Image], flavor: Chosen) -> IncompatibleError:
    """Return the error for an engine whose bases all have another flavor than the chosen one."""
    there = sorted({names.flavor_of(image) or "unknown" for image in images})
    what = f"there is no {flavor.name} base on this engine, only {' and '.join(there)}"
    makes = f"`python -m build nightly --flavor {flavor.name}` makes a {flavor.name} base"
    if not flavor.automatic:
        return IncompatibleError(what, hint=makes)
    uses = f"`--flavor {there[0]}` uses the {there[0]} base"
    return IncompatibleError(f"{what}; {flavor.name} was chosen because {flavor.why}", hint=f"{makes}; {uses}")


def _outdated(images: list[Image]) -> IncompatibleError:
    """Return the error for an engine without a usable base. Earlier notes give the reason for each."""
    found = {names.flavor_of(image) for image in images}
    flavor = "".join(f" --flavor {name}" for name in found if name and len(found) == 1)
    return IncompatibleError(
        f"no base on this engine ({', '.join(image.name for image in images[:3])}) can be used: another version "
        "of this tool sealed it, or it was changed since",
        hint=f"`python -m build nightly{flavor}` makes a new base",
    )


def _load(context: Context, image: Image, *, asked_for: bool) -> Base | None:
    """Load a base. Return None, after a note, for a base of another version that the user did not name."""
    try:
        # An image may have names in other repositories, which this run ignores.
        name = image.called or names.promoted_as(image, context.settings.repository) or image.name
        return store.load(context.engine, image, context.folders.cache, name=name)
    except SourceError as error:
        if asked_for:
            raise
        context.console.note(f"not considered: {error.what}")
        return None


def nearest(pairs: list[tuple[Base, Delta]]) -> tuple[Base, Delta]:
    """Return the base with the fewest native differences, then the fewest unmet requirements, then the newest."""
    return min(pairs, key=lambda pair: (len(pair[1].native), len(pair[1].dependencies)))


def _remedy(base: Base, target: Target) -> str:
    """Return the command that builds a base with the target's native sources."""
    if base.facts.flavor == "cuda":
        return f"`python -m build nightly --flavor cuda --commit {target.commit.id}` builds a base of that commit"
    release = target.source.release(target.commit)
    if release and not native_paths(base.facts, target.source.listing(release.commit), target.tree):
        return f"`python -m build nightly --vllm-version {release.version}` builds a base with these sources"
    return "`python -m build nightly --vllm-version RELEASE` builds a base of a release that has these sources"


def _why(pairs: list[tuple[Base, Delta]], delta: Delta, wishes: BaseWishes) -> str:
    if delta.native:
        return f"although {len(delta.native)} native sources differ"
    if wishes.base:
        return "as asked for"
    return "the newest with the same native sources" if len(pairs) > 1 else "the only one, with the same native sources"
