"""The archive that an overlay adds to its base: changed files, version file, entry points, git directory."""

from __future__ import annotations

import io
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from build.errors import SourceError
from build.host import scratch
from build.layer import gitdir
from build.layer.archive import Tarball
from build.layer.gitdir import State
from build.source.listing import EXECUTABLE, REGULAR, SYMLINK
from build.source.repository import require_size
from build.vllm import version, wheel_record
from build.vllm.pyproject import installed_programs
from build.vllm.wheel_record import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

    from build.base.store import Base
    from build.overlay.delta import Delta
    from build.overlay.overlay import Overlay


def write(stream: IO[bytes], overlay: Overlay) -> None:
    """Write the layer of an image, with deletions and with the base's folders on the way.

    Contents are streamed from the repository, one file at a time. The same overlay gives the same bytes.
    """
    base, timestamp = overlay.base, overlay.target.commit.timestamp
    owner, folders = base.facts.owner, base.facts.folders
    with Tarball(stream, owner=owner, timestamp=timestamp, existing=frozenset(), folders=folders) as tarball:
        for path in _vanishing(base, overlay.delta):
            tarball.delete(_below_root(base.facts.layout.source / path))
        for program in removed_programs(overlay):
            tarball.delete(_below_root(program))
        _add_everything(tarball, overlay)


def write_addition(stream: IO[bytes], overlay: Overlay) -> None:
    """Write an archive to unpack over the base after the commit's deletions."""
    base, timestamp = overlay.base, overlay.target.commit.timestamp
    existing = _existing_folders(base, gone=frozenset(overlay.delta.deleted))
    owner, folders = base.facts.owner, base.facts.folders
    with Tarball(stream, owner=owner, timestamp=timestamp, existing=existing, folders=folders) as tarball:
        _add_everything(tarball, overlay)


def _add_everything(tarball: Tarball, overlay: Overlay) -> None:
    commit = overlay.target.commit
    written, layout = overlay.delta.written, overlay.base.facts.layout
    root = _below_root(layout.source)
    require_size(sum(overlay.target.source.sizes(entry.oid for entry in written.values())), of=commit.short)
    for path, entry in sorted(written.items()):
        with overlay.target.source.blob(entry.oid) as (size, content):
            tarball.add(root / path, size, content, mode=entry.mode)
    tarball.add_bytes(root / version.FILE, version.module(overlay.version, commit.id), mode=REGULAR)
    for place, text, mode in (*_entry_points(overlay), *_carried(overlay), *_record(overlay)):
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
        tarball.add_tree(_below_root(layout.git), target, mode=REGULAR)


def _below_root(path: PurePosixPath) -> PurePosixPath:
    """Return an absolute path as archives have it."""
    return path.relative_to("/")


def _vanishing(base: Base, delta: Delta) -> list[str]:
    """Return the source files and folders to delete, sorted.

    A folder without any remaining file is deleted as a whole, because Python would import it as a namespace package. A
    file is deleted with its bytecode. A path is left out if new content replaces it: as another type, or below a folder
    that becomes a file.
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
    """Return ``a``, ``a/b`` and ``a/b/c`` for ``a/b/c``."""
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _with_bytecode(path: str, base: Base) -> set[str]:
    """Return a file and its bytecode, if any: a deletion entry for a missing file would show as an unreadable one."""
    folder, _, name = path.rpartition("/")
    major, minor, *_ = base.facts.python.split(".")
    # CPython's file name of a module compiled without optimisation (PEP 3147), as sealing makes it.
    compiled = f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-{major}{minor}.pyc".lstrip("/")
    return {path, compiled} if name.endswith(".py") and compiled in base.compiled else {path}


def _folders_of(paths: Iterable[str]) -> frozenset[str]:
    folders = {""}
    for path in paths:
        folder = path.rpartition("/")[0]
        # Strings, not paths: there are thousands, and nearly all are in a known folder.
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

# Allowed names of programs and Python objects (the entry points specification recommends no other names).
_PROGRAM = re.compile(r"[\w.-]*\w[\w.-]*", re.ASCII)
_FUNCTION = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<function>(?P<name>\w+)[\w.]*)\s*(?:\[.*\])?")


def removed_programs(overlay: Overlay) -> list[PurePosixPath]:
    """Return the base's installed programs that the commit no longer declares."""
    had, wanted = installed_programs(overlay.base.facts.entry_points), overlay.target.pyproject.programs
    facts = overlay.base.facts
    return [facts.layout.programs / name for name in had if name in facts.programs and name not in wanted]


def _entry_points(overlay: Overlay) -> Iterator[tuple[PurePosixPath, bytes, str]]:
    """Yield path, content and mode of the files that an installation makes of changed entry points."""
    facts, pyproject = overlay.base.facts, overlay.target.pyproject
    text = pyproject.entry_points_text
    if text == facts.entry_points or facts.metadata is None:
        return
    yield PurePosixPath(facts.metadata).relative_to("/") / "entry_points.txt", text.encode(), REGULAR
    for name, target in sorted(pyproject.programs.items()):
        yield _below_root(facts.layout.programs) / name, _script(name, target, facts.layout.python), EXECUTABLE


_CARRIED = "llm_d_dev_carried"
"""Folder of links to packages that the base's editable installation does not find."""


def _carried(overlay: Overlay) -> Iterator[tuple[PurePosixPath, bytes, str]]:
    """Yield path, content and mode of the files that make new top-level packages importable.

    An editable installation finds the packages of its time (setuptools 80, editable_wheel.py), and the whole source
    folder would make ``tests`` and ``tools`` importable too. A path file adds a folder to the end of ``sys.path``
    (Python's ``site``), where it hides no installed package.
    """
    if not overlay.delta.packages:
        return
    site = site_packages(overlay.base)
    yield site / f"{_CARRIED}.pth", f"{_CARRIED}\n".encode(), REGULAR
    for name in overlay.delta.packages:
        yield site / _CARRIED / name, str(overlay.base.facts.layout.source / name).encode(), SYMLINK


def _record(overlay: Overlay) -> Iterator[tuple[PurePosixPath, bytes, str]]:
    """Yield path, content and mode of the rewritten ``RECORD`` of an installed wheel."""
    base, source, written = overlay.base, overlay.target.source, {}
    if not base.facts.record or base.facts.metadata is None:
        return
    for path, entry in overlay.delta.written.items():
        with source.blob(entry.oid) as (_, content):
            written[base.facts.layout.source / path] = Recorded.of(content)
    module = version.module(overlay.version, overlay.target.commit.id)
    texts = {base.facts.layout.source / version.FILE: module}
    texts |= {PurePosixPath("/", place): text for place, text, _ in _entry_points(overlay)}
    written |= {place: Recorded.of(io.BytesIO(text)) for place, text in texts.items()}
    gone = [base.facts.layout.source / path for path in _vanishing(base, overlay.delta)]
    text = wheel_record.rewritten(
        base.facts.record,
        folder=base.facts.layout.source,
        written=written,
        gone=[*gone, *removed_programs(overlay)],
    )
    yield _below_root(PurePosixPath(base.facts.metadata)) / "RECORD", text.encode(), REGULAR


def site_packages(base: Base) -> PurePosixPath:
    """Return the folder of vLLM's metadata in the base, below the root."""
    if base.facts.metadata:
        return PurePosixPath(base.facts.metadata).parent.relative_to("/")
    major, minor, *_ = base.facts.python.split(".")
    return _below_root(base.facts.layout.python.parents[1]) / f"lib/python{major}.{minor}/site-packages"


def _script(name: str, target: str, python: PurePosixPath) -> bytes:
    """Return the program that an installation makes of a console script."""
    parts = _FUNCTION.fullmatch(target)
    if parts is None or not _PROGRAM.fullmatch(name):
        raise SourceError(
            f"pyproject.toml: {name!r} = {target!r} is not an entry point", hint='such as `vllm = "vllm.main:main"`'
        )
    return _SCRIPT.format(python=python, **parts.groupdict()).encode()


def _existing_folders(base: Base, *, gone: frozenset[str]) -> frozenset[str]:
    """Return the folders of an image of the base after deletions and the removal of empty folders."""
    layout = base.facts.layout
    source, git = (str(place).lstrip("/") for place in (layout.source, layout.git))
    paths = [f"{source}/{path}" for path in (*(base.held.files.keys() - gone), *base.facts.made_by_build)]
    # The contents of every git directory (gitrepository-layout(5)).
    paths += [f"{git}/{name}" for name in ("HEAD", "objects/pack/x", "refs/heads/x")]
    paths += [str(layout.python).lstrip("/"), f"{layout.programs}/x".lstrip("/")]
    paths.append(f"{site_packages(base)}/x.pth")
    if base.facts.metadata:
        paths.append(f"{base.facts.metadata}/entry_points.txt".lstrip("/"))
    return _folders_of(paths)
