"""Images of the stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from build.base.store import OWN_LAYOUT
from build.engine import buildx, content, labels
from tests.standin.source import VERSION, source_tree, version_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from build.engine.client import Engine
    from build.engine.image import Image

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
        shutil.copy(_HERE / "extension.c", context / "extension.c")
        _write_site(context / "site", version)
        request = buildx.ImageBuild(
            dockerfile=_HERE / "Dockerfile",
            context=context,
            arguments={"ROOTFS": rootfs},
            labels={labels.KIND: "standin", labels.FLAVOR: "cpu", labels.VERSION: version, **(marks or {})},
        )
        return buildx.build(engine, request, progress=lambda _line: None)


def build_upstream(
    engine: Engine,
    rootfs: str,
    *,
    place: str,
    source: Path,
    version: str = VERSION,
    commit: str | None = None,
    marks: Mapping[str, str] | None = None,
) -> str:
    """Build a stand-in of vLLM's own images, with vLLM installed from a wheel.

    Args:
        engine: Where.
        rootfs: Name of an image with Python 3.11 or newer.
        place: ``venv`` or ``system``.
        source: A working tree to build it from.
        version: Version of the distribution ``vllm``.
        commit: The commit that ``_version.py`` names.
        marks: Labels.

    Returns:
        The image ID. It has no name.
    """
    with tempfile.TemporaryDirectory(prefix="llm-d-dev-") as folder:
        context = Path(folder)
        packages = context / "packages"
        _write_site(packages, version)
        (packages / f"__editable__.vllm-{version}.pth").unlink()
        shutil.copytree(source / "vllm", packages / "vllm", symlinks=True)
        (packages / "vllm/_version.py").write_text(version_file(version, commit), encoding="utf-8")
        for name in ("extension.c", "record.py"):
            shutil.copy(_HERE / name, context / name)
        request = buildx.ImageBuild(
            dockerfile=_HERE / "upstream.Dockerfile",
            context=context,
            arguments={"ROOTFS": rootfs, "PLACE": place},
            labels=marks or {},
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
    shutil.copy(_HERE / "torch.py", folder / "torch/__init__.py")
    (folder / "torch/version.py").write_text(f'__version__ = "{_INSTALLED["torch"]}"\ncuda = None\n', encoding="utf-8")


def _write_dist_info(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (info / "INSTALLER").write_text("uv\n", encoding="utf-8")
    (info / "RECORD").write_text("", encoding="utf-8")


@contextlib.contextmanager
def changed(engine: Engine, image_id: str, changes: Sequence[str], *, script: str = "") -> Iterator[str]:
    """An image with another configuration, or other files, while the block runs.

    Args:
        engine: Where.
        image_id: The image to change.
        changes: Dockerfile instructions such as ``ENV STANDIN_FAULT=crash``.
        script: A shell script that root runs in it, in the source folder.

    Yields:
        The image ID.
    """
    options = {
        "entrypoint": ["sh", "-euc", script or "true"],
        "user": "0",
        "working_dir": str(OWN_LAYOUT.source),
        "network_mode": "none",
    }
    restored = _configuration(engine.image(image_id)) if script else []
    with engine.created(image_id, **(options if script else {}), command=[]) as container:
        if script:
            container.start()
            if container.wait()["StatusCode"]:
                raise AssertionError(container.logs().decode())
        # The container's own command is none of the image's.
        made = container.commit(changes="\n".join(["CMD []", *restored, *changes]))
    assert made.id is not None
    try:
        yield made.id
    finally:
        # noprune: the image that it is made of may have no name either.
        engine.client.api.remove_image(made.id, force=True, noprune=True)


@contextlib.contextmanager
def another_base(engine: Engine, image_id: str, changes: Sequence[str]) -> Iterator[str]:
    """A base or overlay without a name, as this tool would have made it with another configuration, during the block.

    Args:
        engine: Where.
        image_id: The image to change.
        changes: Dockerfile instructions.

    Yields:
        The image ID.
    """
    with changed(engine, image_id, changes) as made:
        # An image without a name goes when it is marked; this one goes with the block.
        name = f"llm-d-dev-test-{os.getpid()}:unmarked-{made[-12:]}"
        engine.tag(made, name)
        marked = content.mark(engine, made, progress=lambda _line: None)
    try:
        yield marked
    finally:
        engine.client.api.remove_image(marked, force=True, noprune=True)


def _configuration(image: Image) -> list[str]:
    """Instructions that set again what a container was created otherwise with."""
    config = image.config
    return [
        f"ENTRYPOINT {json.dumps(config.get('Entrypoint') or [])}",
        f"USER {config.get('User') or 'root'}",
        f"WORKDIR {config.get('WorkingDir') or '/'}",
    ]
