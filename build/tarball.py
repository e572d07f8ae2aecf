"""Archives that are laid over an image: the same content gives the same bytes."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Self

from build.listing import EXECUTABLE, SYMLINK

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath


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
        existing: Folders of the image below its root: an entry would change their times and permissions.
    """

    def __init__(self, stream: IO[bytes], *, owner: Ownership, timestamp: int, existing: frozenset[str]) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed below
        self._owner = owner
        self._timestamp = timestamp
        self._seen = set(existing)

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
        """
        self._folders(path.parent)
        member = self._member(str(path))
        if mode == SYMLINK:
            member.type = tarfile.SYMTYPE
            member.linkname = content.read().decode("utf-8", "surrogateescape")
            self._tar.addfile(member)
            return
        member.mode = self._owner.executable_mode if mode == EXECUTABLE else self._owner.file_mode
        member.size = size
        self._tar.addfile(member, content)

    def add_bytes(self, path: PurePosixPath, content: bytes, *, mode: str) -> None:
        """Add one file whose content is at hand."""
        self.add(path, len(content), io.BytesIO(content), mode=mode)

    def add_tree(self, path: PurePosixPath, folder: Path, *, mode: str) -> None:
        """Add every file below a folder of this machine."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                with file.open("rb") as content:
                    self.add(path / file.relative_to(folder).as_posix(), file.stat().st_size, content, mode=mode)

    def _folders(self, folder: PurePosixPath) -> None:
        for parent in reversed((folder, *folder.parents)):
            name = str(parent)
            if name == "." or name in self._seen:
                continue
            self._seen.add(name)
            member = self._member(name)
            member.type = tarfile.DIRTYPE
            member.mode = self._owner.folder_mode
            self._tar.addfile(member)

    def _member(self, name: str) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.uid, member.gid, member.mtime = self._owner.uid, self._owner.gid, self._timestamp
        return member
