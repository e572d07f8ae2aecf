"""A commit of a vLLM tree, and what decides whether images of other commits can become it."""

from __future__ import annotations

import functools
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build import requirements
from build.delta import Delta, between
from build.errors import SourceError
from build.listing import SUBMODULE, SYMLINK
from build.pyproject import Pyproject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from build.base import Contents
    from build.git import Commit, Repository
    from build.listing import Listing

_LINKS = 8
"""Symbolic links that are followed one after the other."""


def at_hand(_oids: Iterable[str]) -> None:
    """A local repository has its blobs."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A commit that an image is to hold, or holds.

    Attributes:
        source: Repository of the commit.
        commit: The commit.
        tree: All its files and trees.
        fetch: Makes sure that the source has some blobs.
        published: Whether it came from a remote, which others can fetch it from too.
    """

    source: Repository
    commit: Commit
    tree: Listing
    fetch: Callable[[Iterable[str]], None]
    published: bool

    @classmethod
    def of(
        cls,
        source: Repository,
        commit: Commit,
        *,
        fetch: Callable[[Iterable[str]], None] = at_hand,
        published: bool = False,
    ) -> Target:
        """Read the commit's tree."""
        return cls(source=source, commit=commit, tree=source.listing(commit), fetch=fetch, published=published)

    def text(self, path: str) -> str | None:
        """Content of one text file, behind symbolic links; None where there is none."""
        for _ in range(_LINKS):
            entry = self.tree.files.get(path)
            if entry is None or entry.mode == SUBMODULE:
                return None
            with self.source.blob(entry.oid) as (_, content):
                text = content.read().decode(errors="replace")
            if entry.mode != SYMLINK:
                return text
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
        return None

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
            SourceError: There is nothing of that name to be carried, or its pyproject.toml cannot be read, or a blob
                cannot be had.
        """
        if absent := sorted(carried - self.tree.top_level):
            raise SourceError(
                f"{self.commit.short} has no top-level {', '.join(map(repr, absent))}",
                hint=f"--with takes one of {', '.join(sorted(self.tree.top_level - base.held.top_level)) or 'nothing'}",
            )
        pyproject, requires = self.pyproject, self.requires(base.facts.flavor)
        return between(base, self.tree, pyproject=pyproject, requires=requires, carried=carried)
