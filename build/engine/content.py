"""The digest that tells an image of this tool from an image derived from it.

Derived images inherit labels, and `docker commit --change` changes labels and configuration without adding a layer.
So each base, overlay and base in the making carries a digest of its layers, its labels and the configuration that
decides how it runs.
The digest is not a signature: any client of the engine can forge it. The smoke suite checks the image's real contents.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.engine import buildx, labels
from build.errors import BuildError
from build.host import scratch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.engine.client import Engine
    from build.engine.image import Image
    from build.host import process

DOCKERFILE = buildx.DOCKERFILES / "content.Dockerfile"

# Keys of an image's configuration (moby/docker-image-spec, v1.3) that engines do not add or drop on their own.
_DECIDING = (
    *("User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Shell", "OnBuild"),
    *("ExposedPorts", "Volumes", "StopSignal", "Healthcheck"),
)
_KINDS = ("base", "overlay")


def content(config: Mapping[str, Any], marks: Mapping[str, str], diff_ids: Sequence[str]) -> str:
    """Return the digest of an image.

    Args:
        config: Configuration of the image, from the engine.
        marks: Labels of the image.
        diff_ids: Digests of its uncompressed layers, lowest first.
    """
    deciding = {name: value for name in _DECIDING if (value := config.get(name))}
    marks = {name: value for name, value in marks.items() if name != labels.CONTENT}
    text = json.dumps([deciding, marks, list(diff_ids)], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def trouble(image: Image) -> str | None:
    """Return why an image is not a genuine base or overlay, as the end of a sentence; None for a genuine one."""
    if image.labels.get(labels.KIND) not in _KINDS:
        return "is neither a base nor an overlay of this tool"
    if labels.CONTENT not in image.labels:
        return "was made by another version of this tool"
    if is_derived(image):
        return "was made from an image of this tool and is not as this tool made that: its labels do not describe it"
    return None


def is_genuine(image: Image) -> bool:
    """Return whether an image is an unchanged base or overlay of this tool. Only then can its labels be trusted."""
    return trouble(image) is None


def is_derived(image: Image) -> bool:
    """Return whether an image was derived from one that carries the digest and inherited its labels."""
    said = image.labels.get(labels.CONTENT)
    return said is not None and said != content(image.config, image.labels, image.diff_ids)


def mark(engine: Engine, image_id: str, *, tags: tuple[str, ...] = (), progress: process.OnLine) -> str:
    """Add the label with the digest to a built image.

    Args:
        engine: The engine that has the image.
        image_id: ID of the unnamed image; the image is removed.
        tags: Names of the labelled image.
        progress: Called with each line of output.

    Returns:
        ID of the labelled image.

    Raises:
        BuildError: The engine could not build the labelled image.
    """
    image = engine.image(image_id)
    with scratch.folder() as empty, engine.temporary_tag(image_id) as name:
        request = buildx.ImageBuild(
            dockerfile=DOCKERFILE,
            context=Path(empty),
            tags=tags,
            arguments={"BASE": name},
            labels={labels.CONTENT: content(image.config, image.labels, image.diff_ids)},
        )
        made = engine.image(buildx.build(engine, request, progress=progress))
    if is_derived(made):
        raise BuildError(f"the engine built another image than it was given: {made.short_id}", hint="see its log")
    engine.discard(image)
    return made.id
