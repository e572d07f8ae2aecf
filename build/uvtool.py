"""uv, the program that installs Python packages in images: taken from its wheel, for the images' processor."""

from __future__ import annotations

import importlib.metadata
import zipfile
from typing import TYPE_CHECKING

from build import download, stored
from build.machine import here

if TYPE_CHECKING:
    from pathlib import Path

    from build.console import Console
    from build.folders import Folders
    from build.index import PackageIndex

_PROGRAM_BYTES = 2**28


def ensure(folders: Folders, index: PackageIndex, *, machine: str, console: Console) -> Path:
    """A folder that holds the program ``uv`` and nothing else, in the version that this tool itself uses.

    Args:
        folders: Where downloads and programs are kept.
        index: Where the wheel comes from.
        machine: Processor of the image, as ``uname -m`` has it.
        console: For progress.

    Raises:
        SourceError: The wheel cannot be had.
    """
    version = importlib.metadata.version("uv")
    elsewhere = "" if machine == here() else f"-{machine}"
    folder = folders.cache / "programs" / f"uv-{version}{elsewhere}"
    if stored.read_files(folder, ["uv"]) is None:
        wheel = download.fetch(
            index, folders.downloads, project="uv", version=version, wanted=download.wheel_for(machine), console=console
        )
        with zipfile.ZipFile(wheel) as archive:
            # The wheel specification's place for programs.
            name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
            content = download.unpacked(archive, name, limit=_PROGRAM_BYTES)
            stored.write_files(folder, {"uv": content}, mode=0o755)
    return folder
