"""Thin images: another image's layers and one more, handed to the engine as they are, without a build.

An engine that keeps images as Docker's own store does loads an archive that leaves out the layers it has (moby,
daemon/internal/image/tarexport/load.go: a layer whose chain it knows is not read). Nothing runs, no context is sent,
and the layer's bytes are ours: the same content is the same layer everywhere.
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

    from build.engine.client import Engine, Image

_PLATFORM = {"Architecture": "architecture", "Variant": "variant", "Os": "os", "OsVersion": "os.version"}
_LAYER = "layer.tar"
_CHUNK_BYTES = 1 << 20
_MAKERS = ("RUN ", "COPY ", "ADD ", "WORKDIR ")


@dataclass(frozen=True, kw_only=True)
class Thin:
    """An image to be made.

    Attributes:
        base: What it stands on.
        layer: The uncompressed archive of its own layer, with whiteouts for what it deletes.
        labels: Labels that replace or add to the base's.
        created: RFC 3339 time stamp.
        created_by: What its history says of the layer.
    """

    base: Image
    layer: Path
    labels: Mapping[str, str]
    created: str
    created_by: str


def load(engine: Engine, image: Thin, *, tag: str) -> Image:
    """Make a thin image.

    Args:
        engine: Where; its store must take thin images (:attr:`Capabilities.takes_thin_images`).
        image: What to make.
        tag: Name that it gets, in one step with the image: there is never one without the other.

    Raises:
        BuildError: The engine did not take it, as when the base was removed meanwhile.
        DiskError: It ran out of space.
    """
    config = _config(engine, image)
    image_id = hashlib.sha256(config).hexdigest()
    try:
        # Its stubs know only bytes and files; requests sends what any iterator gives, as large as it comes.
        engine.client.images.load(cast("bytes", _archive(image, config, f"{image_id}.json", tag)))
    except docker.errors.APIError as error:
        raise _refused(str(error.explanation or error)) from error
    except docker.errors.ImageLoadError as error:
        raise _refused(str(error)) from error
    found = engine.find_image(f"sha256:{image_id}")
    if found is None:
        raise BuildError(f"the engine took {tag} and does not have it", hint="the engine's own log says why")
    return replace(found, called=tag)


def _refused(said: str) -> LlmdDevError:
    if full := full_engine("the overlay", said):
        return full
    # A layer that it was to have: it then looks for it in the archive.
    if "no such file or directory" in said:
        return BuildError(f"the base was removed meanwhile ({said})", hint="run this again: it takes another base")
    return BuildError(f"the engine did not take the overlay: {said}", hint="the engine's own log says more")


def _archive(image: Thin, config: bytes, config_name: str, tag: str) -> Iterator[bytes]:
    """The archive as ``docker save`` has it, less the base's layers (moby/docker-image-spec, v1.2)."""
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
    """The image's configuration (OCI image-spec v1.1, config.md); its digest is the image ID."""
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
    """The base's own history, lowest first, from what the engine says of it.

    The engine does not say which steps made no layer. One that added bytes did; of the others, those did that may
    have made an empty one, as many as layers are left.
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
