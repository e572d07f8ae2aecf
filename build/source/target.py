"""A vLLM commit with the facts for comparing it with bases."""

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
"""Maximum size of a text file. vLLM's largest is 0.5 MB."""

_LINKS = 8
"""Maximum length of a chain of symbolic links."""


def at_hand(_oids: Iterable[str]) -> None:
    """Do nothing: a local repository has its blobs."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The commit of an image that exists or is to be built.

    Attributes:
        source: Repository of the commit.
        commit: The commit.
        tree: All files and trees of the commit.
        fetch: Ensures that the source has some blobs.
        published: Whether it came from a remote, so that others can fetch it too.
        apart: Files of the working tree that are left out, if it is uncommitted work.
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
            SourceError: The package is missing.
        """
        if _PACKAGE not in self.tree.files:
            raise self.not_vllm(f"it has no {_PACKAGE}")

    def text(self, path: str) -> str | None:
        """Return a text file of the tree, following symbolic links, or None without such a file."""
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
        """Return a text file of any commit.

        Args:
            oid: Blob of the file.
            of: Name in errors.

        Raises:
            SourceError: The blob is not available, or too large.
        """
        with self.source.blob(oid) as (size, content):
            if size > _TEXT_BYTES:
                raise SourceError(
                    f"{of} of {self.commit.short} has {size / 1e6:.0f} MB, too much for a text file",
                    hint="the limit is 4 MB: check the commit",
                )
            return content.read().decode(errors="replace")

    @functools.cached_property
    def pyproject(self) -> Pyproject:
        """The pyproject.toml of the commit.

        Raises:
            SourceError: The file is unreadable or not valid.
        """
        self._fetch_decisive()
        try:
            return Pyproject.parse(self.text("pyproject.toml") or "")
        except ValueError as error:
            raise SourceError(
                f"the pyproject.toml of {self.commit.short} cannot be read: {error}",
                hint="check it with `pip install --editable`",
            ) from error

    def requires(self, flavor: str) -> list[str]:
        """Return its requirement lines (:func:`build.vllm.requirements.of_tree`).

        Raises:
            SourceError: The pyproject.toml is unreadable or not valid.
        """
        return requirements.of_tree(self.text, flavor, self.pyproject)

    def _fetch_decisive(self) -> None:
        """Fetch the files that :attr:`pyproject` and :meth:`requires` read, all at once."""
        decisive = (path for path in self.tree.files if path == "pyproject.toml" or path.startswith("requirements/"))
        self.fetch([self.tree.files[path].oid for path in decisive if self.tree.files[path].mode != SUBMODULE])

    def not_vllm(self, why: str) -> SourceError:
        """Return the error for a tree that is not vLLM's."""
        return SourceError(
            f"{self.source.path} is not a vLLM tree at {self.commit.short}: {why}",
            hint="give the path of a vLLM clone: `dev -- PATH [REF]`",
        )
