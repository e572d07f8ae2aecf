"""The embedded registry of earlier versions: a process on this machine with its data in the state folder.

Its images move into the container's volume once, and keep their address.
"""

from __future__ import annotations

import shutil
import tarfile
from typing import TYPE_CHECKING

from build.host import background
from build.host.background import Daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from build.config.folders import Folders

_STOP_TIMEOUT_S = 5.0
_CHUNK = 1 << 20


def data(folders: Folders) -> Path:
    """Return the folder of its images, which exists until they have moved."""
    return folders.registry / "data"


def _moved(folders: Folders) -> Path:
    return folders.registry / "data.moved"


def stop(folders: Folders) -> bool:
    """Stop its process.

    Returns:
        Whether it was running.
    """
    words = ("docker-registry", "serve", str(folders.registry / "config.yml"))
    return background.stop(
        Daemon(argv=words, log=folders.registry / "registry.log", shields=()), grace_s=_STOP_TIMEOUT_S
    )


def move(folders: Folders, *, owner: int, into: Callable[[Iterator[bytes]], None]) -> bool:
    """Move its images into the volume. An interrupted move is repeated next time.

    Args:
        folders: Folders of this tool.
        owner: ID of the new user and group.
        into: Receives a tar archive of the folder ``data``.

    Returns:
        Whether there were images.
    """
    found = data(folders).is_dir()
    if found:
        into(_archive(data(folders), owner))
        shutil.rmtree(_moved(folders), ignore_errors=True)
        # From here on the copy in the volume counts.
        data(folders).rename(_moved(folders))
    shutil.rmtree(_moved(folders), ignore_errors=True)
    for name in ("config.yml", "registry.log", "registry.log.1"):
        (folders.registry / name).unlink(missing_ok=True)
    return found


def _archive(folder: Path, owner: int) -> Iterator[bytes]:
    """Yield a tar archive in chunks, because layers have gigabytes."""
    for path in (folder, *sorted(folder.rglob("*"))):
        member = tarfile.TarInfo(str(path.relative_to(folder.parent)))
        member.uid = member.gid = owner
        if path.is_dir():
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            yield member.tobuf()
        elif path.is_file():
            with path.open("rb") as file:
                member.size = path.stat().st_size
                yield member.tobuf()
                while chunk := file.read(_CHUNK):
                    yield chunk
            yield bytes(-member.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
