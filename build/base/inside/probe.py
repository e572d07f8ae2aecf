"""Say what an image holds: source files, versions, distributions.

A script for ``build/base/inside/apart.py``, run with SOURCE. All but where vllm is imported from is read from files.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import site
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from build.base.inside.apart import Report

STAGES = ("vllm",)

INCLUDES_SYSTEM = re.compile(r"^include-system-site-packages\s*=\s*true\s*$", re.IGNORECASE | re.MULTILINE)

# Beginnings of lines of .pth files that name no folder (docs.python.org, site).
RUN = ("#", "import ", "import\t")

IGNORED_FOLDERS = {".git", "__pycache__"}


def read(report: Report, arguments: Sequence[str]) -> Path:
    """Look at everything that files tell."""
    source = Path(arguments[0])
    owner = source.stat()
    sample = (source / "setup.py").stat() if (source / "setup.py").exists() else owner
    packages = package_folders()
    installed, metadata = distributions(packages), vllm_metadata(packages)
    torch = next((constants(file) for path in packages if (file := Path(path, "torch/version.py")).is_file()), {})
    document = {
        "files": list(files(source)),
        "folders": folders(source, metadata),
        "uid": owner.st_uid,
        "gid": owner.st_gid,
        "folder_mode": stat.S_IMODE(owner.st_mode),
        "file_mode": stat.S_IMODE(sample.st_mode) & 0o666,
        "version": constants(source / "vllm" / "_version.py").get("__version__"),
        "distributions": {name: one.version for name, one in installed.items()},
        "provided": {name: one.metadata.get_all("Provides-Extra") or [] for name, one in installed.items()},
        "requires": {name: [row for row in one.requires or () if "extra" in row] for name, one in installed.items()},
        "metadata": metadata,
        "programs": sorted(path.name for path in Path(sys.executable).parent.iterdir()),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": {"version": torch.get("__version__"), "cuda": torch.get("cuda")},
        "has_repository": (source / ".git").exists(),
    }
    report.say("files", document)
    return source


def look(report: Report, found: Path) -> None:
    """Look for the folder that ``import vllm`` would import. The module is found, not run."""
    del found
    try:
        spec = importlib.util.find_spec("vllm")
    except (ImportError, ValueError):
        spec = None
    report.say("vllm", str(Path(spec.origin).parent) if spec and spec.origin else None)


def package_folders() -> list[str]:
    """Folders that packages are imported from, as ``site`` finds them, without what start files would run."""
    prefix = Path(sys.executable).parent.parent
    configured = prefix / "pyvenv.cfg"
    is_alone = configured.is_file() and not INCLUDES_SYSTEM.search(configured.read_text(encoding="utf-8"))
    own = prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    prefixes = [str(prefix), *(() if is_alone else (sys.base_prefix,))]
    found = [*filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    for folder in (own, *map(Path, site.getsitepackages(prefixes))):
        found.append(str(folder))
        for file in sorted(folder.glob("*.pth")):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [str(folder / line) for line in lines if line and not line.startswith(RUN)]
    return [path for path in dict.fromkeys(found) if Path(path).is_dir()]


def constants(file: Path) -> dict[str, str]:
    """Texts that a module gives names to. It is read, not run; a module that is not there has none."""
    found: dict[str, str] = {}
    for one in ast.parse(file.read_bytes()).body if file.exists() else ():
        if isinstance(one, (ast.Assign, ast.AnnAssign)) and isinstance(one.value, ast.Constant):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found |= dict.fromkeys(names, one.value.value) if isinstance(one.value.value, str) else {}
    return found


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


def folders(source: Path, metadata: str | None) -> dict[str, list[int]]:
    """Permissions, user and group of the folders that an overlay may add to, by path."""
    below = [Path(folder) for folder, _, _ in os.walk(source) if "__pycache__" not in Path(folder).parts]
    touched = [Path(sys.executable).parent, Path(metadata or source), *below]
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


def vllm_metadata(packages: Sequence[str]) -> str | None:
    """Return the folder of the metadata that ``pip install --editable`` made for vllm, or None."""
    for distribution in importlib.metadata.distributions(name="vllm", path=[*packages]):
        folder = Path(str(distribution.locate_file(""))) / f"vllm-{distribution.version}.dist-info"
        if folder.is_dir():
            return str(folder)
    return None


def distributions(packages: Sequence[str]) -> dict[str, importlib.metadata.Distribution]:
    """Each installed distribution by its name, normalised as PEP 503 has it; the one that Python finds first."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions(path=[*packages]):
        found.setdefault(re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower(), distribution)
    return found
