"""Manifests of a registry (OCI image-spec v1.1, manifest.md)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
LISTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest: of an image, or an index of images.

    Attributes:
        digest: Digest of the manifest.
        media_type: Media type from the manifest, else from the registry's header.
        config: Digest of the image's configuration; None for an index.
        layers: Digests of the compressed layers, lowest first.
        listed: Whether it lists other manifests, like an index.
        size: Compressed bytes of all layers.
        content: Bytes of the manifest.
    """

    digest: str
    media_type: str
    config: str | None
    layers: tuple[str, ...]
    listed: bool
    size: int
    content: bytes = field(repr=False)

    @classmethod
    def parse(cls, content: bytes, document: Mapping[str, Any], *, content_type: str) -> Manifest:
        """Parse a manifest.

        Raises:
            AttributeError, KeyError, TypeError: The document is not a manifest.
        """
        layers = document.get("layers", ())
        return cls(
            # Computed from the content; the header Docker-Content-Digest is not trusted.
            digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
            media_type=str(document.get("mediaType") or content_type.partition(";")[0].strip()),
            config=document.get("config", {}).get("digest"),
            layers=tuple(str(layer["digest"]) for layer in layers),
            listed="manifests" in document,
            size=sum(int(layer["size"]) for layer in layers),
            content=content,
        )

    @property
    def is_of_one_image(self) -> bool:
        """Whether engines read it as one image and not as an index."""
        return self.media_type in IMAGES and not self.listed
