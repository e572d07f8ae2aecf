"""Images of the stand-in."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from build import buildx, labels
from tests.standin.source import VERSION, source_tree, version_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from build.engine import Engine

_HERE = Path(__file__).parent
# What llm-d's Dockerfile and ours leave out of the image.
_NOT_IN_IMAGES = shutil.ignore_patterns(".git", "tests", "docs")
_INSTALLED = {"torch": "2.13.0+cpu", "numpy": "2.4.6", "filelock": "3.20.3"}


def build_standin(
    engine: Engine,
    rootfs: str,
    *,
    source: Path | None = None,
    version: str = VERSION,
    commit: str | None = None,
    marks: Mapping[str, str] | None = None,
) -> str:
    """Build the stand-in.

    Args:
        engine: Where.
        rootfs: Name of an image with Python 3.11 or newer.
        source: A working tree to build it from; :func:`source_tree` by default.
        version: Version of the distribution ``vllm``, which is also what ``/version`` says.
        commit: The commit that ``_version.py`` names.
        marks: Labels.

    Returns:
        The image ID. It has no name and is not sealed.

    Raises:
        BuildError: A step failed.
    """
    with tempfile.TemporaryDirectory(prefix="llm-d-dev-") as folder:
        context = Path(folder)
        _write_tree(context / "tree", source)
        (context / "tree/vllm/_version.py").write_text(version_file(version, commit), encoding="utf-8")
        (context / "tree/vllm/_C.abi3.so").write_bytes(b"no ELF file")
        _write_site(context / "site", version)
        request = buildx.Request(
            dockerfile=_HERE / "Dockerfile",
            context=context,
            arguments={"ROOTFS": rootfs},
            labels={labels.KIND: "standin", labels.FLAVOR: "cpu", labels.VERSION: version, **(marks or {})},
        )
        return buildx.build(engine, request, progress=lambda _line: None)


def _write_tree(folder: Path, source: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="llm-d-dev-") as scratch:
        if source is None:
            source_tree(Path(scratch))
        shutil.copytree(source or scratch, folder, ignore=_NOT_IN_IMAGES, symlinks=True)


def _write_site(folder: Path, version: str) -> None:
    folder.mkdir()
    (folder / f"__editable__.vllm-{version}.pth").write_text("/opt/vllm-source\n", encoding="utf-8")
    for name, installed in {"vllm": version, **_INSTALLED}.items():
        _write_dist_info(folder, name, installed)
    (folder / f"vllm-{version}.dist-info/entry_points.txt").write_text(
        "[console_scripts]\nvllm = vllm.entrypoints.cli.main:main\n", encoding="utf-8"
    )
    (folder / "torch").mkdir()
    (folder / "torch/__init__.py").write_text("from .version import __version__\n", encoding="utf-8")
    (folder / "torch/version.py").write_text(f'__version__ = "{_INSTALLED["torch"]}"\ncuda = None\n', encoding="utf-8")


def _write_dist_info(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (info / "INSTALLER").write_text("uv\n", encoding="utf-8")
    (info / "RECORD").write_text("", encoding="utf-8")


@contextlib.contextmanager
def changed(engine: Engine, image_id: str, changes: Sequence[str]) -> Iterator[str]:
    """An image with another configuration while the block runs.

    Args:
        engine: Where.
        image_id: The image to change.
        changes: Dockerfile instructions such as ``ENV STANDIN_FAULT=crash``.

    Yields:
        The image ID.
    """
    with engine.created(image_id) as container:
        # The container's own command is none of the image's.
        made = container.commit(changes="\n".join(["CMD []", *changes]))
    assert made.id is not None
    try:
        yield made.id
    finally:
        # noprune: the image that it is made of may have no name either.
        engine.client.api.remove_image(made.id, force=True, noprune=True)
