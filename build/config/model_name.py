"""The model that a test serves, as named on the command line: a folder, or an ID on Hugging Face's hub."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """A model on the hub.

    Attributes:
        repository: Such as ``Qwen/Qwen3-0.6B``.
        revision: Branch, tag or commit.
    """

    repository: str
    revision: str

    @classmethod
    def parse(cls, word: str) -> ModelName | None:
        """Parse ``ID[@REVISION]``. Return None for another form."""
        match = _NAME.fullmatch(word)
        return cls(repository=match["repository"], revision=match["revision"] or "main") if match else None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


def chosen(folder: Path) -> Path | ModelName:
    """Return the folder of a model, or its name on the hub.

    Args:
        folder: Value of the option.

    Raises:
        UsageError: The value is neither, or the user inside a container cannot read the folder.
    """
    if not folder.exists() and (name := ModelName.parse(str(folder))):
        return name
    if not folder.joinpath("config.json").is_file():
        raise UsageError(
            f"--model {folder}: not a folder with a config.json, and not a model ID", hint="give DIR or ID[@REVISION]"
        )
    if shut := _shut(folder):
        raise UsageError(f"--model {folder}: {shut} must be readable by everyone", hint=f"`chmod -R a+rX {folder}`")
    return folder


def _shut(folder: Path) -> Path | None:
    """Return a part of a folder that the user inside a container cannot read."""
    for path in (folder, *folder.rglob("*")):
        needed = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if path.stat().st_mode & needed != needed:
            return path
    return None
