"""The names of images: which tags exist, how they are written, and how they are recognised.

A tag names one flavor. CUDA images have the plain tags; the tags of other flavors end in the flavor's name::

    nightly                         nightly-cpu
    nightly-<commit>                nightly-<commit>-cpu
    adopted-<commit>                adopted-<commit>-cpu
    candidate                       candidate-cpu
    local-<commit>                  local-<commit>-cpu
    local-<commit>-dirty-<tree>     local-<commit>-dirty-<tree>-cpu
    <commit>                        <commit>-cpu

In a registry, the last form is ``commit-<commit>`` and ``commit-<commit>-cpu``. A push first uses
``candidate-<image>-<push>``; the image gets its names once the registry is known to hold that very image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from build.config.folders import REPOSITORY
from build.engine import labels

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.image import Image

CUDA = "cuda"
CPU = "cpu"
FLAVORS = (CUDA, CPU)
"""All flavors. The first one has the plain tags."""

TREE_DIGITS = 12
"""Digits of a tree's ID in the tag of uncommitted work."""


class Kind(StrEnum):
    """The kind of image that a tag is given to."""

    NIGHTLY = "nightly"
    ADOPTED = "adopted"
    CANDIDATE = "candidate"
    LOCAL = "local"
    COMMIT = "commit"


_HAS = {
    Kind.NIGHTLY: "base",
    Kind.ADOPTED: "base",
    Kind.CANDIDATE: "base",
    Kind.LOCAL: "overlay",
    Kind.COMMIT: "overlay",
}
"""The kind of image for each kind of tag, as a value of :data:`build.engine.labels.KIND`."""

_PATTERN = re.compile(
    rf"""
    (?:
        (?P<moving>nightly|candidate)
      | (?P<passed>nightly|adopted)-(?P<base>[0-9a-f]{{40}})
      | local-(?P<local>[0-9a-f]{{40}})(?:-dirty-(?P<tree>[0-9a-f]{{{TREE_DIGITS}}}))?
      | (?:commit-)?(?P<commit>[0-9a-f]{{40}})
    )
    (?:-(?P<flavor>{"|".join(FLAVORS[1:])}))?
    """,
    re.VERBOSE,
)


_UPLOAD = re.compile(r"candidate-(?P<image>[0-9a-f]{12})-(?P<place>[0-9a-f]{8})(?P<push>[0-9a-f]{8})")


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The name of an image in a registry during a push. It says nothing about the content.

    Attributes:
        image: Short ID of the image.
        place: Eight digits that tell the pushes of this state folder from others.
        push: Eight digits for this push.
    """

    image: str
    place: str
    push: str

    @classmethod
    def parse(cls, tag: str) -> Self | None:
        """Parse a tag. Return None for any other name."""
        found = _UPLOAD.fullmatch(tag)
        return cls(**found.groupdict()) if found else None

    def __str__(self) -> str:
        return f"{Kind.CANDIDATE}-{self.image}-{self.place}{self.push}"


@dataclass(frozen=True, kw_only=True)
class Stem:
    """A tag without its flavor: the name of an image whose flavor is not known yet.

    Attributes:
        kind: Kind of image.
        commit: Full ID of the commit; None for the moving tags.
        tree: First digits of the ID of a working tree's tree; None without one.
    """

    kind: Kind
    commit: str | None
    tree: str | None

    @classmethod
    def local(cls, commit: str, *, tree: str | None = None) -> Self:
        """Return the name of an overlay of a local commit, or of uncommitted work on top of it.

        Args:
            commit: Full ID of the commit, or of the checked-out commit.
            tree: Full ID of the working tree's tree.
        """
        return cls(kind=Kind.LOCAL, commit=commit, tree=tree and tree[:TREE_DIGITS])

    @classmethod
    def of_commit(cls, commit: str) -> Self:
        """Return the name of an overlay of a published commit."""
        return cls(kind=Kind.COMMIT, commit=commit, tree=None)

    @property
    def work(self) -> str | None:
        """The commit and tree of uncommitted work; None for a commit."""
        return f"{self.commit}-dirty-{self.tree}" if self.tree else None

    def of(self, flavor: str) -> Tag:
        """Return the tag for a flavor."""
        return Tag(stem=self, flavor=flavor)


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A tag that this tool gives.

    Attributes:
        stem: The tag without its flavor.
        flavor: Flavor of the images that may have it.
    """

    stem: Stem
    flavor: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse a tag, local or of a registry. Return None for a name that this tool does not give."""
        if not (found := _PATTERN.fullmatch(text)):
            return None
        flavor = found["flavor"] or CUDA
        if moving := found["moving"]:
            return cls(stem=Stem(kind=Kind(moving), commit=None, tree=None), flavor=flavor)
        if passed := found["passed"]:
            return cls(stem=Stem(kind=Kind(passed), commit=found["base"], tree=None), flavor=flavor)
        if local := found["local"]:
            return cls(stem=Stem(kind=Kind.LOCAL, commit=local, tree=found["tree"]), flavor=flavor)
        return cls(stem=Stem.of_commit(found["commit"]), flavor=flavor)

    def __str__(self) -> str:
        """Return the tag for the local repository."""
        return self.in_registry.removeprefix(f"{Kind.COMMIT}-")

    @property
    def in_registry(self) -> str:
        """The tag in a registry."""
        stem = self.stem
        tree = f"-dirty-{stem.tree}" if stem.tree else ""
        commit = f"-{stem.commit}" if stem.commit else ""
        return f"{stem.kind}{commit}{tree}{_suffix(self.flavor)}"

    @property
    def is_promoted(self) -> bool:
        """Whether only a base that passed gets this tag."""
        return self.stem.kind in (Kind.NIGHTLY, Kind.ADOPTED)

    @property
    def moves(self) -> bool:
        """Whether the tag moves with the last good base."""
        return self.is_promoted and self.stem.commit is None

    def of(self, flavor: str) -> Tag:
        """Return the same tag for another flavor."""
        return replace(self, flavor=flavor)


def nightly(flavor: str, commit: str | None = None) -> Tag:
    """Return the tag of a base that passed: the tag of its commit, or the moving tag."""
    return Stem(kind=Kind.NIGHTLY, commit=commit, tree=None).of(flavor)


def adopted(flavor: str, commit: str) -> Tag:
    """Return the tag of an adopted base that passed."""
    return Stem(kind=Kind.ADOPTED, commit=commit, tree=None).of(flavor)


def candidate(flavor: str) -> Tag:
    """Return the tag of a base that has not passed yet."""
    return Stem(kind=Kind.CANDIDATE, commit=None, tree=None).of(flavor)


def base_commit_file(flavor: str) -> Path:
    """Return the file in the repository with the commit of the last good base."""
    return REPOSITORY / f"base_commit{_suffix(flavor)}.txt"


def _suffix(flavor: str) -> str:
    """Return the ending of a flavor's tags."""
    return "" if flavor == CUDA else f"-{flavor}"


# --- Of images -----------------------------------------------------------------------------------------------------


def flavor_of(image: Image) -> str | None:
    """Return the flavor in an image's label, or None without the label."""
    return image.labels.get(labels.FLAVOR)


def tags(image: Image, repository: str) -> list[Tag]:
    """Return an image's tags in a repository, without names that this tool does not give."""
    found = (Tag.parse(name.removeprefix(f"{repository}:")) for name in image.tags_in(repository))
    return [tag for tag in found if tag]


def promoted(image: Image, repository: str) -> bool:
    """Return whether a base has passed: promotion named it, possibly before tags stated flavors."""
    return any(tag.is_promoted for tag in tags(image, repository))


def promoted_as(image: Image, repository: str) -> str | None:
    """Return the name that promotion gave a base, preferably the moving one; None if the base has not passed."""
    found = [f"{repository}:{tag}" for tag in tags(image, repository) if tag.is_promoted]
    return min(found, key=len, default=None)


def is_last_good(image: Image, repository: str) -> bool:
    """Return whether an image has the moving tag of a flavor."""
    return any(tag.moves for tag in tags(image, repository))


def describes(tag: Tag, image: Image) -> bool:
    """Return whether a tag's kind, commit and uncommitted work match an image.

    Args:
        tag: The tag. Its flavor is not compared.
        image: Image whose labels are known to be genuine (:mod:`build.engine.content`).
    """
    stem, marks = tag.stem, image.labels
    if marks.get(labels.KIND) != _HAS[stem.kind]:
        return False
    if stem.tree or labels.WORK in marks:
        return marks.get(labels.WORK) == stem.work
    return stem.commit in (None, marks.get(labels.COMMIT))


def for_registry(image: Image, repository: str) -> list[str]:
    """Return an image's tags in a registry, sorted, the moving tag last.

    Every tag has the image's own flavor, whatever its local name says: an image cannot take another flavor's tag.

    Args:
        image: The image.
        repository: Local repository. Names in other repositories and other forms of tags do not count.
    """
    runs_on = flavor_of(image)
    found = [tag for tag in tags(image, repository) if tag.stem.kind is not Kind.CANDIDATE]
    renamed = {tag.of(runs_on or tag.flavor) for tag in found}
    return [tag.in_registry for tag in sorted(renamed, key=lambda tag: (tag.moves, tag.in_registry))]
