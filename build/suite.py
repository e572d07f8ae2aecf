"""The identity of the smoke suite, so that a verdict says by which checks it was reached."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def fingerprint(folder: Path, pattern: str = "**/*.py") -> str:
    """Digest of the files below a folder: equal means the same names with the same contents.

    Args:
        folder: The suite's folder, or a model's.
        pattern: Which files count. The default leaves out bytecode, which differs between equal suites.

    Returns:
        SHA-256 in hexadecimal over path, NUL, SHA-256 of the content and newline of each file, in the order
        of their paths.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()
