"""The gate: pushes an image that passed, and exactly that image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker.errors

from build import demands, labels
from build.errors import GateError, RegistryError
from build.patience import can_get_better, patiently
from build.registry import Manifest, Registry, RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from build.engine import Engine, Image


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What is in the registry now.

    Attributes:
        names: ``repository:tag``, in the order they were pushed.
        digest: Of the manifest that all of them name.
        size: Bytes of all layers, compressed.
    """

    names: tuple[str, ...]
    digest: str
    size: int


TAGS = re.compile(r"nightly(?:-[0-9a-f]{40})?|local-[0-9a-f]{40}(?:-dirty-[0-9a-f]{12})?|[0-9a-f]{40}")
"""Tags that this tool gives to what can be pushed; others are somebody's own."""


def registry_tags(image: Image, repository: str) -> list[str]:
    """Tags that an image gets in the registry, the moving one last.

    Its local tags say what it is; a bare commit id is called ``commit-<commit>`` in the registry.

    Args:
        image: The image.
        repository: Local repository name; its names elsewhere, and tags of other forms, do not count.
    """
    local = [name.removeprefix(f"{repository}:") for name in image.tags_in(repository)]
    ours = [tag for tag in local if TAGS.fullmatch(tag)]
    tags = {tag if tag.startswith(("nightly", "local-")) else f"commit-{tag}" for tag in ours}
    return sorted(tags, key=lambda tag: (tag == "nightly", tag))


def require_passed(folder: Path, image: Image, *, rules: str) -> None:
    """Refuse an image without a verdict that opens the gate (:func:`build.demands.shortcoming`).

    Args:
        folder: Where verdicts are kept.
        image: The image.
        rules: Fingerprint of the rules as they are now.

    Raises:
        GateError: It has none.
    """
    if why := demands.shortcoming(folder, image, rules=rules):
        raise GateError(f"{image.name} {why}", hint=f"`python -m build smoke {image.name}` tests it")


def require_same_native(image: Image) -> None:
    """Refuse an overlay whose binaries were compiled from other sources than it holds.

    Raises:
        GateError: It is one.
    """
    differing = image.labels.get(labels.NATIVE, "0")
    if differing != "0":
        raise GateError(
            f"{image.name} was made although {differing} native sources differ from its base's",
            hint=f"`python -m build push --allow-native {image.name}` if that is what you want in the registry",
        )


def push(
    engine: Engine,
    image: Image,
    repository: RepositoryName,
    tags: Sequence[str],
    *,
    progress: Callable[[str], None],
) -> Pushed:
    """Push an image under some tags, in order, each checked in the registry before the next.

    Args:
        engine: Where the image is.
        image: An image that passed.
        repository: Where to.
        tags: The moving one last, so that it never names what did not arrive whole.
        progress: Called with lines about the transfer.

    Raises:
        GateError: What the registry serves is not the image that was tested.
        RegistryError: The registry does not answer, or refuses.
    """
    registry = Registry(repository)
    registry.require_reachable()
    arrived = [_push_one(engine, image, registry, tag, progress) for tag in tags]
    if not arrived:
        raise GateError(
            f"{image.short_id} has no tag to be pushed under",
            hint="give it one: `docker tag IMAGE llm-d-dev:local-<commit>`",
        )
    return Pushed(names=tuple(f"{repository}:{tag}" for tag in tags), digest=arrived[-1].digest, size=arrived[-1].size)


def _push_one(engine: Engine, image: Image, registry: Registry, tag: str, progress: Callable[[str], None]) -> Manifest:
    return patiently(lambda: _attempt(engine, image, registry, tag, progress), say=progress)


def _attempt(engine: Engine, image: Image, registry: Registry, tag: str, progress: Callable[[str], None]) -> Manifest:
    served = registry.manifest(tag)
    if served and is_image(served, image):
        return served
    name = f"{registry.name}:{tag}"
    # The name stays only if the push worked: it says that the registry has the image.
    try:
        # Always by ID: a local tag can have moved since the test.
        engine.tag(image.id, name)
        _upload(engine, registry.name, tag, progress)
        return _arrived(registry, tag, image)
    except BaseException:
        engine.untag(name)
        raise


def _arrived(registry: Registry, tag: str, image: Image) -> Manifest:
    served = registry.manifest(tag)
    if served is None or not is_image(served, image):
        what = f"config {served.config}" if served else "nothing"
        raise GateError(
            f"{registry.name}:{tag} is not the tested image {image.short_id}: the registry serves {what}",
            hint="somebody else pushes this tag, or the registry rewrites images; push again, then compare",
        )
    return served


def is_image(served: Manifest, image: Image) -> bool:
    """Whether a manifest is an image of the engine.

    An image ID is the digest of the configuration in the classic image store, and of the manifest in containerd's.
    """
    return image.id in {served.config, served.digest}


def _upload(engine: Engine, repository: RepositoryName, tag: str, progress: Callable[[str], None]) -> None:
    try:
        rows = engine.client.api.push(str(repository), tag=tag, stream=True, decode=True)
        for row in rows:
            if "error" in row:
                raise RegistryError(
                    f"push to {repository}:{tag} failed: {row['error']}",
                    hint=f"`docker login {repository.host}` if it needs credentials; then push again",
                    may_pass=can_get_better(str(row["error"])),
                )
            progress(_describe(row))
    except docker.errors.APIError as error:
        raise RegistryError(
            f"push to {repository}:{tag} failed: {error.explanation}",
            hint="check the registry's name, then push again",
            may_pass=can_get_better(str(error.explanation)),
        ) from error


def _describe(row: dict[str, Any]) -> str:
    detail = row.get("progressDetail") or {}
    # The containerd image store leaves out `current` as long as it is 0.
    amount = f" {detail.get('current', 0) / 1e6:.0f}/{detail['total'] / 1e6:.0f} MB" if detail.get("total") else ""
    return f"{row.get('status', '')} {row.get('id', '')}{amount}".strip()
