"""Archives of images as ``docker save`` writes them, made by hand."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GONE = None
"""Instead of a content: the file of a layer below is deleted (OCI image-spec v1.1, layer.md, whiteouts)."""

_CREATED = "2026-01-01T00:00:00Z"


def layer(files: Mapping[str, bytes | None]) -> bytes:
    """The archive of a layer with some files by path."""
    contents: dict[str, bytes] = {}
    for path, content in files.items():
        folder, slash, name = path.rpartition("/")
        contents |= {path: content} if content is not None else {f"{folder}{slash}.wh.{name}": b""}
    return tar(contents)


def tar(files: Mapping[str, bytes]) -> bytes:
    """An archive of some files by path."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def as_docker(layers: Sequence[bytes], *, name: str = "made:up") -> bytes:
    """An image as Docker's own store saved it before Engine 25 (moby/docker-image-spec, v1.2)."""
    config = _config(layers)
    places = {f"{number:064}/layer.tar": content for number, content in enumerate(layers)}
    manifest = [{"Config": f"{_digest(config)}.json", "RepoTags": [name], "Layers": list(places)}]
    return tar({**places, f"{_digest(config)}.json": config, "manifest.json": json.dumps(manifest).encode()})


def as_oci(layers: Sequence[bytes], *, blobs: Sequence[bytes] | None = None) -> bytes:
    """An image as newer engines save it, with the containerd store in whichever form the registry has its layers.

    Args:
        layers: The archives.
        blobs: The same, compressed.
    """
    config = _config(layers)
    contents = [config, *(blobs or layers)]
    places = {f"blobs/sha256/{_digest(content)}": content for content in contents}
    names = [f"blobs/sha256/{_digest(content)}" for content in contents]
    manifest = [{"Config": names[0], "RepoTags": None, "Layers": names[1:]}]
    index = {"schemaVersion": 2, "manifests": []}
    return tar(
        {
            **dict(sorted(places.items())),
            "index.json": json.dumps(index).encode(),
            "manifest.json": json.dumps(manifest).encode(),
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        }
    )


def _config(layers: Sequence[bytes]) -> bytes:
    document = {
        "architecture": "amd64",
        "created": _CREATED,
        "os": "linux",
        "config": {"Cmd": ["nothing"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(content)}" for content in layers]},
        "history": [{"created": _CREATED, "created_by": "by hand"} for _ in layers],
    }
    return json.dumps(document).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
