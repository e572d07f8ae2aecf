"""A commit of a vLLM tree, and what decides whether images of other commits can become it."""

from __future__ import annotations

import functools
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import SourceError
from build.source.listing import NOTHING_APART, SUBMODULE, SYMLINK
from build.vllm import requirements
from build.vllm.pyproject import Pyproject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from build.source.listing import Apart, Listing
    from build.source.repository import Commit, Repository

_PACKAGE = "vllm/__init__.py"

_TEXT_BYTES = 4 * 2**20
"""Of a file that is read as text: vLLM's longest is 0.5 MB."""

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
            raise self.not_vllm(f"it has no {_PACKAGE}")

    def text(self, path: str) -> str | None:
        """Content of one text file, behind symbolic links; None where there is none."""
        for _ in range(_LINKS):
            entry = self.tree.files.get(path)
            if entry is None or entry.mode == SUBMODULE:
                return None
            text = self.content(entry.oid, of=path)
            if entry.mode != SYMLINK:
                return text
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
        return None

    def content(self, oid: str, *, of: str) -> str:
        """Content of one text file of any commit.

        Args:
            oid: Its blob.
            of: What errors call it.

        Raises:
            SourceError: It cannot be had, or is larger than text is.
        """
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
        """Its requirement lines, as :func:`build.vllm.requirements.of_tree` has them.

        Raises:
            SourceError: Its pyproject.toml cannot be read.
        """
        return requirements.of_tree(self.text, flavor, self.pyproject)

    def _fetch_decisive(self) -> None:
        """Have what :attr:`pyproject` and :meth:`requires` read, all at once."""
        decisive = (path for path in self.tree.files if path == "pyproject.toml" or path.startswith("requirements/"))
        self.fetch([self.tree.files[path].oid for path in decisive if self.tree.files[path].mode != SUBMODULE])

    def not_vllm(self, why: str) -> SourceError:
        """Why the tree is refused."""
        return SourceError(
            f"{self.source.path} is not a vLLM tree at {self.commit.short}: {why}",
            hint="give the path of a vLLM clone: `dev -- PATH [REF]`",
        )
