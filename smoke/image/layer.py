"""One layer of an image, read as a stream: which of its files hold credentials.

What a layer holds is not trusted: everything that is read is bounded, nothing is unpacked.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Self, cast

from smoke.image import secret_patterns

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMBERS = 5_000_000
"""Of an archive; CUDA images have some 200,000 files."""
_FILE_BYTES = 2**40
_HEADER_BYTES = 2**20
"""Of a long name or an extended header. Linux takes paths of 4 KiB (limits.h)."""
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_BUFFER_BYTES = 2**20
_NAMED = 100
"""Files with credentials of a layer: more would say nothing else."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class UnreadableLayerError(Exception):
    """A layer is no archive that can be understood; the message says why."""


class NotReadError(Exception):
    """A layer may be as it should be, but cannot be read here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What was found in a layer.

    Attributes:
        files: Paths of files with credentials, with a slash in front.
        content_bytes: Size of all its files.
    """

    files: tuple[str, ...]
    content_bytes: int

    @classmethod
    def read(cls, stream: IO[bytes], *, below: str = "") -> Self:
        """Read the archive of a layer from a stream that cannot go back.

        A second name of a file (a hard link) is not followed.

        Args:
            stream: The archive, plain or compressed with gzip.
            below: Folder in it that stands for the root.

        Raises:
            UnreadableLayerError: It is damaged, breaks off, is no archive, or is unlike any layer.
            NotReadError: It is compressed in a way that Python does not know.
        """
        files: list[str] = []
        content_bytes = 0
        try:
            for tar, member in members(_unpacked(stream)):
                if not member.isfile():
                    continue
                content_bytes += member.size
                path = "/" + member.name.removeprefix("./").removeprefix(below).lstrip("/")
                if len(files) < _NAMED and _holds(path, tar, member):
                    files.append(path)
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise UnreadableLayerError(f"it is damaged: {error}") from error
        # tarfile lets these through from numbers and extended headers that make no sense.
        except (ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise UnreadableLayerError(f"it has an odd header: {error}") from error
        return cls(files=tuple(files), content_bytes=content_bytes)


def members(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an archive in a stream, each to be read before the next one is asked for.

    Raises:
        tarfile.TarError: It is damaged or breaks off.
    """
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER_BYTES, tarinfo=_Member) as tar:
        count = 0
        while member := tar.next():
            count += 1
            if count > _MEMBERS:
                raise tarfile.ReadError(f"more than {_MEMBERS} files")
            # It would look for the end of it until the end of days.
            if not 0 <= member.size <= _FILE_BYTES:
                raise tarfile.ReadError(f"a file of {member.size} bytes")
            yield tar, member
            # It would keep them all, in what its stubs do not show.
            cast("list[tarfile.TarInfo]", vars(tar)["members"]).clear()


class _Member(tarfile.TarInfo):
    """A header that makes tarfile neither read without end nor take damage for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """From a block.

        Raises:
            tarfile.ReadError: It is no header, or one of a name of absurd length.
        """
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            # No block, and one of zeros, is the end.
            if not any(buf):
                raise
            raise tarfile.ReadError(f"no header where one belongs: {error}") from error
        if member.type in _HEADERS and member.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"an extended header of {member.size} bytes")
        return member


def _unpacked(stream: IO[bytes]) -> IO[bytes]:
    """The archive itself, in whichever form a layer may come (OCI image-spec v1.1, layer.md)."""
    peek = getattr(stream, "peek", None)
    beginning: bytes = peek(len(_ZSTD))[: len(_ZSTD)] if peek else b""
    if beginning == _ZSTD:
        raise NotReadError("it is compressed with zstd")
    if beginning.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream, mode="rb"))
    return stream


def _holds(path: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    """Return whether a file is where credentials are kept, and holds some."""
    judge = secret_patterns.judge(path)
    content = tar.extractfile(member) if judge else None
    return bool(judge and content and judge(content.read(secret_patterns.READ_BYTES).decode(errors="replace")))
