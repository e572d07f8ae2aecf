"""A tree that the stand-in base can be built from."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import git

from tests.standin import image
from tests.standin.source import VERSION, version_file

_HERE = Path(__file__).parent


def write_tree(folder: Path, *, vllm: Path, version: str = VERSION) -> None:
    """Write the tree of 2026 with what its build would fetch from elsewhere.

    Args:
        folder: Where; it must not exist.
        vllm: A repository of the stand-in's source.
        version: Of the distribution ``vllm`` that it installs.
    """
    shutil.copytree(_HERE / "2026", folder)
    with contextlib.closing(git.Repo.clone_from(str(vllm), folder / "docker/vllm.git", bare=True)):
        pass
    site = folder / "docker/site"
    site.mkdir()
    image._write_site(site / "packages", version)
    (site / "_version.py").write_text(version_file(version, None), encoding="utf-8")
