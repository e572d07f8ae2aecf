"""Delete files, the bytecode made of them and the folders of the source that are left empty.

A folder that stayed would still import, as a namespace package. Run as ``python delete.py SOURCE LIST``; the list
holds absolute paths, each ended by a zero byte.
"""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path


def main() -> None:
    """Delete what the list names."""
    root = Path(sys.argv[1])
    for name in Path(sys.argv[2]).read_bytes().split(b"\0"):
        if name:
            delete(root, Path(os.fsdecode(name)))


def delete(root: Path, path: Path) -> None:
    """Remove one file and what was there only because of it."""
    path.unlink(missing_ok=True)
    if path.suffix == ".py":
        for compiled in (path.parent / "__pycache__").glob(f"{glob.escape(path.stem)}.*.pyc"):
            compiled.unlink()
    for folder in (path.parent / "__pycache__", path.parent, *path.parent.parents):
        if folder == root or root not in folder.parents:
            continue
        try:
            folder.rmdir()
        except OSError:  # not there, or not empty
            continue


main()
