"""Whether an llm-d tree and a vLLM commit fit: what the one pins against what the other requires.

uv resolves both together at the end of a build that takes an hour: a torch that the tree holds back fails it there, and
another FlashInfer than vLLM pins stops the server (vllm#49804).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from build.llmd.tree import CONSTRAINTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.llmd.dockerfile import Dockerfile
    from build.llmd.tree import Tree

FLASHINFER = "FLASHINFER_VERSION"
_FLASHINFER_PACKAGES = ("flashinfer-python", "flashinfer-cubin")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What a tree holds one distribution to.

    Attributes:
        requirement: The requirement.
        place: Where, as ``file:line``.
        binding: Whether the build, or the server, fails with another version.
    """

    requirement: Requirement
    place: str
    binding: bool

    @property
    def name(self) -> str:
        """Normalised name of the distribution."""
        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, kw_only=True)
class Pins:
    """What a tree pins.

    Attributes:
        pins: Those that were understood.
        unread: In words, those that were not.
    """

    pins: tuple[Pin, ...]
    unread: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A pin of the tree that what the commit requires does not allow.

    Attributes:
        pin: The pin.
        required: The commit's requirement.
    """

    pin: Pin
    required: Requirement

    @property
    def said(self) -> str:
        """In words."""
        return f"{self.pin.place} has {self.pin.requirement}, the commit requires {self.required}"


def pins(tree: Tree, dockerfile: Dockerfile, given: Mapping[str, str]) -> Pins:
    """What a tree pins, as far as what it runs uses that.

    Args:
        tree: The tree.
        dockerfile: Its Dockerfile, of the stage that is built.
        given: Build arguments.
    """
    ran = "\n".join(
        (
            *(one.text for one in dockerfile.instructions if one.keyword != "ARG"),
            *dict(tree.scripts_of(dockerfile)).values(),
        )
    )
    found: list[Pin] = []
    unread: list[str] = []
    for path in (one for one in CONSTRAINTS if re.search(rf"(?<![\w-]){re.escape(one.rpartition('/')[2])}", ran)):
        for number, line in enumerate((tree.text(path) or "").splitlines(), start=1):
            if text := _COMMENT.sub("", line).strip():
                place = f"{path}:{number}"
                try:
                    # An override replaces what is required; builds have environments of their own.
                    pin = Pin(requirement=Requirement(text), place=place, binding=path == CONSTRAINTS[0])
                    found.append(pin)
                except InvalidRequirement:
                    unread.append(f"{place} cannot be compared with what the commit requires: {text}")
    if "UV_CONSTRAINT" in ran and tree.text(CONSTRAINTS[0]) is None:
        unread.append(f"UV_CONSTRAINT is not {CONSTRAINTS[0]}, and cannot be compared with what the commit requires")
    version = dockerfile.value(FLASHINFER, given) if ran.count(FLASHINFER) else None
    if version and _is_version(version):
        texts = (f"{name}=={version.removeprefix('v')}" for name in _FLASHINFER_PACKAGES)
        found += [Pin(requirement=Requirement(text), place=FLASHINFER, binding=True) for text in texts]
    elif version:
        unread.append(f"{FLASHINFER}={version} cannot be compared with what the commit requires: it is not a version")
    overridden = {one.name for one in found if one.place.startswith(CONSTRAINTS[1])}
    # A script of vLLM's that takes torch out of the requirements.
    overridden |= {"torch"} if "use_existing_torch" in ran else set()
    bound = (replace(one, binding=one.binding and one.name not in overridden) for one in found)
    return Pins(pins=tuple(bound), unread=tuple(unread))


def differences(found: Pins, requires: Sequence[str], environment: Mapping[str, str]) -> list[Difference]:
    """Pins that no version meets together with what a commit requires.

    Args:
        found: What the tree pins.
        requires: Requirement lines of the commit.
        environment: What markers are evaluated for.
    """
    required: dict[str, list[Requirement]] = {}
    for one in filter(None, map(_parsed, requires)):
        if _applies(one, environment):
            required.setdefault(canonicalize_name(one.name), []).append(one)
    return [
        Difference(pin=pin, required=one)
        for pin in found.pins
        if _applies(pin.requirement, environment)
        for one in required.get(pin.name, ())
        if not _meet(pin.requirement, one)
    ]


def said(found: Sequence[Difference]) -> str:
    """Differences in words, the first few of them."""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(one.said for one in found[:_NAMED]) + more


def flashinfer_that_fits(found: Sequence[Difference]) -> str | None:
    """The one version of FlashInfer that would do, where nothing else differs."""
    exact = {spec.version for one in found for spec in one.required.specifier if spec.operator == "=="}
    alone = all(one.pin.place == FLASHINFER for one in found)
    return exact.pop() if alone and len(exact) == 1 else None


def _parsed(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _applies(one: Requirement, environment: Mapping[str, str]) -> bool:
    try:
        return one.marker is None or one.marker.evaluate(dict(environment))
    except (UndefinedComparison, UndefinedEnvironmentName):
        return False


def _meet(one: Requirement, other: Requirement) -> bool:
    """Whether some version meets both: one at, or right above, a boundary of either does if any does."""
    both = one.specifier & other.specifier
    if one.url or other.url or any(spec.operator == "===" for spec in both):
        return True
    texts = [spec.version.removesuffix(".*") for spec in both]
    candidates = [text for text in texts if _is_version(text)]
    candidates += [f"{Version(text).base_version}.0.0.1" for text in candidates] + ["0"]
    return not texts or any(both.contains(candidate, prereleases=True) for candidate in candidates)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
