"""What tells an image that this tool made from one that was made of it.

Whatever is made of an image inherits its labels, and `docker commit --change` changes labels and configuration without
a layer more. So an image of this tool carries a digest of its layers, its labels and what decides how it runs. That is
not a signature: who can write to the engine can make any image. What an image really holds, the smoke suite looks at.
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

    from build.engine.client import Engine, Image
    from build.host import process

DOCKERFILE = buildx.DOCKERFILES / "content.Dockerfile"

# Of an image's configuration (moby/docker-image-spec, v1.3), less what every engine adds or leaves out as it likes.
_DECIDING = (
    *("User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Shell", "OnBuild"),
    *("ExposedPorts", "Volumes", "StopSignal", "Healthcheck"),
)
_KINDS = ("base", "overlay")


def content(config: Mapping[str, Any], marks: Mapping[str, str], diff_ids: Sequence[str]) -> str:
    """The digest of an image.

    Args:
        config: Its configuration as the engine has it.
        marks: Its labels.
        diff_ids: Digests of its uncompressed layers, lowest first.
    """
    deciding = {name: value for name in _DECIDING if (value := config.get(name))}
    marks = {name: value for name, value in marks.items() if name != labels.CONTENT}
    text = json.dumps([deciding, marks, list(diff_ids)], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def trouble(image: Image) -> str | None:
    """Why an image is not a base or overlay as this tool made it, for the end of a sentence; None if it is one."""
    if image.labels.get(labels.KIND) not in _KINDS:
        return "is neither a base nor an overlay of this tool"
    if labels.CONTENT not in image.labels:
        return "was made by another version of this tool"
    if image.labels[labels.CONTENT] != content(image.config, image.labels, image.diff_ids):
        return "was made from an image of this tool and is not as this tool made that: its labels do not describe it"
    return None


def is_genuine(image: Image) -> bool:
    """Whether an image is a base or overlay as this tool made it: only then its labels say what it is."""
    return trouble(image) is None


def is_derived(image: Image) -> bool:
    """Whether an image was made from a base or overlay of this tool: its labels are that one's."""
    return labels.CONTENT in image.labels and not is_genuine(image)


def mark(engine: Engine, image_id: str, *, tags: tuple[str, ...] = (), progress: process.OnLine) -> str:
    """Add the label that says what an image holds, once it has been built.

    Args:
        engine: Where the image is.
        image_id: Without a name; the image is removed.
        tags: Names that the image with the label gets.
        progress: Called with each line of output.

    Returns:
        ID of the image with the label.

    Raises:
        BuildError: The engine could not make it.
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
    if why := trouble(made):
        raise BuildError(f"the engine built another image than it was given: {made.short_id} {why}", hint="see its log")
    engine.discard(image)
    return made.id
