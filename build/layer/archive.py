"""Archives that are laid over an image: the same content gives the same bytes."""

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
"""What the name of an entry that deletes starts with (OCI image-spec v1.1, layer.md)."""


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """Who owns what is added, as the base has it.

    Attributes:
        uid: User.
        gid: Group.
        file_mode: Permissions of a file that is not executable.
        folder_mode: Permissions of a folder.
    """

    uid: int
    gid: int
    file_mode: int
    folder_mode: int

    @property
    def executable_mode(self) -> int:
        """Whoever may read a file may execute it."""
        return self.file_mode | (self.file_mode & 0o444) >> 2


class Tarball:
    """A tar archive being written. Folders are added where a path needs them and ``existing`` does not have them.

    Args:
        stream: Where to.
        owner: Owner and permissions of everything in it.
        timestamp: Time of everything in it, seconds since 1970.
        existing: Folders of the image below its root that need no entry.
        folders: Permissions, user and group of the folders that are not as ``owner`` has them; files in them are as
            they are.
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
            path: Below the image's root.
            size: Bytes of the content.
            content: Read to its end. For a symbolic link: where it points to.
            mode: Git's mode.

        Raises:
            SourceError: The name means something else to an image.
        """
        if any(part.startswith(WHITEOUT) for part in path.parts):
            raise SourceError(
                f"{path}: no image can hold a file whose name starts with {WHITEOUT}",
                hint="to an image such a name means that a file is deleted: rename it",
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
        """Add one file whose content is at hand."""
        self.add(path, len(content), io.BytesIO(content), mode=mode)

    def delete(self, path: PurePosixPath) -> None:
        """Add what makes a file or folder of the layers below disappear (OCI image layer, "Whiteouts").

        It holds for an image's layer, not for an archive that is unpacked by ``ADD``.
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
        """Owner and permissions of a file in a folder."""
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
