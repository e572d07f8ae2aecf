"""Print what an image holds, as JSON on standard output: source files, versions, distributions.

Run as ``python -c "$(cat probe.py)" SOURCE``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import runpy
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

IGNORED_FOLDERS = {".git", "__pycache__"}


def main() -> None:
    """Look at everything and print one JSON document."""
    source = Path(sys.argv[1])
    owner = source.stat()
    sample = (source / "setup.py").stat() if (source / "setup.py").exists() else owner
    installed = distributions()
    document = {
        "files": list(files(source)),
        "folders": folders(source),
        "uid": owner.st_uid,
        "gid": owner.st_gid,
        "folder_mode": stat.S_IMODE(owner.st_mode),
        "file_mode": stat.S_IMODE(sample.st_mode) & 0o666,
        "vllm": vllm_location(),
        "version": vllm_version(source),
        "distributions": {name: one.version for name, one in installed.items()},
        "provided": {name: one.metadata.get_all("Provides-Extra") or [] for name, one in installed.items()},
        "requires": {name: [row for row in one.requires or () if "extra" in row] for name, one in installed.items()},
        "metadata": vllm_metadata(),
        "programs": sorted(path.name for path in Path(sys.executable).parent.iterdir()),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": torch(),
        "has_repository": (source / ".git").exists(),
    }
    # A line of its own, the last one: what is imported may print.
    print()
    print(json.dumps(document))


def files(source: Path) -> Iterator[list[str]]:
    """Yield path, git mode and git blob id of every file below ``source``."""
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS]
        # A link to a folder is listed among the folders, but git keeps it as a file.
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in names + links:
            path = Path(folder, name)
            relative = os.fsencode(path.relative_to(source)).decode("utf-8", "surrogateescape")
            yield [relative, *mode_and_id(path)]


def folders(source: Path) -> dict[str, list[int]]:
    """Permissions, user and group of the folders that an overlay may add to, by path."""
    below = [Path(folder) for folder, _, _ in os.walk(source) if "__pycache__" not in Path(folder).parts]
    touched = [Path(sys.executable).parent, Path(vllm_metadata() or source), *below]
    found = {}
    for folder in {parent for path in touched for parent in (path, *path.parents)}:
        status = folder.stat()
        name = os.fsencode(folder).decode("utf-8", "surrogateescape")
        found[name] = [stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid]
    return found


def mode_and_id(path: Path) -> tuple[str, str]:
    """Git's mode and blob id of a file."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        content = os.fsencode(path.readlink())
        return "120000", hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    digest = hashlib.sha1(b"blob %d\0" % status.st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return ("100755" if status.st_mode & 0o100 else "100644"), digest.hexdigest()


def vllm_location() -> str | None:
    """Folder that ``import vllm`` would import, or None. The module is found, not run."""
    try:
        spec = importlib.util.find_spec("vllm")
    except (ImportError, ValueError):
        return None
    return str(Path(spec.origin).parent) if spec and spec.origin else None


def vllm_version(source: Path) -> str | None:
    """What ``vllm.__version__`` says, without importing vllm; None where there is no version file."""
    file = source / "vllm" / "_version.py"
    return runpy.run_path(str(file)).get("__version__") if file.exists() else None


def vllm_metadata() -> str | None:
    """Folder of the metadata that ``pip install --editable`` made for vllm; None if there is none."""
    for distribution in importlib.metadata.distributions(name="vllm"):
        folder = Path(str(distribution.locate_file(""))) / f"vllm-{distribution.version}.dist-info"
        if folder.is_dir():
            return str(folder)
    return None


def distributions() -> dict[str, importlib.metadata.Distribution]:
    """Each installed distribution by its name, normalised as PEP 503 has it; the one that Python finds first."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        found.setdefault(re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower(), distribution)
    return found


def torch() -> dict[str, str | None]:
    """Versions of torch and of the CUDA it was built for, read from its version file: importing takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return {"version": None, "cuda": None}
    values = runpy.run_path(str(Path(spec.origin).parent / "version.py"))
    return {"version": values.get("__version__"), "cuda": values.get("cuda")}


main()
