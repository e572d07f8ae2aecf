"""What an overlay adds to its base, as one archive: changed files, version file, entry points, git directory."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from build.base.store import PYTHON, SOURCE
from build.errors import SourceError
from build.host import scratch
from build.layer import gitdir
from build.layer.archive import Tarball
from build.layer.gitdir import State
from build.source.listing import EXECUTABLE, REGULAR, SYMLINK
from build.source.repository import require_size
from build.vllm import version
from build.vllm.pyproject import installed_programs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

    from build.base.store import Base
    from build.overlay.delta import Delta
    from build.overlay.overlay import Overlay

_ROOT = SOURCE.relative_to("/")


def write(stream: IO[bytes], overlay: Overlay) -> None:
    """Write the layer of an image: with the deletions, and every folder on the way as the base has it.

    Contents are streamed from the repository, one file at a time. The same overlay gives the same bytes.
    """
    base, timestamp = overlay.base, overlay.target.commit.timestamp
    owner, folders = base.facts.owner, base.facts.folders
    with Tarball(stream, owner=owner, timestamp=timestamp, existing=frozenset(), folders=folders) as tarball:
        for path in _vanishing(base, overlay.delta):
            tarball.delete(_ROOT / path)
        for program in removed_programs(overlay):
            tarball.delete(program.relative_to("/"))
        _add_everything(tarball, overlay)


def write_addition(stream: IO[bytes], overlay: Overlay) -> None:
    """Write an archive to be unpacked over the base, where what the commit deletes is gone already."""
    base, timestamp = overlay.base, overlay.target.commit.timestamp
    existing = _existing_folders(base, gone=frozenset(overlay.delta.deleted))
    owner, folders = base.facts.owner, base.facts.folders
    with Tarball(stream, owner=owner, timestamp=timestamp, existing=existing, folders=folders) as tarball:
        _add_everything(tarball, overlay)


def _add_everything(tarball: Tarball, overlay: Overlay) -> None:
    commit = overlay.target.commit
    written = overlay.delta.written
    require_size(sum(overlay.target.source.sizes(entry.oid for entry in written.values())), of=commit.short)
    for path, entry in sorted(written.items()):
        with overlay.target.source.blob(entry.oid) as (size, content):
            tarball.add(_ROOT / path, size, content, mode=entry.mode)
    tarball.add_bytes(_ROOT / version.FILE, version.module(overlay.version, commit.id), mode=REGULAR)
    for place, text, mode in _entry_points(overlay):
        tarball.add_bytes(place, text, mode=mode)
    for place, text, mode in _carried(overlay):
        tarball.add_bytes(place, text, mode=mode)
    with scratch.folder() as folder:
        target = Path(folder) / ".git"
        base = overlay.base
        gitdir.write_move(
            target,
            source=overlay.target.source,
            old=State(commit=base.facts.commit, tree=base.tree, present=frozenset(base.held.files)),
            new=State(commit=commit.id, tree=overlay.target.tree, present=overlay.delta.present),
            complete=base.facts.own_git,
            published=overlay.target.published,
        )
        tarball.add_tree(_ROOT / ".git", target, mode=REGULAR)


def _vanishing(base: Base, delta: Delta) -> list[str]:
    """Files and folders of the source that are to disappear, sorted.

    A folder goes as a whole where nothing is left in it: what stayed of it would import, as a namespace package. A
    file goes with its bytecode. A path that comes back as something else, or below something that was a folder and
    becomes a file, is hidden by what comes.
    """
    staying = base.held.files.keys() - set(delta.deleted)
    remaining = _folders_of((*staying, *base.facts.made_by_build, *delta.written))
    hidden = delta.written.keys() | remaining
    gone: set[str] = set()
    for path in delta.deleted:
        *parents, _ = _beginnings(path)
        if not any(folder in delta.written for folder in parents):
            top = next((folder for folder in parents if folder not in remaining), path)
            gone.update({top} if top != path else _with_bytecode(path, base))
    return sorted(gone - hidden)


def _beginnings(path: str) -> list[str]:
    """``a``, ``a/b``, ``a/b/c`` of ``a/b/c``."""
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _with_bytecode(path: str, base: Base) -> set[str]:
    """A file and its bytecode, if it has any: what hides a file that is not there shows as one that cannot be read."""
    folder, _, name = path.rpartition("/")
    major, minor, *_ = base.facts.python.split(".")
    # CPython's name of a module compiled without optimisation (PEP 3147), which is what sealing makes.
    compiled = f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-{major}{minor}.pyc".lstrip("/")
    return {path, compiled} if name.endswith(".py") and compiled in base.compiled else {path}


def _folders_of(paths: Iterable[str]) -> frozenset[str]:
    folders = {""}
    for path in paths:
        folder = path.rpartition("/")[0]
        # Text, not paths: there are thousands, and nearly all are in a folder that is known already.
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return frozenset(folders)


_SCRIPT = """\
#!{python}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({function}())
"""
_PROGRAMS = PYTHON.parent

# What a program may be called and a Python name is (the entry points specification recommends no other names).
_PROGRAM = re.compile(r"[\w.-]*\w[\w.-]*", re.ASCII)
_FUNCTION = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<function>(?P<name>\w+)[\w.]*)\s*(?:\[.*\])?")


def removed_programs(overlay: Overlay) -> list[PurePosixPath]:
    """Programs that the base has installed and the commit does not declare any more."""
    had, wanted = installed_programs(overlay.base.facts.entry_points), overlay.target.pyproject.programs
    return [_PROGRAMS / name for name in had if name in overlay.base.facts.programs and name not in wanted]


def _entry_points(overlay: Overlay) -> Iterator[tuple[PurePosixPath, bytes, str]]:
    """Path, content and mode of what an installation would make of changed entry points."""
    facts, pyproject = overlay.base.facts, overlay.target.pyproject
    text = pyproject.entry_points_text
    if text == facts.entry_points or facts.metadata is None:
        return
    yield PurePosixPath(facts.metadata).relative_to("/") / "entry_points.txt", text.encode(), REGULAR
    for name, target in sorted(pyproject.programs.items()):
        yield _PROGRAMS.relative_to("/") / name, _script(name, target), EXECUTABLE


_CARRIED = "llm_d_dev_carried"
"""Folder of links to packages that the base's editable installation does not find."""


def _carried(overlay: Overlay) -> Iterator[tuple[PurePosixPath, bytes, str]]:
    """Path, content and mode of what makes new top-level packages importable.

    An editable installation finds the packages that were there when it was made (setuptools 80, editable_wheel.py), and
    the source folder as a whole would make ``tests`` and ``tools`` importable too. A path file adds a folder to the end
    of ``sys.path`` (Python's ``site``), where it hides nothing that is installed.
    """
    if not overlay.delta.packages:
        return
    site = _site_packages(overlay.base)
    yield site / f"{_CARRIED}.pth", f"{_CARRIED}\n".encode(), REGULAR
    for name in overlay.delta.packages:
        yield site / _CARRIED / name, str(SOURCE / name).encode(), SYMLINK


def _site_packages(base: Base) -> PurePosixPath:
    """Where the base has vLLM's metadata, below the root."""
    if base.facts.metadata:
        return PurePosixPath(base.facts.metadata).parent.relative_to("/")
    major, minor, *_ = base.facts.python.split(".")
    return PYTHON.parents[1].relative_to("/") / f"lib/python{major}.{minor}/site-packages"


def _script(name: str, target: str) -> bytes:
    """The program that an installation makes of a console script."""
    parts = _FUNCTION.fullmatch(target)
    if parts is None or not _PROGRAM.fullmatch(name):
        raise SourceError(
            f"pyproject.toml: {name!r} = {target!r} is no program", hint='such as `vllm = "vllm.main:main"`'
        )
    return _SCRIPT.format(python=PYTHON, **parts.groupdict()).encode()


def _existing_folders(base: Base, *, gone: frozenset[str]) -> frozenset[str]:
    """Folders that an image of the base has when these files are deleted, and the folders with them that are empty."""
    source = str(SOURCE).lstrip("/")
    paths = [f"{source}/{path}" for path in (*(base.held.files.keys() - gone), *base.facts.made_by_build)]
    # What every git directory has (gitrepository-layout(5)).
    paths += [f"{source}/.git/{name}" for name in ("HEAD", "objects/pack/x", "refs/heads/x")]
    paths.append(str(PYTHON).lstrip("/"))
    paths.append(f"{_site_packages(base)}/x.pth")
    if base.facts.metadata:
        paths.append(f"{base.facts.metadata}/entry_points.txt".lstrip("/"))
    return _folders_of(paths)
