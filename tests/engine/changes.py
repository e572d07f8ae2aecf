"""Everything that can happen to a file between two commits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.source.listing import EXECUTABLE, REGULAR, SYMLINK, Entry, blob_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class File:
    """A file of a tree; a path that is no UTF-8 holds surrogate escapes."""

    path: str
    content: str
    mode: str = REGULAR

    @property
    def entry(self) -> Entry:
        return Entry(mode=self.mode, oid=blob_id(os.fsencode(self.content)))


@dataclass(frozen=True)
class Change:
    """A file before and after, None where it is not there."""

    name: str
    before: File | None
    after: File | None


def _added(name: str, path: str, content: str = "new = 1\n", mode: str = REGULAR) -> Change:
    return Change(name, None, File(path, content, mode))


def _deleted(name: str, path: str, content: str = "old = 1\n", mode: str = REGULAR) -> Change:
    return Change(name, File(path, content, mode), None)


def _changed(name: str, path: str, before: tuple[str, str], after: tuple[str, str]) -> Change:
    return Change(name, File(path, *before), File(path, *after))


_NAMES = {
    "space": "vllm/names/with space.txt",
    "quotes": 'vllm/names/it\'s "quoted".txt',
    "newline": "vllm/names/two\nlines.txt",
    "tab": "vllm/names/tab\tbed.txt",
    "backslash": "vllm/names/back\\slash.txt",
    "pattern": "vllm/names/[a-z]*?.txt",
    "dash": "vllm/names/-rf",
    "dollar": "vllm/names/$HOME `id`",
    "non-ASCII": "vllm/names/Grüße ☃.txt",
    "no UTF-8": "vllm/names/\udcff\udcfe.txt",
    "long": f"vllm/names/{'long/' * 40}{'x' * 200}",
    "hidden": "vllm/.names/.hidden",
}

ALL = (
    _added("added", "vllm/added.py"),
    _added("added, empty", "vllm/added_empty.py", ""),
    _added("added in a new folder", "vllm/new/package/__init__.py"),
    _added("added, executable", "vllm/added.sh", "#!/bin/sh\n", EXECUTABLE),
    _added("added, a link", "vllm/added_link.py", "version.py", SYMLINK),
    _added("added, a link to nowhere", "vllm/added_nowhere", "/no/such/file", SYMLINK),
    _changed("changed", "vllm/changed.py", ("old = 1\n", REGULAR), ("new = 22\n", REGULAR)),
    _changed("changed, now empty", "vllm/emptied.py", ("old = 1\n", REGULAR), ("", REGULAR)),
    _changed("now executable", "vllm/mode_on.sh", ("#!/bin/sh\n", REGULAR), ("#!/bin/sh\n", EXECUTABLE)),
    _changed("no longer executable", "vllm/mode_off.sh", ("#!/bin/sh\n", EXECUTABLE), ("#!/bin/sh\n", REGULAR)),
    _changed("link moved", "vllm/link_moved", ("version.py", SYMLINK), ("__init__.py", SYMLINK)),
    _changed("file to link", "vllm/to_link.py", ("old = 1\n", REGULAR), ("version.py", SYMLINK)),
    _changed("link to file", "vllm/from_link.py", ("version.py", SYMLINK), ("new = 1\n", REGULAR)),
    _deleted("deleted", "vllm/gone.py"),
    _deleted("deleted, a link", "vllm/gone_link", "version.py", SYMLINK),
    _deleted("deleted package", "vllm/gone_package/__init__.py", ""),
    _deleted("deleted package, its module", "vllm/gone_package/deep/module.py"),
    _deleted("renamed, old name", "vllm/renamed_old.py", "same = 1\n"),
    _added("renamed, new name", "vllm/renamed_new.py", "same = 1\n"),
    _deleted("case changed, old name", "vllm/Case.py", "same = 1\n"),
    _added("case changed, new name", "vllm/case.py", "same = 1\n"),
    _deleted("file to folder, the file", "vllm/to_folder"),
    _added("file to folder, the folder", "vllm/to_folder/inner.py"),
    _deleted("folder to file, the folder", "vllm/to_file/inner.py"),
    _added("folder to file, the file", "vllm/to_file"),
    _deleted("link to folder, the link", "vllm/link_to_folder", "entrypoints", SYMLINK),
    _added("link to folder, the folder", "vllm/link_to_folder/inner.py"),
    _deleted("folder to link, the folder", "vllm/folder_to_link/inner.py"),
    _added("folder to link, the link", "vllm/folder_to_link", "entrypoints", SYMLINK),
    *(_added(f"added: {name}", path) for name, path in _NAMES.items()),
    *(_deleted(f"deleted: {name}", path.replace("names", "gone_names")) for name, path in _NAMES.items()),
    *(
        _changed(f"changed: {name}", path.replace("names", "changed_names"), ("old", REGULAR), ("new!", REGULAR))
        for name, path in _NAMES.items()
    ),
)

_NEED_DELETIONS = ("file to folder", "folder to file", "link to folder", "folder to link")
ADDITIONS = tuple(change for change in ALL if change.after and not change.name.startswith(_NEED_DELETIONS))
"""Those that lay files over the base's and delete none."""


def write(folder: Path, files: Iterable[File | None]) -> None:
    """Write those files into a working tree."""
    for file in files:
        if file is None:
            continue
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.mode == SYMLINK:
            path.symlink_to(file.content)
        else:
            path.write_bytes(os.fsencode(file.content))
            path.chmod(0o755 if file.mode == EXECUTABLE else 0o644)


def remove(folder: Path, files: Iterable[File | None]) -> None:
    """Remove those files from a working tree, and the folders that are left empty."""
    for file in files:
        if file is None:
            continue
        path = folder / file.path
        path.unlink()
        for parent in path.relative_to(folder).parents[:-1]:
            if not any((folder / parent).iterdir()):
                (folder / parent).rmdir()
