"""The removal of what a killed run leaves on an engine.

testcontainers' own reaper is an image that has to be pulled, so it cannot be relied on. Instead, every temporary
object carries the identity of the process that made it, and every run starts by removing the objects of dead processes.
A container counts only under its original name, because containers of an image committed from it have the same labels.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import docker.errors
import requests

from build.engine import labels
from build.engine.temporary import TEMPORARY_REPOSITORY, tag_owner
from build.host import identity

if TYPE_CHECKING:
    from build.engine.client import Engine

log = logging.getLogger(__name__)


def sweep(engine: Engine) -> int:
    """Remove the containers and temporary tags of dead runs.

    Returns:
        Number of removed objects.
    """
    removed = 0
    # Another run may be removing the same objects: ignore_removed, and the errors below.
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
                # The image stays: it may be a base that took hours.
                engine.release(tag)
                removed += 1
    return removed
