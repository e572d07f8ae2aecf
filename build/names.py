"""The names that images get: which tags there are, how they are written, and how they are recognised.

A tag names one flavor. The plain ones are the CUDA images'; every other flavor's end in its name::

    nightly                         nightly-cpu
    nightly-<commit>                nightly-<commit>-cpu
    candidate                       candidate-cpu
    local-<commit>                  local-<commit>-cpu
    local-<commit>-dirty-<tree>     local-<commit>-dirty-<tree>-cpu
    <commit>                        <commit>-cpu

In a registry the last is called ``commit-<commit>`` and ``commit-<commit>-cpu``. An image arrives there as
``candidate-<image>-<push>`` and gets its names when that is known to be the image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from build import labels
from build.folders import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine import Image

CUDA = "cuda"
CPU = "cpu"
FLAVORS = (CUDA, CPU)
"""All flavors. The first has the plain names."""

TREE_DIGITS = 12
"""Of a tree's id, in the name of uncommitted work."""


class Kind(StrEnum):
    """What a tag is given to."""

    NIGHTLY = "nightly"
    CANDIDATE = "candidate"
    LOCAL = "local"
    COMMIT = "commit"


_HAS = {Kind.NIGHTLY: "base", Kind.CANDIDATE: "base", Kind.LOCAL: "overlay", Kind.COMMIT: "overlay"}
"""The kind of image that has a kind of tag, as :data:`build.labels.KIND` has it."""

_PATTERN = re.compile(
    rf"""
    (?:
        (?P<moving>nightly|candidate)
      | nightly-(?P<night>[0-9a-f]{{40}})
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
    """What an image is called in a registry while it is pushed: a name that says nothing of it.

    Attributes:
        image: Short ID of the image.
        place: Eight digits that tell the pushes of one state folder from others.
        push: Eight more, of this push.
    """

    image: str
    place: str
    push: str

    @classmethod
    def parse(cls, tag: str) -> Self | None:
        """Read a tag; None for any other name."""
        found = _UPLOAD.fullmatch(tag)
        return cls(**found.groupdict()) if found else None

    def __str__(self) -> str:
        return f"{Kind.CANDIDATE}-{self.image}-{self.place}{self.push}"


@dataclass(frozen=True, kw_only=True)
class Stem:
    """A tag without its flavor: what an image is called before it is known what it runs on.

    Attributes:
        kind: What it is given to.
        commit: Full id of the commit; None for the names that move.
        tree: First digits of the id of a working tree's tree; None without one.
    """

    kind: Kind
    commit: str | None
    tree: str | None

    @classmethod
    def local(cls, commit: str, *, tree: str | None = None) -> Self:
        """The name of an overlay of a local commit, or of the uncommitted work on top of it.

        Args:
            commit: Full id of the commit, or of what is checked out.
            tree: Full id of the working tree's tree.
        """
        return cls(kind=Kind.LOCAL, commit=commit, tree=tree and tree[:TREE_DIGITS])

    @classmethod
    def of_commit(cls, commit: str) -> Self:
        """The name of an overlay of a published commit."""
        return cls(kind=Kind.COMMIT, commit=commit, tree=None)

    @property
    def work(self) -> str | None:
        """What tells uncommitted work: what it is on top of, and its tree; None for a commit."""
        return f"{self.commit}-dirty-{self.tree}" if self.tree else None

    def of(self, flavor: str) -> Tag:
        """The tag of an image of a flavor."""
        return Tag(stem=self, flavor=flavor)


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A tag that this tool gives.

    Attributes:
        stem: The tag without its flavor.
        flavor: The only flavor whose images may have it.
    """

    stem: Stem
    flavor: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a tag, local or of a registry; None for a name that this tool does not give."""
        if not (found := _PATTERN.fullmatch(text)):
            return None
        flavor = found["flavor"] or CUDA
        if moving := found["moving"]:
            return cls(stem=Stem(kind=Kind(moving), commit=None, tree=None), flavor=flavor)
        if night := found["night"]:
            return cls(stem=Stem(kind=Kind.NIGHTLY, commit=night, tree=None), flavor=flavor)
        if local := found["local"]:
            return cls(stem=Stem(kind=Kind.LOCAL, commit=local, tree=found["tree"]), flavor=flavor)
        return cls(stem=Stem.of_commit(found["commit"]), flavor=flavor)

    def __str__(self) -> str:
        """The tag as the local repository has it."""
        return self.in_registry.removeprefix(f"{Kind.COMMIT}-")

    @property
    def in_registry(self) -> str:
        """The tag as a registry has it."""
        stem = self.stem
        tree = f"-dirty-{stem.tree}" if stem.tree else ""
        commit = f"-{stem.commit}" if stem.commit else ""
        return f"{stem.kind}{commit}{tree}{_suffix(self.flavor)}"

    @property
    def is_promoted(self) -> bool:
        """Whether only a base that passed gets it."""
        return self.stem.kind is Kind.NIGHTLY

    @property
    def moves(self) -> bool:
        """Whether it names the last good base, whichever that is."""
        return self.is_promoted and self.stem.commit is None

    def of(self, flavor: str) -> Tag:
        """What the same is called in another flavor."""
        return replace(self, flavor=flavor)


def nightly(flavor: str, commit: str | None = None) -> Tag:
    """The tag of a base that passed: of a commit, or the one that moves."""
    return Stem(kind=Kind.NIGHTLY, commit=commit, tree=None).of(flavor)


def candidate(flavor: str) -> Tag:
    """The tag of a base that has not passed yet."""
    return Stem(kind=Kind.CANDIDATE, commit=None, tree=None).of(flavor)


def base_commit_file(flavor: str) -> Path:
    """The file in the repository that holds the commit of the last good base."""
    return REPOSITORY / f"base_commit{_suffix(flavor)}.txt"


def _suffix(flavor: str) -> str:
    """What every name of a flavor ends in."""
    return "" if flavor == CUDA else f"-{flavor}"


# --- Of images -----------------------------------------------------------------------------------------------------


def flavor_of(image: Image) -> str | None:
    """The flavor that an image's label states; None for an image without one."""
    return image.labels.get(labels.FLAVOR)


def tags(image: Image, repository: str) -> list[Tag]:
    """The tags that an image has in a repository, less those that this tool does not give."""
    found = (Tag.parse(name.removeprefix(f"{repository}:")) for name in image.tags_in(repository))
    return [tag for tag in found if tag]


def promoted(image: Image, repository: str) -> bool:
    """Whether a base has passed: promotion gave it a name, perhaps one of before names told flavors apart."""
    return any(tag.is_promoted for tag in tags(image, repository))


def promoted_as(image: Image, repository: str) -> str | None:
    """The name that promotion gave a base, the moving one if it has that; None for one that has not passed."""
    found = [f"{repository}:{tag}" for tag in tags(image, repository) if tag.is_promoted]
    return min(found, key=len, default=None)


def is_last_good(image: Image, repository: str) -> bool:
    """Whether the moving name of some flavor is an image's."""
    return any(tag.moves for tag in tags(image, repository))


def describes(tag: Tag, image: Image) -> bool:
    """Whether a tag says nothing of an image that is not so: its kind, its commit, and its uncommitted work.

    Args:
        tag: The tag; its flavor does not count.
        image: An image whose labels are known to be its own (:mod:`build.identity`).
    """
    stem, marks = tag.stem, image.labels
    if marks.get(labels.KIND) != _HAS[stem.kind]:
        return False
    if stem.tree or labels.WORK in marks:
        return marks.get(labels.WORK) == stem.work
    return stem.commit in (None, marks.get(labels.COMMIT))


def for_registry(image: Image, repository: str) -> list[str]:
    """The tags that an image gets in a registry, sorted, the moving one last.

    Each ends as the image's flavor has it, whatever the local name says: an image cannot take another flavor's name.

    Args:
        image: The image.
        repository: Local repository; the image's names elsewhere, and tags of other forms, do not count.
    """
    runs_on = flavor_of(image)
    found = [tag for tag in tags(image, repository) if tag.stem.kind is not Kind.CANDIDATE]
    renamed = {tag.of(runs_on or tag.flavor) for tag in found}
    return [tag.in_registry for tag in sorted(renamed, key=lambda tag: (tag.moves, tag.in_registry))]
