"""The expiry of images in the embedded registry by ``quay.expires-after``. Quay itself does the same.

The time counts from the image's creation: https://docs.projectquay.io/use_quay.html, "Setting tag expirations".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.engine import labels, names, uploads
from build.host import clock
from build.host.timestamps import expires, moment
from build.registry import local
from build.registry.client import Registry
from build.registry.repository_name import RepositoryName

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from build.registry.container_image import Surroundings


def has_expired(config: Mapping[str, Any], now: dt.datetime) -> bool:
    """Return whether an image has expired, by its configuration (OCI image-spec, config.md).

    Images without the label never expire.
    """
    try:
        made = moment(config["created"])
        return clock.is_past(made) and expires(made, _marks(config).get(labels.QUAY_EXPIRES, "")) < now
    except (KeyError, TypeError, ValueError):
        return False


def _marks(config: Mapping[str, Any]) -> Mapping[str, str]:
    return (config.get("config") or {}).get("Labels") or {}


def expired(registry: Registry, now: dt.datetime) -> set[str]:
    """Return the digests of expired manifests.

    Args:
        registry: Repository to search.
        now: Current time.

    Raises:
        RegistryError: The registry does not answer.
    """
    found = [(tag, manifest) for tag in registry.tags() if (manifest := registry.manifest(tag))]
    configs = {one.digest: registry.blob(one.config) for _, one in found if one.config}
    kept = {one.digest for tag, one in found if _is_last_good(tag, configs.get(one.digest, {}))}
    return {digest for digest, config in configs.items() if digest not in kept and has_expired(config, now)}


def _is_last_good(text: str, config: Mapping[str, Any]) -> bool:
    """Return whether a tag is the moving one of its image's flavor. That image stays, with all its tags."""
    flavor = _marks(config).get(labels.FLAVOR)
    return (tag := names.Tag.parse(text)) is not None and tag.moves and flavor in (None, tag.flavor)


def abandoned(registry: Registry, locks: Path) -> set[str]:
    """Return the tags that killed pushes left.

    Args:
        registry: Repository to search.
        locks: Folder of lock files.

    Raises:
        RegistryError: The registry does not answer.
    """
    found = set()
    for tag in registry.tags():
        if upload := names.Upload.parse(tag):
            with uploads.abandoned(upload, locks) as gone:
                found |= {tag} if gone else set()
    return found


def waiting(context: Surroundings, repository: str) -> tuple[Registry, set[str], set[str]] | None:
    """Return the embedded registry with its expired digests and abandoned tags, or None if it does not run.

    Args:
        context: Context of the run.
        repository: Repository name without the host.

    Raises:
        RegistryError: The registry does not answer.
    """
    access = local.running(context.engine, context.folders)
    if access is None:
        return None
    registry = Registry(RepositoryName(host=access.address, path=repository, access=access))
    return registry, expired(registry, clock.now()), abandoned(registry, context.folders.locks)


def sweep(context: Surroundings, repository: str) -> int:
    """Remove expired images from the embedded registry, if it runs. Arguments like :func:`waiting`.

    Returns:
        Freed bytes.

    Raises:
        RegistryError: The registry does not answer.
        EngineError: The registry did not start again.
        BusyError: Another run uses it for more than 10 minutes.
    """
    found = waiting(context, repository)
    if found is None or not (found[1] or found[2]):
        return 0
    registry, digests, tags = found
    for tag in tags:
        registry.untag(tag)
    for digest in digests:
        registry.delete(digest)
    return local.collect(context)
