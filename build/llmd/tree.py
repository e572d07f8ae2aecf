"""The tree of llm-d/llm-d that a CUDA base is built from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build.config.folders import REPOSITORY
from build.errors import SourceError
from build.host import scratch
from build.host.unpack import unpack
from build.llmd import versions
from build.llmd.dockerfile import Dockerfile
from build.llmd.versions import Stated
from build.source.git import Git, GitError
from build.source.listing import SUBMODULE
from build.source.mirror import Mirror, Remote
from build.source.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from build.console import Console
    from build.source.repository import Commit

DOCKERFILE = "docker/Dockerfile.cuda"
VERSIONS = ("docker/vllm-version", "docker/common-versions")
"""Files with the versions that the Dockerfile has no default for. Trees of early 2026 have the first."""

CONSTRAINTS = ("docker/constraints.txt", "docker/overrides.txt", "docker/build-constraints.txt")
"""Files that constrain the tree's installations: constraints, overrides, and constraints of builds."""

_SEARCHED = 50
"""Number of commits of a tree's history that are searched for a fitting one."""
_READ = (".", ":(exclude,top)*.rpm", ":(exclude,top)*.whl", ":(exclude,top)docs", ":(exclude,top)guides")

_SUBMODULE = "llm-d"
_ELSEWHERE = "give another tree with --llm-d PATH"


@dataclass(frozen=True, kw_only=True)
class Tree:
    """An llm-d tree on disk.

    Attributes:
        path: Folder of the tree, the build context.
        commit: Checked-out commit; None if unknown.
        history: Working tree of a repository with the history; None if unknown.
        dirty: Whether it has uncommitted work.
    """

    path: Path
    commit: str | None
    history: Path | None = None
    dirty: bool = False

    @property
    def dockerfile(self) -> Dockerfile:
        """The Dockerfile of the CUDA image.

        Raises:
            SourceError: The file is not readable.
        """
        return Dockerfile.read(self.path / DOCKERFILE, name=DOCKERFILE)

    @property
    def stated(self) -> Stated:
        """The versions stated outside the Dockerfile.

        Raises:
            SourceError: A file is not readable.
        """
        found = Stated()
        for name in VERSIONS:
            found = found.then(versions.read(self.path / name, name=name))
        return found

    def text(self, name: str) -> str | None:
        """Return a text file by its path in the tree, or None if it is missing or not text."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def scripts_of(self, dockerfile: Dockerfile) -> Iterator[tuple[str, str]]:
        """Yield what a build runs: the shell scripts that the Dockerfile names or copies, then its own steps.

        Args:
            dockerfile: Dockerfile of the tree, reduced to the built stage.

        Yields:
            Place and text.
        """
        used = " ".join(one.text for one in dockerfile.instructions if one.keyword in {"COPY", "ADD", "RUN"})
        words = {word.strip("\"'[],").removeprefix("./").rstrip("/") for word in re.split(r"[\s=,]+", used)}
        for path in sorted(self.path.glob("**/*.sh")):
            name = path.relative_to(self.path).as_posix()
            parents = {name[: match.start()] for match in re.finditer("/", name)}
            if words & {name, *parents, "."} and (text := self.text(name)) is not None:
                yield name, text
        for one in dockerfile.instructions:
            if one.keyword == "RUN":
                yield f"{dockerfile.name}:{one.line}", one.text

    def past(self) -> Iterator[Tree]:
        """Yield other trees of its repository: the newest of its branch first, then those of any branch."""
        repository = _own_repository(self.history) if self.history else None
        if repository is None:
            return
        with contextlib.closing(repository):
            for oid in repository.changing((DOCKERFILE, *CONSTRAINTS, *VERSIONS), most=_SEARCHED):
                with contextlib.suppress(SourceError), _extracted(repository, repository.commit(oid), _READ) as folder:
                    yield Tree(path=folder, commit=oid)

    @property
    def revision(self) -> str:
        """The commit for a label, with ``-dirty`` for uncommitted work."""
        return f"{self.commit or 'unknown'}{'-dirty' if self.dirty else ''}"

    def digest(self) -> str:
        """Return a digest of every file's path, execute permission and content."""
        found = hashlib.sha256()
        for place, folders, names in os.walk(self.path):
            folders[:] = sorted(folder for folder in folders if folder != ".git")
            for path in (Path(place, name) for name in sorted(names) if name != ".git"):
                content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
                head = f"{path.relative_to(self.path)}\0{os.access(path, os.X_OK)}\0{len(content)}\0"
                found.update(head.encode("utf-8", "surrogateescape") + content)
        return found.hexdigest()


@contextlib.contextmanager
def open_tree(
    path: Path | None, ref: str | None, *, cache: Path, console: Console, home: Path = REPOSITORY
) -> Iterator[Tree]:
    """Open an llm-d tree.

    Args:
        path: Folder of the tree; None for the submodule, which is initialised if it is missing.
        ref: Branch, tag or id in its repository or remote; None for the folder's present state.
        cache: Folder for fetched commits.
        console: Console for progress.
        home: Repository with the submodule.

    Raises:
        SourceError: The tree or commit does not exist, or fetching it failed.
    """
    place = path.expanduser().absolute() if path else home / _SUBMODULE
    if path is None and not (place / DOCKERFILE).is_file():
        _initialise(home, console)
    if ref is None:
        yield _as_it_lies(place)
        return
    with console.step(f"llm-d at {ref}"), _repository_of(place, ref, cache=cache, console=console, home=home) as found:
        repository, commit = found
        with _extracted(repository, commit) as folder:
            _require_dockerfile(folder, of=f"llm-d at {ref}")
            yield Tree(path=folder, commit=commit.id, history=place)


def _as_it_lies(place: Path) -> Tree:
    _require_dockerfile(place, of=str(place))
    repository = _own_repository(place)
    if repository is None:
        return Tree(path=place, commit=None)
    with contextlib.closing(repository):
        return Tree(path=place, commit=repository.commit("HEAD").id, history=place, dirty=repository.is_dirty)


def _require_dockerfile(folder: Path, *, of: str) -> None:
    if not (folder / DOCKERFILE).is_file():
        raise SourceError(f"{of} is not an llm-d tree: it has no {DOCKERFILE}", hint=_ELSEWHERE)


def _own_repository(place: Path) -> Repository | None:
    """Return the repository whose working tree this folder is. A repository around the folder does not count."""
    if not (place / ".git").exists():
        return None
    return Repository(place)


def _initialise(home: Path, console: Console) -> None:
    with console.step("fetch llm-d"):
        git = Git.reaching(None, name=str(home)).given({}, cwd=home)
        try:
            git.output("submodule", "update", "--init", "--", _SUBMODULE)
        except GitError as failure:
            said = failure.text.splitlines()
            errors = [line for line in said if line.startswith(("fatal:", "error:"))] or said[-1:]
            raise SourceError(
                f"the submodule {_SUBMODULE} is missing, and fetching it failed: {next(iter(errors), 'no message')}",
                hint=f"check the network and proxies; {_ELSEWHERE}",
            ) from failure


@contextlib.contextmanager
def _repository_of(
    place: Path, ref: str, *, cache: Path, console: Console, home: Path
) -> Iterator[tuple[Repository, Commit]]:
    """Open a repository with the commit and its files: the tree's own, else a mirror that fetches it."""
    if own := _own_repository(place):
        with contextlib.closing(own):
            if known := _known(own, ref):
                yield own, known
                return
    remote = Remote(name="llm-d", address=_address(place, home))
    mirror = Mirror(cache / "llm-d.git", console=console)
    commit = mirror.commit(remote, ref)
    with contextlib.closing(Repository(mirror.path)) as fetched:
        files = fetched.listing(commit).files.values()
        mirror.fetch_blobs(remote, (entry.oid for entry in files if entry.mode != SUBMODULE))
        yield fetched, commit


def _known(repository: Repository, ref: str) -> Commit | None:
    try:
        return repository.commit(ref)
    except SourceError:
        return None


def _address(place: Path, home: Path) -> str:
    """Return the address that the tree was cloned from."""
    repository = _own_repository(place)
    if repository:
        with contextlib.closing(repository):
            if repository.origin:
                return repository.origin
    words = ("config", "--file", home / ".gitmodules", f"submodule.{_SUBMODULE}.url")
    with contextlib.suppress(GitError):
        return Git.sealed(Path(os.devnull)).text(*words)
    raise SourceError(f"the repository of {place} has no origin", hint="check out the commit there yourself")


@contextlib.contextmanager
def _extracted(repository: Repository, commit: Commit, paths: Sequence[str] = ()) -> Iterator[Path]:
    with scratch.folder() as name:
        archive, folder = Path(name) / "tree.tar", Path(name) / "llm-d"
        repository.archive(commit, archive, paths=paths or (".",))
        try:
            with tarfile.open(archive) as tar:
                unpack(tar, folder)
        except tarfile.TarError as error:
            raise SourceError(
                f"llm-d {commit.short} cannot be unpacked: {error}", hint="another --llm-d-ref, or --llm-d FOLDER"
            ) from error
        yield folder
