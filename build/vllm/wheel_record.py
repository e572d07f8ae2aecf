"""The ``RECORD`` of an installed wheel: its files with hashes and sizes.

``pip check`` and ``pip uninstall`` believe it, so that it has to stay true where files of the wheel change (the
specification "Recording installed projects" of packaging.python.org).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import posixpath
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_CHUNK_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the record says of a file.

    Attributes:
        digest: Its hash, as ``sha256=`` and the unpadded URL-safe base64.
        size: Its bytes.
    """

    digest: str
    size: int

    @classmethod
    def of(cls, content: IO[bytes]) -> Self:
        """Read a file to its end."""
        digest, size = hashlib.sha256(), 0
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        text = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        return cls(digest=f"sha256={text}", size=size)


def rewritten(
    record: str, *, folder: PurePosixPath, written: Mapping[PurePosixPath, Recorded], gone: Collection[PurePosixPath]
) -> str:
    """Return the record after a change of the installed files.

    Args:
        record: The record before.
        folder: Folder of installed packages, which its paths are relative to.
        written: Files that are new or have other contents, by place.
        gone: Files that were deleted. A folder stands for all files below it.

    Returns:
        The record. Files that stay keep their rows and their order; new ones come last, sorted.
    """
    rows = {_place(folder, row[0]): row for row in csv.reader(io.StringIO(record)) if row}
    kept = {place: row for place, row in rows.items() if not ({place, *place.parents} & set(gone))}
    for place, file in sorted(written.items()):
        kept[place] = [kept[place][0] if place in kept else _name(folder, place), file.digest, str(file.size)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept.values())
    return text.getvalue()


def _place(folder: PurePosixPath, name: str) -> PurePosixPath:
    return PurePosixPath(posixpath.normpath(folder / name))


def _name(folder: PurePosixPath, place: PurePosixPath) -> str:
    return posixpath.relpath(place, folder)
