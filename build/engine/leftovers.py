"""What a killed run leaves on an engine, and its removal.

testcontainers' own reaper is an image that has to be pulled, so it cannot be relied on. Instead everything
temporary carries the identity of the process that made it, and every run starts by removing what belongs to
processes that are gone. A container counts only under the name that it was given: one that somebody made of an image
that was committed from it has the same labels.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import docker.errors
import requests

from build.engine import labels
from build.engine.client import TEMPORARY_REPOSITORY, tag_owner
from build.host import identity

if TYPE_CHECKING:
    from build.engine.client import Engine

log = logging.getLogger(__name__)


def sweep(engine: Engine) -> int:
    """Remove containers and temporary tags of runs that are gone.

    Returns:
        How many things were removed.
    """
    removed = 0
    # Another run may be removing its own meanwhile: ignore_removed, and the errors below.
    found = engine.client.containers.list(all=True, filters={"label": labels.OWNER}, ignore_removed=True)
    for container in found:
        marks = container.labels
        if labels.are_own(marks, container.name) and not identity.alive(marks[labels.OWNER]):
            log.info("removing container %s of a run that is gone", container.short_id)
            try:
                container.remove(force=True, v=True)
            except docker.errors.NotFound:
                continue
            except docker.errors.APIError as error:
                if error.status_code != requests.codes.conflict:
                    raise
                continue
            removed += 1
    for image in engine.client.api.images(name=TEMPORARY_REPOSITORY):
        for tag in image.get("RepoTags") or ():
            if not identity.alive(tag_owner(tag)):
                log.info("removing tag %s of a run that is gone", tag)
                # Not the image: it may be a base that took hours.
                engine.release(tag)
                removed += 1
    return removed
