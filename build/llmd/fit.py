"""The comparison of an llm-d tree's pins with a vLLM commit's requirements.

uv resolves both together at the end of a build that takes an hour. An older torch pin fails the build there, and a
FlashInfer that differs from vLLM's pin stops the server (vllm#49804).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from build.llmd import written
from build.llmd.references import expand, names_in
from build.llmd.tree import CONSTRAINTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from build.llmd.dockerfile import Dockerfile
    from build.llmd.tree import Tree
    from build.llmd.written import Written

FLASHINFER = "FLASHINFER_VERSION"
_FLASHINFER_PACKAGES = ("flashinfer-python", "flashinfer-cubin")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_NAMED = 3
_NOT_COMPARED = "cannot be compared with the commit's requirements"
# Constraint files in variables and options of uv and pip, including overrides and build constraints.
_HELD_TO = re.compile(
    r"""(?:\b(?:UV|PIP)_(?P<variable>(?:BUILD_)?CONSTRAINT|OVERRIDE)S?[= ]
    |--(?P<option>(?:build-)?constraint|override)s?[= ]|(?<=\s)-c[ ](?=\S+\.txt\b))
    \s*["']?(?P<path>[^\s"';&|\\]+)""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A tree's pin of one distribution.

    Attributes:
        requirement: Requirement of the pin.
        place: Place as ``file:line``.
        binding: Whether build or server fail with another version.
    """

    requirement: Requirement
    place: str
    binding: bool

    @property
    def name(self) -> str:
        """The normalised name of the distribution."""
        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, kw_only=True)
class Pins:
    """The pins of a tree.

    Attributes:
        pins: Pins that were understood.
        unread: Remarks on the others.
    """

    pins: tuple[Pin, ...]
    unread: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A pin that contradicts a requirement of the commit.

    Attributes:
        pin: Pin of the tree.
        required: Requirement of the commit.
    """

    pin: Pin
    required: Requirement

    @property
    def said(self) -> str:
        """The difference in words."""
        return f"{self.pin.place} has {self.pin.requirement}, the commit requires {self.required}"


def pins(tree: Tree, dockerfile: Dockerfile, given: Mapping[str, str]) -> Pins:
    """Return the pins of a tree that its build uses.

    Args:
        tree: llm-d tree.
        dockerfile: Its Dockerfile, reduced to the built stage.
        given: Build arguments.
    """
    ran = "\n".join(
        (
            *(one.text for one in dockerfile.instructions if one.keyword != "ARG"),
            *dict(tree.scripts_of(dockerfile)).values(),
        )
    )
    lines = list(_lines(tree, dockerfile, ran, dockerfile.environment(given)))
    found = [one for one in lines if isinstance(one, Pin)]
    unread = [one for one in lines if isinstance(one, str)]
    version = dockerfile.value(FLASHINFER, given) if ran.count(FLASHINFER) else None
    if version and _is_version(version):
        texts = (f"{name}=={version.removeprefix('v')}" for name in _FLASHINFER_PACKAGES)
        found += [Pin(requirement=Requirement(text), place=FLASHINFER, binding=True) for text in texts]
    elif version:
        unread.append(f"{FLASHINFER}={version} {_NOT_COMPARED}: it is not a version")
    overridden = {one.name for one in found if one.place.startswith(CONSTRAINTS[1])}
    # vLLM's script that removes torch from the requirements.
    overridden |= {"torch"} if "use_existing_torch" in ran else set()
    bound = (replace(one, binding=one.binding and one.name not in overridden) for one in found)
    return Pins(pins=tuple(bound), unread=tuple(unread))


def _lines(tree: Tree, dockerfile: Dockerfile, ran: str, environment: Mapping[str, str]) -> Iterator[Pin | str]:
    """Yield the pins of all constraint files, or remarks on those that cannot be compared."""
    made = _written(tree, dockerfile)
    others = re.sub("|".join(map(re.escape, made)) or "$^", "", ran)
    for path in CONSTRAINTS:
        if re.search(rf"(?<![\w-]){re.escape(path.rpartition('/')[2])}", others):
            rows = enumerate((tree.text(path) or "").splitlines(), start=1)
            # Overrides replace requirements, and builds have separate environments.
            yield from _pins(((f"{path}:{n}", row) for n, row in rows), binding=path == CONSTRAINTS[0])
    known = {path.rpartition("/")[2] for path in CONSTRAINTS if tree.text(path) is not None}
    for match in {one["path"]: one for one in _HELD_TO.finditer(ran)}.values():
        path = expand(match["path"], environment)
        if path in made:
            way = (match["variable"] or match["option"] or "constraint").lower()
            yield from _pins(_expanded(made[path], environment), binding=way == "constraint")
        elif path.rpartition("/")[2] not in known:
            yield f"the constraint file {path or match['path']} {_NOT_COMPARED}"


def _pins(rows: Iterable[tuple[str, str]], *, binding: bool) -> Iterator[Pin | str]:
    for place, row in rows:
        if text := _COMMENT.sub("", row).strip():
            try:
                yield Pin(requirement=Requirement(text), place=place, binding=binding)
            except InvalidRequirement:
                yield f"{place} {_NOT_COMPARED}: {text}"


def _written(tree: Tree, dockerfile: Dockerfile) -> dict[str, list[tuple[str, Written]]]:
    """Return the files that the build writes itself, each with its contents and their places."""
    texts = [(place, written.by_shell(text)) for place, text in tree.scripts_of(dockerfile)]
    copies = [one for one in dockerfile.instructions if one.keyword in {"COPY", "ADD"}]
    texts += [(f"{dockerfile.name}:{one.line}", written.by_copy(one.text)) for one in copies]
    found: dict[str, list[tuple[str, Written]]] = {}
    for place, files in texts:
        for file in files:
            found.setdefault(file.path, []).append((place, file))
    return found


def _expanded(parts: list[tuple[str, Written]], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file with their places. A line with an unknown variable stays unexpanded."""
    for place, file in parts:
        for line in file.lines:
            known = not file.literal and names_in(line) <= environment.keys()
            yield place, expand(line, environment) if known else line


def differences(found: Pins, requires: Sequence[str], environment: Mapping[str, str]) -> list[Difference]:
    """Return the pins that contradict the requirements of a commit.

    Args:
        found: Pins of the tree.
        requires: Requirement lines of the commit.
        environment: Environment for markers.
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
    """Return the first few differences in words."""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(one.said for one in found[:_NAMED]) + more


def flashinfer_that_fits(found: Sequence[Difference]) -> str | None:
    """Return the version of FlashInfer that fits if nothing else differs, else None."""
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
    """Return whether some version meets both. If any does, one at or right above a boundary of either does."""
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
