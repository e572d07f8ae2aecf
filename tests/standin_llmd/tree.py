"""A tree that the stand-in base can be built from."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import git

from tests.engine import gpu_standin
from tests.standin import image
from tests.standin.source import VERSION, version_file

_HERE = Path(__file__).parent
_STANDIN = Path(image.__file__).parent
_TORCH = "2.13.0+cu130"


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
    shutil.copy(_STANDIN / "extension.c", site)
    image._write_site(site / "packages", version)
    _use_cuda(site)
    (site / "_version.py").write_text(version_file(version, None), encoding="utf-8")


def _use_cuda(site: Path) -> None:
    """Make the stand-in's torch one that was built for CUDA, and takes made-up GPUs for real."""
    packages = site / "packages"
    for info in packages.glob("torch-*.dist-info"):
        shutil.rmtree(info)
    image._write_dist_info(packages, "torch", _TORCH)
    (packages / "torch/version.py").write_text(f'__version__ = "{_TORCH}"\ncuda = "13.0"\n', encoding="utf-8")
    with (packages / "torch/__init__.py").open("a", encoding="utf-8") as file:
        file.write(gpu_standin._TORCH)
    (packages / "standin_gpus.pth").write_text("import standin_gpus\n", encoding="utf-8")
    (packages / "standin_gpus.py").write_text(gpu_standin._HOLD, encoding="utf-8")
    smi = site / "nvidia-smi"
    smi.write_text(gpu_standin._SMI, encoding="utf-8")
    smi.chmod(0o755)
