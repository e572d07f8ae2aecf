"""The gate: pushes an image that passed, and exactly that image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker.errors
import requests
import urllib3.exceptions

from build import demands, labels, names, verdict
from build.errors import EngineError, GateError, RegistryError
from build.patience import can_get_better, patiently
from build.registry import Manifest, Registry, RepositoryName, advice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from build.engine import Engine, Image
    from build.verdict import Verdict


# A push may take so long in all: ten minutes and what a slow line needs. The engine's client gives up a silent one.
_UPLOAD_S = 600
_SLOWEST_BYTES_PER_S = 500_000


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


def require_passed(folder: Path, image: Image, *, rules: str) -> Verdict:
    """The verdict that opens the gate for an image (:func:`build.demands.shortcoming`).

    Args:
        folder: Where verdicts are kept.
        image: The image.
        rules: Fingerprint of the rules as they are now.

    Raises:
        GateError: It has none.
    """
    if why := demands.shortcoming(folder, image, rules=rules):
        raise GateError(f"{image.name} {why}", hint=f"`python -m build smoke {image.name}` tests it")
    found = verdict.recall(folder, image.id)
    assert found is not None  # noqa: S101 - for the type checker: a verdict without shortcoming is there
    return found


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
        EngineError: The engine went away.
    """
    registry = Registry(repository, insecure=engine.is_insecure(repository.host))
    registry.require_reachable()
    arrived = [_push_one(engine, image, registry, tag, progress) for tag in tags]
    if not arrived:
        example = names.Stem.local("<commit>").of(names.flavor_of(image) or names.CUDA)
        raise GateError(
            f"{image.short_id} has no tag to be pushed under",
            hint=f"give it one: `docker tag IMAGE llm-d-dev:{example}`",
        )
    return Pushed(names=tuple(f"{repository}:{tag}" for tag in tags), digest=arrived[-1].digest, size=arrived[-1].size)


def _push_one(engine: Engine, image: Image, registry: Registry, tag: str, progress: Callable[[str], None]) -> Manifest:
    return patiently(lambda: _attempt(engine, image, registry, tag, progress), say=progress)


def _attempt(engine: Engine, image: Image, registry: Registry, tag: str, progress: Callable[[str], None]) -> Manifest:
    served = registry.manifest(tag)
    if served and not difference(served, engine.image(image.id), registry):
        return served
    name = f"{registry.name}:{tag}"
    # The name stays only if the push worked: it says that the registry has the image.
    try:
        # Always by ID: a local tag can have moved since the test.
        engine.tag(image.id, name)
        _upload(engine, image, registry, tag, progress)
        return _arrived(engine, registry, tag, image)
    except BaseException:
        engine.untag(name)
        raise


def _arrived(engine: Engine, registry: Registry, tag: str, image: Image) -> Manifest:
    served = registry.manifest(tag)
    what = difference(served, engine.image(image.id), registry) if served else "nothing"
    if served is None or what:
        raise GateError(
            f"{registry.name}:{tag} is not the tested image {image.short_id}: the registry serves {what}",
            hint="something else pushes this tag, or the registry rewrites or loses images; push again, then compare",
        )
    return served


def difference(served: Manifest, image: Image, registry: Registry) -> str | None:
    """In what the registry's image differs from the engine's, None if it is the same and whole.

    An image ID is the digest of the configuration in the classic image store, and of the manifest in containerd's. Only
    the engine knows which compressed layers it made of the image's: it keeps the digests of the manifests that it
    pushed or pulled.

    Args:
        served: What the registry serves.
        image: The image, as the engine describes it now.
        registry: Where the layers have to be.

    Raises:
        RegistryError: The registry does not answer, or refuses.
    """
    if not served.is_of_one_image:
        return f"not one image but {served.media_type or 'a document of no known type'}"
    if image.id not in {served.config, served.digest}:
        return f"config {served.config}"
    if len(served.layers) != len(image.diff_ids):
        return f"{len(served.layers)} layers instead of {len(image.diff_ids)}"
    if served.digest != image.id and not any(name.endswith(f"@{served.digest}") for name in image.digests):
        return f"manifest {served.digest}, whose layers are not known to be the image's"
    lost = [digest for digest in (served.config, *served.layers) if digest and not registry.has_blob(digest)]
    return f"a manifest whose content {lost[0]} is not there" if lost else None


def _upload(engine: Engine, image: Image, registry: Registry, tag: str, progress: Callable[[str], None]) -> None:
    name = f"{registry.name}:{tag}"
    deadline = time.monotonic() + _UPLOAD_S + image.size / _SLOWEST_BYTES_PER_S
    try:
        rows = engine.client.api.push(
            str(registry.name), tag=tag, stream=True, decode=True, auth_config=registry.stored.for_engine()
        )
        for row in rows:
            if "error" in row:
                raise _failure(registry, name, str(row["error"]))
            if time.monotonic() >= deadline:
                raise _failure(registry, name, "it took too long")
            progress(_describe(row))
    except docker.errors.APIError as error:
        raise _failure(registry, name, str(error.explanation)) from error
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        # Not to be tried again: it would be silent as long once more.
        raise _failure(registry, name, "the registry let the engine wait, which said nothing for minutes") from error
    except urllib3.exceptions.HTTPError as error:
        raise EngineError(
            f"the engine went away during the push to {name}: {error}",
            hint="`python -m build engine status` shows whether it runs",
        ) from error


def _failure(registry: Registry, name: str, said: str) -> RegistryError:
    trouble = registry.stored.trouble
    return RegistryError(
        f"push to {name} failed: {said}" + (f" ({trouble})" if trouble else ""),
        hint=advice(said, registry.name.host),
        may_pass=can_get_better(said),
    )


def _describe(row: dict[str, Any]) -> str:
    detail = row.get("progressDetail") or {}
    # The containerd image store leaves out `current` as long as it is 0.
    amount = f" {detail.get('current', 0) / 1e6:.0f}/{detail['total'] / 1e6:.0f} MB" if detail.get("total") else ""
    return f"{row.get('status', '')} {row.get('id', '')}{amount}".strip()
