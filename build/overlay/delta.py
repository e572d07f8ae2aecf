"""The difference between a base and a target tree, and whether it can be an overlay."""

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
    """What an overlay has to change in a base.

    Attributes:
        written: Files to write, by path.
        deleted: Files of the base to delete, sorted.
        native: Changed paths that decide what is compiled, sorted. Not empty: the base cannot be used.
        dependencies: Requirement lines that the target has and the base does not meet.
        constraints: What has to stay true where something is installed.
        metadata: Changed paths that decide entry points or package data, sorted.
        left_out: How many files that the target changes are not carried, by top-level entry.
        named: Why something else is not carried, by path: submodules, and what of a working tree was not taken.
        present: All paths of the target tree that the image will hold.
        packages: Carried top-level packages and modules that the base's commit does not have, sorted: its installation
            does not find them.
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
        """What is not carried, for a person."""
        parts = [f"{name} ({count} changed)" for name, count in sorted(self.left_out.items())]
        parts += [f"{path} ({why})" for path, why in sorted(self.named.items())]
        more = [f"{len(parts) - _TOLD} more"] if len(parts) > _TOLD else []
        return ", ".join((*parts[:_TOLD], *more))

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
            "left_out": dict(self.left_out),
            "not_carried": dict(self.named),
            "written": len(self.written),
            "deleted": len(self.deleted),
            "bytes": size,
        }


def _never(_path: str, _old: Entry, _new: Entry) -> bool:
    """Whatever differs counts."""
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
    """What turns a base into the target.

    Only top-level entries that the base holds are carried: an image without ``tests`` gets none. What the build has
    made stays as it is.

    Args:
        base: What it starts from.
        target: All files and trees of the target commit.
        pyproject: The target's.
        requires: The target's requirement lines.
        carried: Top-level entries that are carried although the base does not hold them.
        apart: What of the target's working tree is not in its tree.
        same: Whether a native file decides the same in the base's tree and in the target's.
    """
    held, kept = base.held.files, base.held.top_level | carried
    inside = {path: entry for path, entry in target.files.items() if path.partition("/")[0] in kept}
    built = inside.keys() & _built(base)
    # Every overlay has a version file of its own, also where one is tracked.
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
    """Changed files that decide what is compiled, less those that decide the same."""

    def alike(path: str) -> bool:
        before, after = old.files.get(path), new.files.get(path)
        return before is not None and after is not None and same(path, before, after)

    return {path for path, kind in classes.items() if kind is PathClass.NATIVE and not alike(path)}


def _other_torch(facts: Facts, target: Listing, pyproject: Pyproject) -> set[str]:
    """pyproject.toml, where vLLM is to be compiled with another torch; without a pin what is compiled fits any."""
    pinned_alike = torch_pins(pyproject.build_requires) <= torch_pins(facts.build_requires)
    return set() if pinned_alike and _PYPROJECT in target.files else {_PYPROJECT}


def _unmet_torch(facts: Facts, unmet: Iterable[str]) -> set[str]:
    """The file of requirements, where it asks for another torch: compiled code fits one only."""
    return {requirements.file_of(facts.flavor) for line in unmet if requirements.name(line) == "torch"}


def _modules(paths: Iterable[str], *, within: frozenset[str]) -> set[str]:
    """Top-level files and folders among some that Python can import."""
    tops = {path.partition("/")[0] for path in paths if path.endswith(".py")}
    return {top for top in tops & within if top.removesuffix(".py").isidentifier()}


def _left_out(paths: Iterable[str]) -> Counter[str]:
    return Counter(path.partition("/")[0] for path in paths)


def _built(base: BaseContents) -> set[str]:
    """Files that the build has made and the folders that hold them, less what the base's commit tracks as a file."""
    places = {place for made in base.facts.made_by_build for place in (made, *map(str, PurePosixPath(made).parents))}
    return places - base.tree.files.keys()


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


def refusal(
    delta: Delta, base_name: str, *, remedy: str, only_comments: frozenset[str] = frozenset()
) -> IncompatibleError:
    """Why compiled binaries or installed packages stand against a delta, and what would help.

    Args:
        delta: One with native changes, or else with unmet requirements.
        base_name: What to call its base.
        remedy: What gives a base with other native sources, in words.
        only_comments: Native files whose code is the base's.
    """
    if delta.native:
        words = tuple(f"{path} (only in comments)" if path in only_comments else path for path in delta.native)
        return IncompatibleError(
            f"native sources differ from {base_name}, the nearest base: {_some(words)}",
            hint=_native_hint(delta, remedy, only_comments),
        )
    return IncompatibleError(
        f"base {base_name} lacks what the commit requires: {_some(delta.dependencies)}",
        hint="--install-deps installs it into the overlay; `python -m build nightly` makes a newer base",
    )


def _native_hint(delta: Delta, remedy: str, only_comments: frozenset[str]) -> str:
    return remark(delta, only_comments) or f"{remedy}; --allow-native makes the overlay all the same"


def remark(delta: Delta, only_comments: frozenset[str]) -> str | None:
    """What helps where native files differ and a base of other sources does not help; None where it does.

    Args:
        delta: What would change.
        only_comments: Native files whose code is the base's.
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
