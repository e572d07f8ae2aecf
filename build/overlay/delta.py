"""The difference between a base and a target tree, and whether an overlay can hold it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from build.errors import IncompatibleError
from build.source.listing import NOTHING_APART, SUBMODULE, Entry, Listing
from build.vllm import requirements, version
from build.vllm.paths import PathClass, classify, made_by_build
from build.vllm.pyproject import torch_pins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from build.base.store import BaseContents, Facts
    from build.source.listing import Apart
    from build.vllm.pyproject import Pyproject

_PYPROJECT = "pyproject.toml"
_NAMED = 5
_TOLD = 20


@dataclass(frozen=True, kw_only=True)
class Delta:
    """The changes of an overlay to its base.

    Attributes:
        written: Files to write, by path.
        deleted: Files of the base to delete, sorted.
        native: Changed paths that decide what is compiled, sorted. If any, the base cannot be used.
        dependencies: Requirement lines of the target that the base does not meet.
        constraints: Constraints for an installation.
        metadata: Changed paths that decide entry points or package data, sorted.
        left_out: Number of changed files that are not carried, by top-level entry.
        named: Reasons by path for other files that are not carried: submodules, and parts of a working tree.
        present: All paths of the target tree that the image will hold.
        packages: Carried top-level packages and modules that the base's commit lacks, sorted: its installation does not
            find them.
    """

    written: Mapping[str, Entry]
    deleted: tuple[str, ...]
    native: tuple[str, ...]
    dependencies: tuple[str, ...]
    constraints: tuple[str, ...]
    metadata: tuple[str, ...]
    left_out: Mapping[str, int]
    named: Mapping[str, str]
    present: frozenset[str]
    packages: tuple[str, ...]

    @property
    def verdict(self) -> PathClass:
        """The gravest class among the changes."""
        if self.native:
            return PathClass.NATIVE
        if self.dependencies:
            return PathClass.DEPENDENCIES
        return PathClass.METADATA if self.metadata else PathClass.PYTHON

    @property
    def left_out_text(self) -> str:
        """The files that are not carried, in words."""
        parts = [f"{name} ({count} changed)" for name, count in sorted(self.left_out.items())]
        parts += [f"{path} ({why})" for path, why in sorted(self.named.items())]
        more = [f"{len(parts) - _TOLD} more"] if len(parts) > _TOLD else []
        return ", ".join((*parts[:_TOLD], *more))

    @property
    def fingerprint(self) -> str:
        """The digest of written and deleted files."""
        rows = [f"{entry.mode} {entry.oid} {path}" for path, entry in sorted(self.written.items())]
        text = "\0".join((*rows, "", *self.deleted))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def document(self, *, size: int) -> dict[str, Any]:
        """Return the delta for ``plan --json``."""
        return {
            "verdict": self.verdict,
            "native": list(self.native),
            "dependencies": list(self.dependencies),
            "metadata": list(self.metadata),
            "left_out": dict(self.left_out),
            "not_carried": dict(self.named),
            "written": len(self.written),
            "deleted": len(self.deleted),
            "bytes": size,
        }


def _never(_path: str, _old: Entry, _new: Entry) -> bool:
    """Treat every difference as a change."""
    return False


def between(
    base: BaseContents,
    target: Listing,
    *,
    pyproject: Pyproject,
    requires: Sequence[str],
    carried: frozenset[str] = frozenset(),
    apart: Apart = NOTHING_APART,
    same: Callable[[str, Entry, Entry], bool] = _never,
) -> Delta:
    """Return the delta that turns a base into the target.

    Only top-level entries of the base are carried: an image without ``tests`` gets none. Files made by the build stay.

    Args:
        base: The base.
        target: All files and trees of the target commit.
        pyproject: pyproject.toml of the target.
        requires: Requirement lines of the target.
        carried: Top-level entries to carry although the base does not hold them.
        apart: Parts of the target's working tree that are not in its tree.
        same: Tells whether a native file has the same effect in both trees.
    """
    held, kept = base.held.files, base.held.top_level | carried
    inside = {path: entry for path, entry in target.files.items() if path.partition("/")[0] in kept}
    built = inside.keys() & _built(base)
    # Every overlay has its own version file, even where one is tracked.
    untouched = built | {version.FILE}
    wanted = {path: entry for path, entry in inside.items() if entry.mode != SUBMODULE and path not in untouched}
    classes = _classes(base.facts, base.tree, target)
    unmet = requirements.news(requires, base.facts.installed, known=base.facts.unmet)
    compiled = _compiled(classes, base.tree, target, same)
    native = built | compiled | _other_torch(base.facts, target, pyproject) | _unmet_torch(base.facts, unmet)
    submodules = {path for path in classes.keys() & inside.keys() if inside[path].mode == SUBMODULE}
    return Delta(
        written={path: entry for path, entry in wanted.items() if held.get(path) != entry},
        deleted=tuple(sorted(held.keys() - wanted.keys() - untouched)),
        native=tuple(sorted(native)),
        dependencies=tuple(line for line in unmet if requirements.name(line) != "torch"),
        constraints=requirements.constraints(requires, base.facts.installed),
        metadata=tuple(sorted(p for p, kind in classes.items() if kind is PathClass.METADATA and p not in native)),
        left_out=_left_out(classes.keys() & target.files.keys() - wanted.keys() - submodules) + Counter(apart.counted),
        named={**dict.fromkeys(submodules, "a submodule"), **apart.named},
        present=frozenset(wanted),
        packages=tuple(sorted(_modules(wanted, within=carried - base.tree.top_level))),
    )


def _compiled(
    classes: Mapping[str, PathClass], old: Listing, new: Listing, same: Callable[[str, Entry, Entry], bool]
) -> set[str]:
    """Return the changed files that decide what is compiled, without those of the same effect."""

    def alike(path: str) -> bool:
        before, after = old.files.get(path), new.files.get(path)
        return before is not None and after is not None and same(path, before, after)

    return {path for path, kind in classes.items() if kind is PathClass.NATIVE and not alike(path)}


def _other_torch(facts: Facts, target: Listing, pyproject: Pyproject) -> set[str]:
    """Return pyproject.toml if it pins another torch for the build. Without a pin, the compiled code fits any."""
    pinned_alike = torch_pins(pyproject.build_requires) <= torch_pins(facts.build_requires)
    return set() if pinned_alike and _PYPROJECT in target.files else {_PYPROJECT}


def _unmet_torch(facts: Facts, unmet: Iterable[str]) -> set[str]:
    """Return the requirements file if it requires another torch: compiled code fits only one version."""
    return {requirements.file_of(facts.flavor) for line in unmet if requirements.name(line) == "torch"}


def _modules(paths: Iterable[str], *, within: frozenset[str]) -> set[str]:
    """Return the top-level files and folders that Python can import."""
    tops = {path.partition("/")[0] for path in paths if path.endswith(".py")}
    return {top for top in tops & within if top.removesuffix(".py").isidentifier()}


def _left_out(paths: Iterable[str]) -> Counter[str]:
    return Counter(path.partition("/")[0] for path in paths)


def _built(base: BaseContents) -> set[str]:
    """Return the build's files and their folders, without files that the base's commit tracks."""
    places = {place for made in base.facts.made_by_build for place in (made, *map(str, PurePosixPath(made).parents))}
    return places - base.tree.files.keys()


def native_paths(facts: Facts, old: Listing, new: Listing) -> set[str]:
    """Return paths that differ between two trees and decide what is compiled for a base with these facts.

    The torch pin in pyproject.toml is not compared.
    """
    return {path for path, kind in _classes(facts, old, new).items() if kind is PathClass.NATIVE}


def _classes(facts: Facts, old: Listing, new: Listing) -> dict[str, PathClass]:
    """Return the class of each path that differs between two trees."""
    before, after = old.files, new.files
    return {
        path: classify(path, has_rust=facts.has_rust, tracked=path in before)
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    }


def refusal(
    delta: Delta, base_name: str, *, remedy: str, only_comments: frozenset[str] = frozenset()
) -> IncompatibleError:
    """Return the error for a delta that compiled binaries or installed packages rule out.

    Args:
        delta: A delta with native changes or unmet requirements.
        base_name: Name of the base.
        remedy: How to get a base with other native sources, in words.
        only_comments: Native files that differ from the base's in comments only.
    """
    if delta.native:
        words = tuple(f"{path} (only in comments)" if path in only_comments else path for path in delta.native)
        return IncompatibleError(
            f"native sources differ from {base_name}, the nearest base: {_some(words)}",
            hint=_native_hint(delta, remedy, only_comments),
        )
    return IncompatibleError(
        f"base {base_name} lacks what the commit requires: {_some(delta.dependencies)}",
        hint="--install-deps installs it into the overlay; `python -m build nightly` builds a newer base",
    )


def _native_hint(delta: Delta, remedy: str, only_comments: frozenset[str]) -> str:
    return remark(delta, only_comments) or f"{remedy}; --allow-native makes the overlay all the same"


def remark(delta: Delta, only_comments: frozenset[str]) -> str | None:
    """Return the remedy for native differences that another base does not solve; None if another base helps.

    Args:
        delta: The delta.
        only_comments: Native files that differ from the base's in comments only.
    """
    if made := [path for path in delta.native if made_by_build(path)]:
        return (
            f"vLLM's build makes {made[0]}, which the commit tracks: `git rm --cached {made[0]}` and a line in "
            ".gitignore leave it to the build"
        )
    if delta.native and only_comments.issuperset(delta.native):
        return "only comments differ, so the base's binaries do the same: --allow-native makes the overlay"
    return None


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} ({len(names)} in all)"
