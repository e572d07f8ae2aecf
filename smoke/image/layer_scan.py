"""The layers of an image, one by one: what a later layer deletes is still in what everybody pulls.

The engine has no request for one layer. Where its store keeps each as a folder and says where (overlay2), that folder
is mounted, read-only, in a container that never runs, and read through the archive of a path. Elsewhere, as with the
containerd store, all layers are read from ``docker save``. Docker's own store writes that archive to its disk as a
whole before it sends any of it: of an image of 3.9 GB, 104 s before the first byte, against 25 s for all folders.

A layer's digest says all that it holds, so a large one is read once. Of an overlay whose base passed only its own
layers are read: its base was looked into when it was tested. And where no layer has a folder, none: that would be the
whole base again for a few kilobytes, of which the image as a whole, where programs keep their credentials, tells as
much. The one step of an overlay that is given credentials installs packages (overlay.Dockerfile); what comes after it
deletes only files of vLLM's source.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
import posixpath
import re
import sys
import tarfile
from collections import deque
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

import docker.errors
from docker.types import Mount
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from build.base.store import has
from build.host import stored
from smoke.image import secret_patterns
from smoke.image.contents import UnreadableError
from smoke.image.layer import Layer, NotReadError, UnreadableLayerError, members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType

    from docker.models.containers import Container

    from build.engine.client import Engine
    from build.engine.image import Image

_MOUNTED = "/llm-d-dev-layers"
_CHUNK_BYTES = 2**20
_REMEMBERED_BYTES = 2**20
"""Smaller layers that have a folder are read faster than it is worth to remember them."""
_SAID_BYTES = 500 * 10**6
"""Images of which it takes a while."""
_MANIFEST = "manifest.json"
_MANIFEST_BYTES = 4 * 2**20
_BLOB = re.compile(r"blobs/sha256/(?P<digest>[0-9a-f]{64})")
_SHOWN = 200
"""Letters of a path."""

Found = Layer | UnreadableLayerError | NotReadError
"""A layer, or the reason why it was not read."""


class Memory:
    """Layers that were read before.

    Args:
        folder: Where; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # What is read of a layer, and what is looked for in it, wherever these modules lie.
        self._rules = [_digest(sys.modules[Layer.__module__]), _digest(secret_patterns)]

    def get(self, digest: str) -> Layer | None:
        """A layer by the digest of its archive or of its blob; None if it was not read by the rules of today."""
        known = stored.read(self._path(digest), _REMEMBERED, level=logging.DEBUG)
        return known.layer if known and known.rules == self._rules else None

    def put(self, digest: str, layer: Layer) -> None:
        """Remember a layer."""
        path = self._path(digest)
        if path.is_dir():
            stored.clear(path)
        stored.write(path, {"rules": self._rules, "layer": asdict(layer)})

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}.json"


def _digest(module: ModuleType) -> str:
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()


@checked(frozen=True, kw_only=True)
class _Remembered:
    """A layer, and by which rules it was read."""

    rules: list[str]
    layer: Layer


_REMEMBERED = TypeAdapter(_Remembered).validate_python


def credentials(
    engine: Engine, image: Image, *, base: Image | None, memory: Memory, say: Callable[[str], None]
) -> list[str]:
    """Files with credentials in any layer of an image, in words, without the credentials.

    Args:
        engine: Where it is.
        image: Which.
        base: The lower part of it that passed this check before; None if nothing did.
        memory: Layers that were read before.
        say: Called with what takes long, and with what could not be looked into.

    Raises:
        UnreadableError: A layer is damaged.
    """
    homes = _homes(image)
    layers = look(engine, image, base=base, homes=homes, memory=memory, say=say)
    for number, found in enumerate(layers, start=1):
        if isinstance(found, NotReadError):
            say(f"layer {number} of {len(layers)} was not looked into for credentials: {found}")
        elif isinstance(found, UnreadableLayerError):
            raise UnreadableError(f"layer {number} of {len(layers)} cannot be read: {found}")
    read = {number: found for number, found in enumerate(layers, start=1) if isinstance(found, Layer)}
    steps = _steps(engine, image, read) if len(read) == len(layers) else {}
    with engine.created(image.id) as container:
        told = [
            f"{_shown(path)} in layer {number} of {len(layers)}{steps.get(number, '')}{_fate(container, path)}"
            for number, layer in read.items()
            for path in layer.files
        ]
        known = {path for layer in read.values() for path in layer.files}
        # Second names of files, and layers that could not be read.
        return [*told, *(path for path in secret_patterns.files(container, homes) if path not in known)]


def look(
    engine: Engine,
    image: Image,
    *,
    base: Image | None,
    homes: Iterable[str],
    memory: Memory,
    say: Callable[[str], None],
) -> list[Found | None]:
    """Look into all layers of an image, lowest first; None for one that need not be looked into.

    Args:
        engine: Where it is.
        image: Which.
        base: The lower part of it, whose layers need not be looked into.
        homes: Home folders.
        memory: Layers that were read before.
        say: Called with what takes long.

    Raises:
        UnreadableError: The engine's archive of the image is not one.
    """
    known: dict[str, Found] = {digest: layer for digest in image.diff_ids if (layer := memory.get(digest))}
    below = len(base.diff_ids) if base else 0
    missing = [digest for digest in image.diff_ids[below:] if digest not in known]
    if not known and not below and image.size >= _SAID_BYTES:
        say(f"looking for credentials in {len(missing)} layers, this first time …")
    if missing:
        read = _mounted(engine, image, missing, homes, memory)
        known |= read if read or below else _saved(engine, image, memory)
    return [known.get(digest) for digest in image.diff_ids]


def _homes(image: Image) -> list[str]:
    variables = dict(word.partition("=")[::2] for word in image.config.get("Env") or ())
    return sorted({"/root", variables.get("HOME", "/")})


def _steps(engine: Engine, image: Image, read: Mapping[int, Layer]) -> dict[int, str]:
    """Which step of the history made a layer, by its number, where that can be told: what it ran may name secrets.

    The engine does not say which steps made none. One that has a size did; some stores count folders, others do not.
    """
    rows: list[dict[str, Any]] = engine.client.api.history(image.id)  # type: ignore[no-untyped-call]
    steps = [number for number, row in enumerate(reversed(rows), start=1) if row.get("Size")]
    for made in (list(read), [number for number, layer in read.items() if layer.content_bytes]):
        if len(steps) == len(made):
            return {number: f" (history, step {step})" for number, step in zip(made, steps, strict=True)}
    return {}


def _fate(container: Container, path: str) -> str:
    """What became of a file of a layer in the image as a whole, for the end of a sentence."""
    with contextlib.suppress(UnicodeEncodeError, docker.errors.APIError):  # the engine cannot be asked for any path
        if not has(container, PurePosixPath(path)):
            return ", which a later layer deletes"
        if not secret_patterns.tells(container, path):
            return ", which a later layer replaces"
    return ""


def _shown(path: str) -> str:
    """A path from an image, as one line that any terminal and file can take."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in path[:_SHOWN])


# --- From the folders of the engine's store --------------------------------------------------------------


def _folders(engine: Engine, image: Image) -> list[str]:
    """The folder of each layer on the engine's machine, lowest first; none if its store does not say.

    Docker Engine API v1.45, ImageInspect: ``GraphDriver``. overlay2 lists the folders below the topmost one from
    the top (docs.docker.com/engine/storage/drivers/overlayfs-driver).
    """
    found: dict[str, Any] = engine.client.api.inspect_image(image.id)  # type: ignore[no-untyped-call]
    places: Mapping[str, str] = (found.get("GraphDriver") or {}).get("Data") or {}
    lower = places.get("LowerDir", "")
    folders = [*reversed(lower.split(":") if lower else []), places.get("UpperDir", "")]
    return folders if all(folders) and len(folders) == len(image.diff_ids) else []


def _mounted(
    engine: Engine, image: Image, wanted: Iterable[str], homes: Iterable[str], memory: Memory
) -> dict[str, Found]:
    """Return layers by digest, or nothing where the engine does not show their folders."""
    folders = dict(zip(image.diff_ids, _folders(engine, image), strict=False))
    if not folders:
        return {}
    places = {digest: f"{_MOUNTED}/{number}" for number, digest in enumerate(wanted)}
    mounts = [
        Mount(target=place, source=folders[digest], type="bind", read_only=True) for digest, place in places.items()
    ]
    try:
        with engine.created(image.id, mounts=mounts) as container:
            if not engine.is_here:
                return {digest: _known_places(container, place, homes) for digest, place in places.items()}
            read = {digest: _folder(container, place) for digest, place in places.items()}
    except docker.errors.APIError:
        # Not every engine lets anybody mount what is its own. If it is in trouble, that shows again at once.
        return {}
    _remember(memory, {digest: found for digest, found in read.items() if _is_large(found)})
    return read


def _is_large(found: Found) -> bool:
    return isinstance(found, Layer) and found.content_bytes >= _REMEMBERED_BYTES


def _remember(memory: Memory, read: Mapping[str, Found]) -> None:
    for digest, found in read.items():
        if isinstance(found, Layer):
            memory.put(digest, found)


def _known_places(container: Container, place: str, homes: Iterable[str]) -> Layer:
    """A layer on another machine, whose gigabytes are not fetched: the places where programs keep theirs must do."""
    there = [home for home in homes if has(container, PurePosixPath(place + home))]
    return Layer(files=tuple(secret_patterns.files(container, there, root=place)), content_bytes=0)


def _folder(container: Container, place: str) -> Found:
    chunks, _ = container.get_archive(place, chunk_size=_CHUNK_BYTES)
    with _stream(chunks) as stream:
        return _read(stream, below=posixpath.basename(place))


def _read(stream: IO[bytes], *, below: str = "") -> Found:
    try:
        return Layer.read(stream, below=below)
    except (UnreadableLayerError, NotReadError) as error:
        return error


# --- From the engine's archive of the image --------------------------------------------------------------


def _saved(engine: Engine, image: Image, memory: Memory) -> dict[str, Found]:
    if not engine.is_here:
        reason = NotReadError("the whole image would have to be fetched from another machine")
        return dict.fromkeys(image.diff_ids, reason)
    chunks = engine.client.api.get_image(image.id, chunk_size=_CHUNK_BYTES)
    with _stream(chunks) as stream:
        found = from_archive(stream, memory)
    if len(found) != len(image.diff_ids):
        raise UnreadableError(f"the engine's archive has {len(found)} of {len(image.diff_ids)} layers")
    read = dict(zip(image.diff_ids, found, strict=True))
    _remember(memory, read)
    return read


def from_archive(stream: IO[bytes], memory: Memory) -> list[Found]:
    """The layers in an archive of ``docker save``, lowest first.

    Which members are layers is told at its end, by ``manifest.json``, which both layouts have (moby/docker-image-spec
    v1.2; with the containerd store next to the OCI image-layout): so whatever can be read as a layer is.

    Args:
        stream: The archive; it cannot go back.
        memory: Layers that were read before.

    Raises:
        UnreadableError: It is damaged, or breaks off.
    """
    blobs: dict[str, Found] = {}
    links: dict[str, str] = {}
    manifest = b""
    try:
        for tar, member in members(stream):
            content = cast("IO[bytes]", tar.extractfile(member)) if member.isfile() else None
            if member.issym():
                # A layer that is equal to another one.
                links[member.name] = posixpath.normpath(posixpath.join(member.name, "..", member.linkname))
            elif content and member.name == _MANIFEST:
                manifest = content.read(_MANIFEST_BYTES)
            elif content:
                blobs[member.name] = _blob(member.name, content, memory)
        names: list[str] = json.loads(manifest)[0]["Layers"]
        return [blobs[links.get(name, name)] for name in names]
    except (tarfile.TarError, ValueError, LookupError, TypeError) as error:
        raise UnreadableError(f"the engine's archive of the image cannot be read: {error!r}") from error


def _blob(name: str, content: IO[bytes], memory: Memory) -> Found:
    match = _BLOB.fullmatch(name)
    if match is None:
        return _read(content)
    found: Found = memory.get(match["digest"]) or _read(content)
    # Its compressed form has another digest than the layer.
    _remember(memory, {match["digest"]: found})
    return found


class _Chunks:
    """Chunks of bytes as what tarfile asks of a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


@contextlib.contextmanager
def _stream(chunks: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """An answer of the engine. It is read to its end: only then is its connection free for the next one."""
    rest = iter(chunks)
    yield cast("IO[bytes]", _Chunks(rest))
    deque(rest, maxlen=0)
