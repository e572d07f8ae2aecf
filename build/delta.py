"""The difference between a base and a target tree, and whether it can be an overlay."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build import requirements
from build.compatibility import PathClass, classify
from build.errors import IncompatibleError
from build.listing import SUBMODULE, Entry, Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from build.base import Contents, Facts

_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What an overlay has to change in a base.

    Attributes:
        written: Files to write, by path.
        deleted: Files of the base to delete, sorted.
        native: Changed paths that decide what is compiled, sorted. Not empty: the base cannot be used.
        dependencies: Requirement lines that the target has and the base does not meet.
        metadata: Changed paths that decide entry points or package data, sorted.
        present: All paths of the target tree that the image will hold.
    """

    written: Mapping[str, Entry]
    deleted: tuple[str, ...]
    native: tuple[str, ...]
    dependencies: tuple[str, ...]
    metadata: tuple[str, ...]
    present: frozenset[str]

    @property
    def verdict(self) -> PathClass:
        """The gravest class among the changes."""
        if self.native:
            return PathClass.NATIVE
        if self.dependencies:
            return PathClass.DEPENDENCIES
        return PathClass.METADATA if self.metadata else PathClass.PYTHON

    @property
    def fingerprint(self) -> str:
        """Digest of what is written and deleted."""
        rows = [f"{entry.mode} {entry.oid} {path}" for path, entry in sorted(self.written.items())]
        text = "\0".join((*rows, "", *self.deleted))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def document(self, *, size: int) -> dict[str, Any]:
        """For ``plan --json``."""
        return {
            "verdict": self.verdict,
            "native": list(self.native),
            "dependencies": list(self.dependencies),
            "metadata": list(self.metadata),
            "written": len(self.written),
            "deleted": len(self.deleted),
            "bytes": size,
        }


def between(
    base: Contents, target: Listing, read: Callable[[str], str], *, carried: frozenset[str] = frozenset()
) -> Delta:
    """What turns a base into the target.

    Only top-level entries that the base holds are carried: an image without ``tests`` gets none.

    Args:
        base: What it starts from.
        target: All files and trees of the target commit.
        read: Gives the text of a file of the target; empty where there is none.
        carried: Top-level entries that are carried although the base does not hold them.
    """
    held, kept = base.held.files, base.held.top_level | carried
    wanted = {
        path: entry
        for path, entry in target.files.items()
        if entry.mode != SUBMODULE and path.partition("/")[0] in kept
    }
    classes = _classes(base.facts, base.tree, target)
    native = {path for path, kind in classes.items() if kind is PathClass.NATIVE}
    pins = requirements.torch_pins(requirements.build_requires(read("pyproject.toml")))
    if pins != requirements.torch_pins(base.facts.build_requires):
        native.add("pyproject.toml")
    lines = requirements.of_tree(read, base.facts.flavor)
    unmet = requirements.unmet(lines, base.facts.distributions, python=base.facts.python)
    return Delta(
        written={path: entry for path, entry in wanted.items() if held.get(path) != entry},
        deleted=tuple(sorted(path for path in held if path not in wanted)),
        native=tuple(sorted(native)),
        dependencies=tuple(line for line in unmet if line not in base.facts.unmet),
        metadata=tuple(sorted(p for p, kind in classes.items() if kind is PathClass.METADATA and p not in native)),
        present=frozenset(wanted),
    )


def native_paths(facts: Facts, old: Listing, new: Listing) -> set[str]:
    """Paths that differ between two trees and decide what is compiled for bases such as one.

    The torch pin in pyproject.toml is not looked at.
    """
    return {path for path, kind in _classes(facts, old, new).items() if kind is PathClass.NATIVE}


def _classes(facts: Facts, old: Listing, new: Listing) -> dict[str, PathClass]:
    """What each path means in which two trees differ."""
    before, after = old.files, new.files
    return {
        path: classify(path, has_rust=facts.has_rust, tracked=path in before)
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    }


def require_compatible(delta: Delta, base_name: str, *, remedy: str) -> None:
    """Refuse a delta that compiled binaries or installed packages stand against.

    Args:
        delta: The delta.
        base_name: What to call its base.
        remedy: What gives a base with other native sources, in words.

    Raises:
        IncompatibleError: Names what is in the way, and what would help.
    """
    if delta.native:
        raise IncompatibleError(
            f"native sources differ from {base_name}, the nearest base: {_some(delta.native)}",
            hint=f"{remedy}; --allow-native makes the overlay all the same",
        )
    if delta.dependencies:
        raise IncompatibleError(
            f"base {base_name} lacks what the commit requires: {_some(delta.dependencies)}",
            hint="--install-deps installs it into the overlay; `python -m build nightly` makes a newer base",
        )


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} ({len(names)} in all)"
