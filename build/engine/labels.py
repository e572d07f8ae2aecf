"""The labels that make Docker the database of this tool's images.

OCI names: https://github.com/opencontainers/image-spec/blob/v1.1.0/annotations.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "llm-d-dev."

KIND = PREFIX + "kind"
"""The kind of an image of this tool: ``base``, ``overlay``, ``unsealed`` (a base in the making), ``rootfs`` or
``registry``.

An image without this label is not of this tool and is never touched.
"""
FLAVOR = PREFIX + "flavor"
"""``cpu`` or ``cuda``."""
COMMIT = PREFIX + "commit"
"""Full id of the vLLM commit whose files the image holds."""
WORK = PREFIX + "work"
"""On overlays of uncommitted work: the commit below it and its tree, in the form of their tags."""
VERSION = PREFIX + "version"
"""The value of ``vllm.__version__`` and of the server's ``/version``."""
ORIGIN = PREFIX + "origin"
"""On adopted bases and their overlays: the image that was adopted, pinned by digest or ID."""
BASE = PREFIX + "base"
"""Image ID of an overlay's base."""
REPOSITORY = PREFIX + "repository"
"""Local repository of a base or overlay, which identifies its owner once it has lost its names."""
NATIVE = PREFIX + "native"
"""On overlays: number of native sources that differ from the base's. Above 0 only if that was allowed."""
FINGERPRINT = PREFIX + "fingerprint"
"""Digest of all inputs of the image. An image with the same digest need not be built again."""
CONTENT = PREFIX + "content"
"""On bases and overlays: digest of layers, labels and configuration (:mod:`build.engine.content`)."""
LLM_D = PREFIX + "llm-d"
"""On bases of the cuda flavor: the commit of llm-d/llm-d whose Dockerfile made them."""
WHEEL = PREFIX + "wheel"
"""On the same bases: the vLLM commit of the wheel with their binaries; absent if the binaries were compiled."""
OWNER = PREFIX + "owner"
"""On containers: the identity of the run that started it (:mod:`build.host.identity`), to recognise leftovers."""
NAME = PREFIX + "name"
"""On containers: their own name. Images committed from a container, and their containers, inherit the labels."""

SERVER = PREFIX + "server"
"""On containers that serve a model: the ID of the image."""

REGISTRY = PREFIX + "registry"
"""On the embedded registry's container and volume: the identity of their state folder."""

QUAY_EXPIRES = "quay.expires-after"
OCI_REVISION = "org.opencontainers.image.revision"
OCI_SOURCE = "org.opencontainers.image.source"
OCI_CREATED = "org.opencontainers.image.created"
OCI_BASE_NAME = "org.opencontainers.image.base.name"
OCI_BASE_DIGEST = "org.opencontainers.image.base.digest"
OCI_TITLE = "org.opencontainers.image.title"


def of_container(name: str, *, owner: str) -> dict[str, str]:
    """Return the labels of a container that a run starts.

    Args:
        name: The container's name, used once.
        owner: Identity of the run (:mod:`build.host.identity`).
    """
    return {OWNER: owner, NAME: name}


def are_own(marks: Mapping[str, str], name: str | None) -> bool:
    """Return whether a container's labels are its own and not inherited from its image.

    Args:
        marks: The labels.
        name: The container's name.
    """
    return OWNER in marks and marks.get(NAME) == name is not None
