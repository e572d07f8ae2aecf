"""The identity of the code that judges images, so that a verdict names the rules it was reached by."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from build.config.folders import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

SUITE = REPOSITORY / "smoke"
"""The smoke suite."""

_RULES = ("smoke", "build")


def rules() -> str:
    """Return the digest of all code that decides a verdict: the suite and the package of its rules."""
    return hashlib.sha256("\n".join(fingerprint(REPOSITORY / name) for name in _RULES).encode()).hexdigest()


def fingerprint(folder: Path, pattern: str = "**/*.py") -> str:
    """Return the digest of the files below a folder: equal for the same names with the same contents.

    Args:
        folder: The suite's folder, or a model's.
        pattern: Files that count. The default leaves out bytecode, which differs between equal suites.

    Returns:
        SHA-256 in hexadecimal over path, NUL, SHA-256 of the content and newline of each file, in the order of
            paths.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()


def checks(path: Path) -> str:
    """Digest of a user's own checks: of a file, or of all Python files below a folder."""
    return fingerprint(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def model(folder: Path) -> str:
    """Return the digest of a model: of all files below its folder."""
    return fingerprint(folder, "**/*")
