"""Atomic writing of files."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomic(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write text like :func:`write_atomic_bytes`."""
    write_atomic_bytes(path, text.encode(), mode=mode)


def write_atomic_bytes(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never a part.

    Args:
        path: The file. Missing parent folders are created.
        content: Whole content of the file.
        mode: Permissions of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, document: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write ``document`` as indented JSON, atomically."""
    write_atomic(path, json.dumps(document, indent=2, sort_keys=True) + "\n")
