"""The Debian root file system that the cpu flavor starts from.

It is pulled where a registry can be reached. Elsewhere it is made from the distribution's packages, so that a package
mirror is enough to build everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import docker.errors

from build.engine import ages, bootstrap, labels, pulling
from build.errors import BuildError, EngineError, full_engine
from build.host import apt, process, processor, scratch

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from build.console import Console
    from build.engine.client import Engine
    from build.engine.image import Image

SUITE = "bookworm"
PYTHON = (3, 11)
"""Python version of that suite."""

# What cpu.Dockerfile needs from the distribution. libnuma1: without it, vLLM's _C_AVX2 does not load (vLLM
# 0.32.0) and the server dies a minute later. gcc, g++ and libc6-dev: torch compiles C++ at run time. git: developers
# work inside these images. python3-dev: headers for that compiler.
PACKAGES = (
    "ca-certificates",
    "g++",
    "gcc",
    "git",
    "libc6-dev",
    "libgomp1",
    "libnuma1",
    "python3",
    "python3-dev",
    "python3-venv",
)

NAME = "llm-d-dev-rootfs"


def _fingerprint(image: str) -> str:
    return hashlib.sha256("\n".join((SUITE, image, *PACKAGES)).encode()).hexdigest()[:12]


def ensure(
    engine: Engine, *, image: str, install: bool, console: Console, max_age: dt.timedelta | None = None
) -> Image:
    """Return the root file system's image, made anew if it is missing or too old.

    Args:
        engine: The engine.
        image: Image to pull, such as ``debian:12-slim``.
        install: Whether ``mmdebstrap`` may be installed if the pull fails.
        console: Console for progress.
        max_age: Age at which the image is made anew, for security updates; None for no limit.

    Returns:
        An image labelled ``kind=rootfs``. If it was made here, it has at least :data:`PACKAGES`; for a pulled image,
            cpu.Dockerfile installs what is missing.

    Raises:
        BuildError: mmdebstrap failed.
        EngineError: mmdebstrap is missing and may not be installed, or the engine has another processor.
    """
    name = f"{NAME}:{_fingerprint(image)}"
    found = engine.find_image(name)
    if found and not ages.is_older(found, max_age):
        return found
    with _replacing(engine, found), console.step("root file system") as progress:
        taken = pulling.pulled(engine, image, progress)
        if isinstance(taken, str):
            console.note(f"{taken}: making one from the distribution's packages")
            _make(engine, name, image, install=install, console=console, progress=progress, why=taken)
        else:
            engine.tag(taken.id, name)
            console.note(f"taking {image}")
    return engine.image(name)


@contextlib.contextmanager
def _replacing(engine: Engine, old: Image | None) -> Iterator[None]:
    """Remove this tool's former root file system once the block has moved its name."""
    yield
    if old and old.labels.get(labels.KIND) == "rootfs":
        engine.discard(old)


def _make(
    engine: Engine, name: str, image: str, *, install: bool, console: Console, progress: process.OnLine, why: str
) -> None:
    """Make the root file system from the distribution's packages.

    Args:
        engine: The engine.
        name: Name of the image.
        image: Image that could be pulled instead.
        install: Whether ``mmdebstrap`` may be installed.
        console: Console for progress.
        progress: Called with lines of output.
        why: Why it was not pulled.

    Raises:
        EngineError: The engine's machine has another processor.
    """
    here = processor.here()
    if engine.architecture != here:
        raise EngineError(
            f"the root file system made here is for {here}, but the engine is on {engine.architecture}; {why}",
            hint=_otherwise(image),
        )
    apt.ensure(["mmdebstrap"], allowed=install, console=console, otherwise=_otherwise(image))
    with scratch.folder() as folder:
        archive = Path(folder) / "rootfs.tar"
        _bootstrap(engine, archive, progress, otherwise=_otherwise(image), why=why)
        _import(engine, archive, name)


def _otherwise(image: str) -> str:
    return f"let the engine pull {image}, `docker load` it there, or set rootfs_image to an image that it has"


def _bootstrap(engine: Engine, archive: Path, progress: process.OnLine, *, otherwise: str, why: str) -> None:
    # The documentation of 200 packages is a tenth of the image and unused there.
    left_out = (f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man"))
    options = ["--variant=minbase", f"--include={','.join(PACKAGES)}", *left_out]
    done = bootstrap.make(engine, archive, options, SUITE, progress=progress)
    if bootstrap.only_root(done):
        raise BuildError(
            "only root can make a root file system here: mmdebstrap finds no other way (package uidmap)",
            hint=f"run this once as root, or {otherwise}",
        )
    if done.returncode:
        errors = [line for line in done.tail if line.startswith("E:")] or ["it printed no error"]
        raise BuildError(
            f"mmdebstrap could not make a root file system: {errors[-1]}",
            hint="check that the distribution's mirror answers (apt-get update), or what kept the engine from pulling "
            f"{why}",
            see_log=True,
        )


def _import(engine: Engine, archive: Path, name: str) -> None:
    repository, _, tag = name.partition(":")
    mark = f"LABEL {labels.KIND}=rootfs"
    try:
        said = engine.client.api.import_image(src=str(archive), repository=repository, tag=tag, changes=[mark])
    except docker.errors.APIError as error:
        said = json.dumps({"error": str(error.explanation or error)})
    # An error in the middle is a row of the answer.
    if wrong := next((row["error"] for row in map(json.loads, said.splitlines()) if "error" in row), None):
        raise full_engine("the root file system", wrong) or BuildError(
            f"the engine refused the root file system: {wrong}", hint="the engine's own log says more"
        )
