"""Reproducible archives to lay over an image."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Self

from build.errors import SourceError
from build.source.listing import EXECUTABLE, SYMLINK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path, PurePosixPath

WHITEOUT = ".wh."
"""The prefix of an entry that deletes a file (OCI image-spec v1.1, layer.md)."""


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """The owner and permissions of added files, taken from the base.

    Attributes:
        uid: User ID.
        gid: Group ID.
        file_mode: Permissions of a file that is not executable.
        folder_mode: Permissions of a folder.
    """

    uid: int
    gid: int
    file_mode: int
    folder_mode: int

    @property
    def executable_mode(self) -> int:
        """Permissions of an executable file: everyone who may read it may execute it."""
        return self.file_mode | (self.file_mode & 0o444) >> 2


class Tarball:
    """A tar archive that adds missing folders on the way to a file.

    Args:
        stream: Output.
        owner: Owner and permissions of all entries.
        timestamp: Time of all entries, in seconds since 1970.
        existing: Folders of the image, below its root, that need no entry.
        folders: Permissions, user and group of the folders that differ from ``owner``. They also decide about files in
            these folders.
    """

    def __init__(
        self,
        stream: IO[bytes],
        *,
        owner: Ownership,
        timestamp: int,
        existing: frozenset[str],
        folders: Mapping[str, tuple[int, int, int]] = MappingProxyType({}),
    ) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed below
        self._owner = owner
        self._timestamp = timestamp
        self._seen = {"", ".", "/", *existing}
        self._unusual = folders

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def add(self, path: PurePosixPath, size: int, content: IO[bytes], *, mode: str) -> None:
        """Add one file.

        Args:
            path: Path below the image's root.
            size: Size of the content in bytes.
            content: Content, read to its end. For a symbolic link: its target.
            mode: Git's mode.

        Raises:
            SourceError: The name has a special meaning in a layer.
        """
        if any(part.startswith(WHITEOUT) for part in path.parts):
            raise SourceError(
                f"{path}: a layer cannot hold a file whose name starts with {WHITEOUT}",
                hint="rename the file: in a layer, such a name deletes a file",
            )
        self._folders(path.parent)
        owner = self._owner_in(str(path.parent))
        member = self._member(str(path))
        member.uid, member.gid = owner.uid, owner.gid
        if mode == SYMLINK:
            member.type = tarfile.SYMTYPE
            member.linkname = content.read().decode("utf-8", "surrogateescape")
            self._tar.addfile(member)
            return
        member.mode = owner.executable_mode if mode == EXECUTABLE else owner.file_mode
        member.size = size
        self._tar.addfile(member, content)

    def add_bytes(self, path: PurePosixPath, content: bytes, *, mode: str) -> None:
        """Add one file from its content."""
        self.add(path, len(content), io.BytesIO(content), mode=mode)

    def delete(self, path: PurePosixPath) -> None:
        """Add the entry that deletes a file or folder of the layers below (OCI image layer, "Whiteouts").

        It works in an image's layer, but not in an archive that ``ADD`` unpacks.
        """
        self._folders(path.parent)
        self._tar.addfile(self._member(str(path.with_name(WHITEOUT + path.name))))

    def add_tree(self, path: PurePosixPath, folder: Path, *, mode: str) -> None:
        """Add every file below a folder of this machine."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                with file.open("rb") as content:
                    self.add(path / file.relative_to(folder).as_posix(), file.stat().st_size, content, mode=mode)

    def _owner_in(self, folder: str) -> Ownership:
        """Return the owner and permissions of a file in a folder."""
        if folder not in self._unusual:
            return self._owner
        mode, uid, gid = self._unusual[folder]
        return Ownership(uid=uid, gid=gid, file_mode=mode & 0o666, folder_mode=mode)

    def _folders(self, folder: PurePosixPath) -> None:
        for parent in reversed((folder, *folder.parents)):
            name = str(parent)
            if name in self._seen:
                continue
            self._seen.add(name)
            member = self._member(name)
            member.type = tarfile.DIRTYPE
            usual = (self._owner.folder_mode, self._owner.uid, self._owner.gid)
            member.mode, member.uid, member.gid = self._unusual.get(name, usual)
            self._tar.addfile(member)

    def _member(self, name: str) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.uid, member.gid, member.mtime = self._owner.uid, self._owner.gid, self._timestamp
        return member
