"""uv, the installer of Python packages in images, taken from its wheel for the image's processor."""

from __future__ import annotations

import importlib.metadata
import zipfile
from typing import TYPE_CHECKING

from build.host import stored
from build.host.processor import here
from build.pypi import download

if TYPE_CHECKING:
    from pathlib import Path

    from build.config.folders import Folders
    from build.console import Console
    from build.pypi.index import PackageIndex

_PROGRAM_BYTES = 2**28


def ensure(folders: Folders, index: PackageIndex, *, machine: str, console: Console) -> Path:
    """Return a folder that holds only the program ``uv``, in the version that this tool uses.

    Args:
        folders: Folders for downloads and programs.
        index: Package index with the wheel.
        machine: Processor of the image in the form of ``uname -m``.
        console: Console for progress.

    Raises:
        SourceError: The wheel is not available.
    """
    version = importlib.metadata.version("uv")
    elsewhere = "" if machine == here() else f"-{machine}"
    folder = folders.cache / "programs" / f"uv-{version}{elsewhere}"
    if stored.read_files(folder, ["uv"]) is None:
        wheel = download.fetch(
            index, folders.downloads, project="uv", version=version, wanted=download.wheel_for(machine), console=console
        )
        with zipfile.ZipFile(wheel) as archive:
            # The place for programs in the wheel specification.
            name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
            content = download.unpacked(archive, name, limit=_PROGRAM_BYTES)
            stored.write_files(folder, {"uv": content}, mode=0o755)
    return folder
