"""A commit of a vLLM tree, and what decides whether images of other commits can become it."""

from __future__ import annotations

import functools
import posixpath
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from build import comments, compatibility, requirements
from build.delta import Delta, between
from build.errors import SourceError
from build.listing import NOTHING_APART, SUBMODULE, SYMLINK
from build.pyproject import Pyproject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from build.base import Contents
    from build.git import Commit, Repository
    from build.listing import Apart, Entry, Listing

_PACKAGE = "vllm/__init__.py"

_TEXT_BYTES = 4 * 2**20
"""Of a file that is read as text: vLLM's longest is 0.5 MB."""

_COMPARED = 20
"""Native files up to which they are compared without their comments."""

_LINKS = 8
"""Symbolic links that are followed one after the other."""


def at_hand(_oids: Iterable[str]) -> None:
    """A local repository has its blobs."""


def _require_free(packages: Iterable[str], base: Contents) -> None:
    """Refuse a new package that Python would not import, because it has another one of that name.

    Raises:
        SourceError: The standard library has one, or an installed distribution is called like it.
    """
    for name in (package.removesuffix(".py") for package in packages):
        if name in sys.stdlib_module_names or canonicalize_name(name) in base.facts.distributions:
            raise SourceError(
                f"--with {name}: the image has another Python package {name}, which would be imported instead",
                hint="rename the package of the commit, or leave out --with",
            )


@dataclass(frozen=True, kw_only=True)
class Target:
    """A commit that an image is to hold, or holds.

    Attributes:
        source: Repository of the commit.
        commit: The commit.
        tree: All its files and trees.
        fetch: Makes sure that the source has some blobs.
        published: Whether it came from a remote, which others can fetch it from too.
        apart: What of its working tree is not in it, if it is uncommitted work.
    """

    source: Repository
    commit: Commit
    tree: Listing
    fetch: Callable[[Iterable[str]], None]
    published: bool
    apart: Apart

    @classmethod
    def of(
        cls,
        source: Repository,
        commit: Commit,
        *,
        fetch: Callable[[Iterable[str]], None] = at_hand,
        published: bool = False,
        apart: Apart = NOTHING_APART,
    ) -> Target:
        """Read the commit's tree."""
        tree = source.listing(commit)
        return cls(source=source, commit=commit, tree=tree, fetch=fetch, published=published, apart=apart)

    def require_vllm(self) -> None:
        """Refuse a tree that is not vLLM's.

        Raises:
            SourceError: It does not have the package.
        """
        if _PACKAGE not in self.tree.files:
            raise self._not_vllm(f"it has no {_PACKAGE}")

    def text(self, path: str) -> str | None:
        """Content of one text file, behind symbolic links; None where there is none."""
        for _ in range(_LINKS):
            entry = self.tree.files.get(path)
            if entry is None or entry.mode == SUBMODULE:
                return None
            text = self._content(entry.oid, of=path)
            if entry.mode != SYMLINK:
                return text
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
        return None

    def _content(self, oid: str, *, of: str) -> str:
        with self.source.blob(oid) as (size, content):
            if size > _TEXT_BYTES:
                raise SourceError(
                    f"{of} of {self.commit.short} is {size / 1e6:.0f} MB", hint="it is read as text: up to 4 MB"
                )
            return content.read().decode(errors="replace")

    @functools.cached_property
    def pyproject(self) -> Pyproject:
        """The commit's pyproject.toml.

        Raises:
            SourceError: It cannot be read.
        """
        self._fetch_decisive()
        try:
            return Pyproject.parse(self.text("pyproject.toml") or "")
        except ValueError as error:
            raise SourceError(
                f"the pyproject.toml of {self.commit.short} cannot be read: {error}",
                hint="see what `pip install --editable` says of it",
            ) from error

    def requires(self, flavor: str) -> list[str]:
        """Its requirement lines, as :func:`build.requirements.of_tree` has them.

        Raises:
            SourceError: Its pyproject.toml cannot be read.
        """
        return requirements.of_tree(self.text, flavor, self.pyproject)

    def _fetch_decisive(self) -> None:
        """Have what :attr:`pyproject` and :meth:`requires` read, all at once."""
        decisive = (path for path in self.tree.files if path == "pyproject.toml" or path.startswith("requirements/"))
        self.fetch([self.tree.files[path].oid for path in decisive if self.tree.files[path].mode != SUBMODULE])

    def delta(self, base: Contents, *, carried: frozenset[str] = frozenset()) -> Delta:
        """What turns a base into this target.

        Args:
            base: What it starts from.
            carried: As :func:`build.delta.between` has it.

        Raises:
            SourceError: It is not vLLM's, there is nothing of that name to be carried, its pyproject.toml cannot be
                read, or a blob cannot be had.
        """
        self.require_vllm()
        self._require_kin(base)
        if absent := sorted(carried - self.tree.top_level):
            raise SourceError(
                f"{self.commit.short} has no top-level {', '.join(map(repr, absent))}",
                hint=f"--with takes one of {', '.join(sorted(self.tree.top_level - base.held.top_level)) or 'nothing'}",
            )
        pyproject, requires = self.pyproject, self.requires(base.facts.flavor)
        found = between(
            base,
            self.tree,
            pyproject=pyproject,
            requires=requires,
            carried=carried,
            apart=self.apart,
            same=self._builds_alike,
        )
        _require_free(found.packages, base)
        return found

    def _not_vllm(self, why: str) -> SourceError:
        return SourceError(
            f"{self.source.path} is not a vLLM tree at {self.commit.short}: {why}",
            hint="give the path of a vLLM clone: `dev -- PATH [REF]`",
        )

    def _require_kin(self, base: Contents) -> None:
        """Refuse another project's tree, of which every native source would differ.

        Raises:
            SourceError: It has none of the base's.
        """
        native = {path for path in base.tree.files if compatibility.is_native(path)}
        if native and native.isdisjoint(self.tree.files):
            raise self._not_vllm("it has none of vLLM's native sources")

    def _builds_alike(self, path: str, old: Entry, new: Entry) -> bool:
        """Whether a changed file of build requirements only asks for less of PyTorch."""
        if not requirements.is_for_build(path) or SUBMODULE in (old.mode, new.mode):
            return False
        try:
            return requirements.without_torch(self._content(old.oid, of=path), self._content(new.oid, of=path))
        except SourceError:
            # The base's file is not in this repository.
            return False

    def comment_changes(self, base: Contents, paths: Iterable[str]) -> frozenset[str]:
        """Those of some changed files that have the same code in a base, if there are few.

        Args:
            base: What they are compared with.
            paths: Files of the target.
        """
        found = [path for path in paths if path in base.tree.files and path in self.tree.files]
        return (
            frozenset(path for path in found if self._same_code(path, base)) if len(found) <= _COMPARED else frozenset()
        )

    def _same_code(self, path: str, base: Contents) -> bool:
        old, new = base.tree.files[path], self.tree.files[path]
        if old.mode != new.mode or old.mode == SUBMODULE:
            return False
        try:
            before = self._content(old.oid, of=path)
            self.fetch([new.oid])
            return comments.same_code(path, before, self._content(new.oid, of=path))
        except SourceError:
            return False
