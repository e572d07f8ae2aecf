"""Unpacking of archives."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

_MODE = 0o755


def unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpack an archive, but nothing that would lie or lead outside the folder.

    Args:
        tar: The archive, which is not trusted.
        folder: Folder to unpack into. It is created if necessary.

    Raises:
        tarfile.TarError: A file lies outside, or a link leads there.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    # Debian 12 has Python 3.11.2; the filter came with 3.11.4.
    folder.mkdir(parents=True, exist_ok=True)
    for member in tar:
        _require_inside(member, folder.resolve())
        member.mode &= _MODE
        tar.extract(member, folder, set_attrs=not member.isdir())


def _require_inside(member: tarfile.TarInfo, folder: Path) -> None:
    places = [folder / member.name]
    if member.issym():
        places.append(places[0].parent / member.linkname)
    elif member.islnk():
        places.append(folder / member.linkname)
    elif not (member.isfile() or member.isdir()):
        raise tarfile.ReadError(f"{member.name!r} is neither a file, a folder nor a link")
    # What was unpacked before may be a link.
    if not all(Path(os.path.realpath(place)).is_relative_to(folder) for place in places):
        raise tarfile.ReadError(f"{member.name!r} would lie or lead outside of {str(folder)!r}")
