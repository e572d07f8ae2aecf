"""The labels that make Docker the database of our images.

OCI names: https://github.com/opencontainers/image-spec/blob/v1.1.0/annotations.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "llm-d-dev."

KIND = PREFIX + "kind"
"""``base``, ``overlay``, ``unsealed`` (on its way to a base), ``rootfs`` or ``registry``: what an image of ours is.

Absent: not ours, never touched.
"""
FLAVOR = PREFIX + "flavor"
"""``cpu`` or ``cuda``."""
COMMIT = PREFIX + "commit"
"""Full id of the vLLM commit whose files the image holds."""
WORK = PREFIX + "work"
"""On overlays of uncommitted work: the commit that it is on top of and its tree, as their tags have them."""
VERSION = PREFIX + "version"
"""What ``vllm.__version__`` and the server's ``/version`` say."""
BASE = PREFIX + "base"
"""Image ID of the base that an overlay stands on."""
REPOSITORY = PREFIX + "repository"
"""Local repository that a base or overlay was made for: whose it is when it has lost its names."""
NATIVE = PREFIX + "native"
"""On overlays: how many native sources differ from the base's. Not 0 only if that was allowed."""
FINGERPRINT = PREFIX + "fingerprint"
"""Digest of everything that went into the image: equal means that it need not be built again."""
CONTENT = PREFIX + "content"
"""On bases and overlays: digest of layers, labels and configuration (:mod:`build.engine.content`)."""
LLM_D = PREFIX + "llm-d"
"""On bases of the cuda flavor: the commit of llm-d/llm-d whose Dockerfile made them."""
WHEEL = PREFIX + "wheel"
"""The same: the vLLM commit whose wheel their binaries are from; absent where they were compiled."""
OWNER = PREFIX + "owner"
"""On containers: the identity of the run that started it (:mod:`build.host.identity`), so that leftovers are told."""
NAME = PREFIX + "name"
"""On containers: their own name. Images that are committed from them, and containers of those, inherit the labels."""

SERVER = PREFIX + "server"
"""On containers that serve a model: the ID of the image that was started."""

REGISTRY = PREFIX + "registry"
"""On the embedded registry's container and volume: the identity of the state folder that they belong to."""

QUAY_EXPIRES = "quay.expires-after"
OCI_REVISION = "org.opencontainers.image.revision"
OCI_SOURCE = "org.opencontainers.image.source"
OCI_CREATED = "org.opencontainers.image.created"
OCI_BASE_NAME = "org.opencontainers.image.base.name"
OCI_BASE_DIGEST = "org.opencontainers.image.base.digest"
OCI_TITLE = "org.opencontainers.image.title"


def of_container(name: str, *, owner: str) -> dict[str, str]:
    """Labels of a container that a run starts.

    Args:
        name: The container's name, used once.
        owner: Identity of the run (:mod:`build.host.identity`).
    """
    return {OWNER: owner, NAME: name}


def are_own(marks: Mapping[str, str], name: str | None) -> bool:
    """Whether a container's labels were given to it, not inherited from the image that it was made from.

    Args:
        marks: The labels.
        name: The container's name.
    """
    return OWNER in marks and marks.get(NAME) == name is not None
