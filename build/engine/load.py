"""Thin images: another image's layers and one more, loaded into the engine without a build.

An engine with Docker's own image store loads an archive that leaves out the layers it has (moby,
daemon/internal/image/tarexport/load.go: a layer with a known chain ID is not read). No command runs and no context is
sent. This tool writes the layer's bytes, so the same content is the same layer everywhere.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import docker.errors

from build.engine import content, labels
from build.errors import BuildError, LlmdDevError, full_engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image

_PLATFORM = {"Architecture": "architecture", "Variant": "variant", "Os": "os", "OsVersion": "os.version"}
_LAYER = "layer.tar"
_CHUNK_BYTES = 1 << 20
_MAKERS = ("RUN ", "COPY ", "ADD ", "WORKDIR ")


@dataclass(frozen=True, kw_only=True)
class Thin:
    """An image to make.

    Attributes:
        base: The image below.
        layer: Uncompressed archive of the image's own layer, with whiteouts for deleted files.
        labels: Labels that replace or add to the base's.
        created: RFC 3339 time stamp.
        created_by: History entry of the layer.
    """

    base: Image
    layer: Path
    labels: Mapping[str, str]
    created: str
    created_by: str


def load(engine: Engine, image: Thin, *, tag: str) -> Image:
    """Make a thin image.

    Args:
        engine: The engine to load into; it must take thin images (:attr:`Capabilities.takes_thin_images`).
        image: The image to make.
        tag: Name of the image. The engine sets both in one step, so neither exists without the other.

    Raises:
        BuildError: The engine refused the image, for example because the base was removed meanwhile.
        DiskError: The engine ran out of space.
    """
    config = _config(engine, image)
    image_id = hashlib.sha256(config).hexdigest()
    try:
        # The SDK's stubs know only bytes and files, but requests sends any iterator, of any length.
        engine.client.images.load(cast("bytes", _archive(image, config, f"{image_id}.json", tag)))
    except docker.errors.APIError as error:
        raise _refused(str(error.explanation or error)) from error
    except docker.errors.ImageLoadError as error:
        raise _refused(str(error)) from error
    found = engine.find_image(f"sha256:{image_id}")
    if found is None:
        raise BuildError(f"the engine accepted {tag} but does not have it", hint="the engine's own log says why")
    return replace(found, called=tag)


def _refused(said: str) -> LlmdDevError:
    if full := full_engine("the overlay", said):
        return full
    # For a base layer that it does not have, the engine looks in the archive.
    if "no such file or directory" in said:
        return BuildError(f"the base was removed meanwhile ({said})", hint="run this again: it takes another base")
    return BuildError(f"the engine refused the overlay: {said}", hint="the engine's own log says more")


def _archive(image: Thin, config: bytes, config_name: str, tag: str) -> Iterator[bytes]:
    """Yield an archive like that of ``docker save``, without the base's layers (moby/docker-image-spec, v1.2)."""
    layers = [f"{number}.tar" for number in range(len(image.base.diff_ids))]
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": [*layers, _LAYER]}]
    yield from _member(config_name, len(config), [config])
    with image.layer.open("rb") as file:
        yield from _member(_LAYER, image.layer.stat().st_size, iter(lambda: file.read(_CHUNK_BYTES), b""))
    text = json.dumps(manifest).encode()
    yield from _member("manifest.json", len(text), [text])
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    member = tarfile.TarInfo(name)
    member.size = size
    yield member.tobuf()
    yield from chunks
    yield bytes(-size % tarfile.BLOCKSIZE)


def _config(engine: Engine, image: Thin) -> bytes:
    """Return the image's configuration (OCI image-spec v1.1, config.md). Its digest is the image ID."""
    base = image.base
    found = engine.client.images.get(base.id)
    with image.layer.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    diff_ids = [*base.diff_ids, f"sha256:{diff_id}"]
    marks = {**base.labels, **image.labels}
    marks[labels.CONTENT] = content.content(base.config, marks, diff_ids)
    document = {
        **{key: found.attrs[name] for name, key in _PLATFORM.items() if found.attrs.get(name)},
        "created": image.created,
        "config": {**base.config, "Labels": marks},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [
            *_history(found.history(), layers=len(base.diff_ids)),
            {"created": image.created, "created_by": image.created_by},
        ],
    }
    return json.dumps(document, sort_keys=True).encode()


def _history(rows: Sequence[Mapping[str, Any]], *, layers: int) -> list[dict[str, Any]]:
    """Return the base's history, lowest first, from the engine's answer.

    The engine does not say which steps made no layer. A step that added bytes made one. Of the other steps, as many as
    there are layers left made an empty one.
    """
    steps = list(reversed(rows))
    made = {number for number, row in enumerate(steps) if row["Size"]}
    may = [number for number, row in enumerate(steps) if number not in made and _may_add(row["CreatedBy"])]
    made.update(may[: max(0, layers - len(made))])
    if len(made) != layers:
        return [{"created_by": "layer of the base"} for _ in range(layers)]
    return [_step(row, empty=number not in made) for number, row in enumerate(steps)]


def _may_add(created_by: str) -> bool:
    return created_by.startswith(_MAKERS) or "/bin/sh -c" in created_by


def _step(row: Mapping[str, Any], *, empty: bool) -> dict[str, Any]:
    created = datetime.fromtimestamp(row["Created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    step = {"created": created, "created_by": row["CreatedBy"]}
    step |= {"comment": row["Comment"]} if row.get("Comment") else {}
    return {**step, "empty_layer": True} if empty else step
