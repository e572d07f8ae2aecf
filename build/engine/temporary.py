"""Temporary tags, and the process that each belongs to."""

from __future__ import annotations

from build.host import identity

TEMPORARY_REPOSITORY = "llm-d-dev-temporary"
"""Repository of temporary tags: ``<repository>:<first digits of the image ID>-<identity of the process>``."""


def temporary_name(what: str) -> str:
    """Return a name in :data:`TEMPORARY_REPOSITORY` with this process's identity, whose colons a tag may not hold."""
    return f"{TEMPORARY_REPOSITORY}:{what}-{identity.in_name(identity.identity())}"


def tag_owner(name: str) -> str:
    """Return the :func:`build.host.identity.identity` of the run that made a temporary tag."""
    return identity.from_name(name.rpartition(":")[2].partition("-")[2])
