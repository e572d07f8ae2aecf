"""The Python that an image's entry point runs, found without starting anything.

A program of a Python package begins with the Python that it was installed for (the specification "Entry points" of
packaging.python.org). Paths of the image are followed here, because an engine gives a link as a link.
"""

from __future__ import annotations

import io
import posixpath
import re
import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import docker.errors

from build.base.store import has
from build.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

    from build.engine.client import Engine
    from build.engine.image import Image

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's ``PATH`` for an image that sets none."""

_LINKS = 8
_PROGRAM_BYTES = 2**20
"""Bytes of a program that are read at most. A script that starts vLLM has a few hundred."""

_PYTHON = re.compile(r"python[\d.]*")
# A long path does not fit into `#!`: pip and uv then write a shell script whose second line runs Python.
_SHEBANG = re.compile(rb"""#!\s*(?:\S*/env\s+(?:-S\s+)?)?(\S+)(?:[^\n]*\n'''exec'\s+["']?([^"'\s]+))?""")


def python_of(engine: Engine, image: Image) -> PurePosixPath:
    """Return the Python of an image's entry point; else of its program ``vllm``; else the first on its ``PATH``.

    Args:
        engine: The engine that has the image.
        image: The image.

    Raises:
        SourceError: The image has no Python.
    """
    with engine.created(image.id) as container:
        entry = [str(word) for word in (image.config.get("Entrypoint") or ())[:1]]
        for program in (*entry, "vllm"):
            for place in places(image, program):
                if found := _python(container, image, place):
                    return found
        for place in (*places(image, "python3"), *places(image, "python")):
            if has(container, place):
                return place
    raise SourceError(f"{image.name} has no Python on its PATH", hint="adopt an image with vLLM")


def _python(container: Container, image: Image, place: PurePosixPath) -> PurePosixPath | None:
    """Return the Python that a program runs, or is; None if there is no such program, or it runs something else."""
    if _PYTHON.fullmatch(place.name):
        return place if has(container, place) else None
    found = _SHEBANG.match(_content(container, place))
    named = (found[2] or found[1]).decode(errors="replace") if found else ""
    if not _PYTHON.fullmatch(PurePosixPath(named).name):
        return None
    return next((one for one in places(image, named) if has(container, one)), None)


def places(image: Image, program: str) -> Iterator[PurePosixPath]:
    """Yield the paths at which an image's containers look for a program.

    Args:
        image: The image, whose ``PATH`` and working folder count.
        program: A name, or a path.
    """
    root = PurePosixPath("/", image.config.get("WorkingDir") or "")
    if "/" in program:
        yield PurePosixPath(posixpath.normpath(root / program))
        return
    variables = dict(word.partition("=")[::2] for word in image.config.get("Env") or ())
    for folder in variables.get("PATH", _DEFAULT_PATH).split(":"):
        if folder.startswith("/"):
            yield PurePosixPath(posixpath.normpath(folder), program)


def _content(container: Container, place: PurePosixPath) -> bytes:
    """Return the beginning of a file, empty if it does not exist."""
    for _ in range(_LINKS):
        try:
            stream, status = container.get_archive(str(place))
        except docker.errors.APIError:
            return b""
        if not (target := (status or {}).get("linkTarget")):
            return _first_file(stream)
        stream.close()  # type: ignore[attr-defined]
        place = PurePosixPath(posixpath.normpath(place.parent / target))
    return b""


def _first_file(stream: Iterator[bytes]) -> bytes:
    kept = bytearray()
    for chunk in stream:
        kept += chunk
        if len(kept) > _PROGRAM_BYTES:
            break
    stream.close()  # type: ignore[attr-defined]
    try:
        with tarfile.open(fileobj=io.BytesIO(kept)) as tar:
            member = tar.next()
            content = tar.extractfile(member) if member and member.isfile() else None
            return content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError):
        return b""
