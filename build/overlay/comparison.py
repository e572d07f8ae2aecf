"""The comparison of a target with a base, including the parts that need the contents of files."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from build.errors import SourceError
from build.overlay.delta import Delta, between
from build.source.listing import SUBMODULE
from build.vllm import comments, paths, requirements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from build.base.store import BaseContents
    from build.source.listing import Entry
    from build.source.target import Target

_COMPARED = 20
"""Number of native files up to which they are compared without their comments."""


def compare(target: Target, base: BaseContents, *, carried: frozenset[str] = frozenset()) -> Delta:
    """Return the delta that turns a base into a target.

    Args:
        target: The target.
        base: The base.
        carried: The same as for :func:`build.overlay.delta.between`.

    Raises:
        SourceError: The target is not vLLM's, a carried entry does not exist, or pyproject.toml or a blob cannot be
            read.
    """
    target.require_vllm()
    _require_kin(target, base)
    if absent := sorted(carried - target.tree.top_level):
        raise SourceError(
            f"{target.commit.short} has no top-level {', '.join(map(repr, absent))}",
            hint=f"--with takes one of {', '.join(sorted(target.tree.top_level - base.held.top_level)) or 'nothing'}",
        )
    pyproject, requires = target.pyproject, target.requires(base.facts.flavor)
    found = between(
        base,
        target.tree,
        pyproject=pyproject,
        requires=requires,
        carried=carried,
        apart=target.apart,
        same=functools.partial(_builds_alike, target),
    )
    _require_free(found.packages, base)
    return found


def _require_free(packages: Iterable[str], base: BaseContents) -> None:
    """Refuse a new package that another package of the same name would hide.

    Raises:
        SourceError: The standard library or an installed distribution has the name.
    """
    for name in (package.removesuffix(".py") for package in packages):
        if name in sys.stdlib_module_names or canonicalize_name(name) in base.facts.distributions:
            raise hidden(name)


def hidden(name: str) -> SourceError:
    """Return the error for a new package that another package of the same name would hide."""
    return SourceError(
        f"--with {name}: the image has another Python package {name}, which would be imported instead",
        hint="rename the package of the commit, or leave out --with",
    )


def _require_kin(target: Target, base: BaseContents) -> None:
    """Refuse another project's tree: all its native sources would differ.

    Raises:
        SourceError: The target has none of the base's native sources, or none of their folders.
    """
    native = {path for path in base.tree.files if paths.is_native(path)}
    if native and native.isdisjoint(target.tree.files):
        raise target.not_vllm("vLLM's native sources are missing")
    folders = paths.source_folders(base.tree.top_level)
    if folders and folders.isdisjoint(target.tree.top_level):
        raise target.not_vllm(f"the folders of vLLM's native sources are missing ({', '.join(sorted(folders))})")


def _builds_alike(target: Target, path: str, old: Entry, new: Entry) -> bool:
    """Return whether a changed file of build requirements only requires less of PyTorch."""
    if not requirements.is_for_build(path) or SUBMODULE in (old.mode, new.mode):
        return False
    try:
        return requirements.without_torch(target.content(old.oid, of=path), target.content(new.oid, of=path))
    except SourceError:
        # The base's file is not in this repository.
        return False


def comment_changes(target: Target, base: BaseContents, paths: Iterable[str]) -> frozenset[str]:
    """Return the changed files with the same code in a base, if there are few.

    Args:
        target: Tree with the files.
        base: Base to compare with.
        paths: Files of the target.
    """
    found = [path for path in paths if path in base.tree.files and path in target.tree.files]
    return (
        frozenset(path for path in found if _same_code(target, path, base)) if len(found) <= _COMPARED else frozenset()
    )


def _same_code(target: Target, path: str, base: BaseContents) -> bool:
    old, new = base.tree.files[path], target.tree.files[path]
    if old.mode != new.mode or old.mode == SUBMODULE:
        return False
    try:
        before = target.content(old.oid, of=path)
        target.fetch([new.oid])
        return comments.same_code(path, before, target.content(new.oid, of=path))
    except SourceError:
        return False
