"""The retention rules: which images stay, decided from labels, names and ages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.engine import content, labels, names
from build.engine.ages import created, order
from build.host import clock
from build.host.timestamps import expires

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Collection, Mapping, Sequence

    from build.engine.image import Image

_KINDS = frozenset({"base", "overlay", "unsealed"})
"""Kinds that pruning removes. Root file systems stay: they are small and slow to build."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The facts that decide.

    Attributes:
        repository: Local repository of this tool's images.
        keep_bases: Number of good bases to keep for each flavor.
        now: Current time.
        failed: Whether an image has a failing verdict.
        used: IDs of images that containers use.
        doubt: Why ages are not reliable (:func:`build.host.clock.doubt`); None if they are.
    """

    repository: str
    keep_bases: int
    now: dt.datetime
    failed: Callable[[Image], bool]
    used: Collection[str]
    doubt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision about one image.

    Attributes:
        image: The image.
        keep: Whether it stays.
        why: Reason in words.
    """

    image: Image
    keep: bool
    why: str


def is_ours(image: Image, repository: str) -> bool:
    """Return whether this repository made the image or has a name for it.

    The labels alone do not tell: other local repositories, tests and other users of the engine set them too, and
    derived images inherit them. Without a name, only an unmodified image of this tool counts.
    """
    if image.labels.get(labels.KIND) not in _KINDS or content.is_derived(image):
        return False
    is_made_here = labels.CONTENT in image.labels and image.labels.get(labels.REPOSITORY) == repository
    return bool(image.tags_in(repository)) or is_made_here


def foreign_names(image: Image, repository: str) -> list[str]:
    """Return an image's foreign names: in an unrelated repository, or with a tag that this tool does not use."""
    places = {repository, *(name.partition("@")[0] for name in image.digests)}
    split = [(name, *name.rpartition(":")[::2]) for name in image.tags]
    return [name for name, place, tag in split if place not in places or not _is_given(tag)]


def _is_given(tag: str) -> bool:
    return bool(names.Tag.parse(tag) or names.Upload.parse(tag))


def decide(images: Sequence[Image], rules: Rules) -> list[Decision]:
    """Decide about each image of this tool. Other images are left out.

    Args:
        images: All images that carry :data:`build.engine.labels.KIND`.
        rules: The facts that decide.
    """
    ours = [image for image in images if is_ours(image, rules.repository)]
    good = _good([image for image in ours if image.labels[labels.KIND] == "base"], rules)
    # The first reason that applies is shown.
    reasons: tuple[Callable[[Image], str | None], ...] = (
        lambda image: _tied(image, rules),
        lambda image: good.get(image.id),
        lambda image: _valid(image, rules),
    )
    kept = {image.id: why for image in ours if (why := next(filter(None, (one(image) for one in reasons)), None))}
    # Overlays of other repositories count too.
    stay = [image for image in images if image.id in kept or not is_ours(image, rules.repository)]
    kept = _stood_on(stay) | kept
    return [_decision(image, kept) for image in ours]


def _stood_on(images: Sequence[Image]) -> dict[str, str]:
    """Return the bases of overlays, by ID, with the reason to keep each."""
    overlays = [
        image for image in reversed(images) if image.labels[labels.KIND] == "overlay" and not content.is_derived(image)
    ]
    return {base: f"{image.name} stands on it" for image in overlays if (base := image.labels.get(labels.BASE))}


def _decision(image: Image, kept: Mapping[str, str]) -> Decision:
    if why := kept.get(image.id):
        return Decision(image=image, keep=True, why=why)
    kind = image.labels[labels.KIND]
    gone = "expired" if kind == "overlay" else "newer good bases are there"
    return Decision(image=image, keep=False, why=gone if image.tags else "has no name")


def _tied(image: Image, rules: Rules) -> str | None:
    """Return why an image must stay regardless of its age, or None."""
    if image.id in rules.used:
        return "a container uses it"
    if names.is_last_good(image, rules.repository):
        return "the last good base"
    foreign = foreign_names(image, rules.repository)
    return f"also called {foreign[0]}" if foreign else None


def _good(bases: Sequence[Image], rules: Rules) -> dict[str, str]:
    """Return the newest good bases, and a newer base without a verdict: the next nightly continues with it."""
    kept: dict[str, str] = {}
    for line in {_line(base) for base in bases}:
        newest = sorted((base for base in bases if _line(base) == line), key=order, reverse=True)
        # A promoted base passed once, but a later smoke run may have failed.
        good = [base for base in newest if names.promoted(base, rules.repository) and not rules.failed(base)]
        kept |= {base.id: f"one of the newest {rules.keep_bases} good bases" for base in good[: rules.keep_bases]}
        if newest and not names.promoted(newest[0], rules.repository):
            kept[newest[0].id] = "the newest, not promoted yet"
    return kept


def _line(base: Image) -> tuple[str | None, bool]:
    """Return what the newest bases are counted by: the flavor, and whether they were adopted."""
    return names.flavor_of(base), labels.ORIGIN in base.labels


def _valid(image: Image, rules: Rules) -> str | None:
    """Return why an overlay with a name has not expired, or None."""
    if image.labels[labels.KIND] != "overlay" or not image.tags:
        return None
    try:
        made, until = created(image), expires(created(image), image.labels.get(labels.QUAY_EXPIRES, ""))
    except ValueError:
        return "never expires"
    if until > rules.now:
        return f"expires {until:%Y-%m-%d %H:%M}"
    if not clock.is_past(made):
        return f"dated {made:%Y-%m-%d}, by a clock that was wrong"
    return rules.doubt


def at_most(decisions: Sequence[Decision], others: Sequence[Image]) -> int:
    """Return an upper bound of the bytes that removal frees. Shared layers may reduce it.

    Args:
        decisions: The decisions.
        others: Other images of the engine.
    """
    known = [*others, *(one.image for one in decisions if one.keep)]
    total = 0
    for image in sorted((one.image for one in decisions if not one.keep), key=lambda image: len(image.diff_ids)):
        below = [one.size for one in known if image.diff_ids[: len(one.diff_ids)] == one.diff_ids]
        total += image.size - max(below, default=0)
        known.append(image)
    return total
