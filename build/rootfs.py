"""The Debian root file system that the cpu flavor starts from.

Pulled where a registry can be reached. Elsewhere it is made from the distribution's packages, so that a machine
with nothing but a package mirror can build everything.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import docker.errors
import docker.utils
import requests

from build import command, labels, packages, scratch
from build.errors import BuildError
from build.redact import redacted

if TYPE_CHECKING:
    from build.console import Console
    from build.engine import Engine, Image

SUITE = "bookworm"

# What cpu.Dockerfile needs from the distribution. libnuma1: without it vLLM's _C_AVX2 does not load (vLLM
# 0.32.0) and the server dies a minute later; gcc, g++ and libc6-dev: torch compiles C++ at run time; git: people
# work inside these images; python3-dev: headers for that compiler.
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


def ensure(engine: Engine, *, image: str, install: bool, console: Console) -> Image:
    """The root file system as an image on the engine, made if it is not there.

    Args:
        engine: Where.
        image: What to pull, such as ``debian:12-slim``.
        install: Whether ``mmdebstrap`` may be installed when nothing can be pulled.
        console: For progress.

    Returns:
        An image labelled ``kind=rootfs``; its packages are at least :data:`PACKAGES` if it was made here,
        and cpu.Dockerfile installs what a pulled one lacks.

    Raises:
        BuildError: mmdebstrap failed.
        EngineError: mmdebstrap is missing and may not be installed.
    """
    name = f"{NAME}:{_fingerprint(image)}"
    if found := engine.find_image(name):
        return found
    with console.step("root file system") as progress:
        try:
            pulled = _pull(engine, image, progress)
        except _NotPulledError as error:
            console.note(f"{image} cannot be pulled here ({error}): making one from the distribution's packages")
            _make(engine, name, install=install, console=console, progress=progress, why=f"{image}: {error}")
        else:
            engine.tag(pulled, name)
            console.note(f"pulled {image}")
    return engine.image(name)


class _NotPulledError(Exception):
    """An image cannot be pulled; the message says why, in the engine's words."""

    def __init__(self, said: str) -> None:
        super().__init__(redacted(" ".join(said.split())))


def _make(engine: Engine, name: str, *, install: bool, console: Console, progress: command.OnLine, why: str) -> None:
    """Make the root file system from the distribution's packages.

    Args:
        engine: Where.
        name: What the image is called.
        install: Whether ``mmdebstrap`` may be installed.
        console: For progress.
        progress: Called with lines of output.
        why: Why it was not pulled, for whoever could rather mend that.
    """
    packages.ensure(["mmdebstrap"], allowed=install, console=console)
    with scratch.folder() as folder:
        archive = Path(folder) / "rootfs.tar"
        _bootstrap(archive, progress, why=why)
        _import(engine, archive, name)


def _pull(engine: Engine, image: str, progress: command.OnLine) -> str:
    """Pull an image; returns its ID.

    Raises:
        _NotPulledError: The registry cannot be reached, does not have it, or the pull broke off.
    """
    repository, tag = docker.utils.parse_repository_tag(image)
    try:
        # The SDK's own method drops an error that comes in the middle.
        for row in engine.client.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
            if "error" in row:
                raise _NotPulledError(str(row["error"]))
            progress(f"{row.get('status', '')} {row.get('id', '')}".strip())
    except docker.errors.APIError as error:
        raise _NotPulledError(str(error.explanation or error)) from error
    except requests.RequestException as error:
        raise _NotPulledError(str(error)) from error
    found = engine.find_image(image)
    if found is None:
        raise _NotPulledError("the engine pulled it and does not have it")
    return found.id


def _bootstrap(archive: Path, progress: command.OnLine, *, why: str) -> None:
    argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    # The documentation of 200 packages is a tenth of the image and nobody reads it there.
    argv += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
    done = command.run([*argv, SUITE, archive], on_line=progress)
    if done.returncode:
        errors = [line for line in done.tail if line.startswith("E:")] or ["it said nothing"]
        raise BuildError(
            f"mmdebstrap could not make a root file system: {errors[-1]}",
            hint="check that the distribution's mirror answers (apt-get update), or what kept the engine from pulling "
            f"{why}",
            see_log=True,
        )


def _import(engine: Engine, archive: Path, name: str) -> None:
    """Streamed by the docker client: the SDK would hold the archive in memory."""
    argv = ["docker", "import", "--change", f"LABEL {labels.KIND}=rootfs", str(archive), name]
    try:
        command.output(argv, env=engine.environment)
    except subprocess.CalledProcessError as error:
        raise BuildError(
            f"the engine did not take the root file system: {error.stderr.decode(errors='replace').strip()}",
            hint="check the engine's free disk with `docker system df`, then run this again",
        ) from error
