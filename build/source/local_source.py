"""The local vLLM repository of a run: from the command line, or the default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "VLLM_LOCAL_GIT_DIR"


@dataclass(frozen=True, kw_only=True)
class LocalSource:
    """A repository and the origin of its path.

    Attributes:
        path: Folder of the repository, or its git directory.
        origin: Origin of the path in words; None for a path from the command line.
    """

    path: Path
    origin: str | None

    @classmethod
    def default(cls, environment: Mapping[str, str]) -> LocalSource:
        """Return the vLLM repository around the current folder, else the one in the variable, else ``~/vllm``."""
        if (around := _around()) and (around / "vllm/__init__.py").is_file():
            return cls(path=around, origin="the repository around the current folder")
        if named := environment.get(VARIABLE):
            return cls(path=_absolute(Path(named)), origin=f"from {VARIABLE}")
        return cls(path=_absolute(Path("~/vllm")), origin="the default")

    def require(self) -> Path:
        """Return the path after a check that it exists.

        Raises:
            SourceError: The path does not exist.
        """
        if self.path.exists():
            return self.path
        if self.origin is None:
            raise SourceError(
                f"there is no {self.path}",
                hint="give the path of a clone of vLLM, then the ref: `dev PATH [REF]`",
            )
        raise SourceError(
            f"there is no {self.path} ({self.origin})",
            hint=f"run this in a clone of vLLM, or give one: `dev PATH [REF]`, or {VARIABLE}",
        )


def _around() -> Path | None:
    """Return the top folder of the repository around the current folder."""
    try:
        here = Path.cwd()
    except OSError:
        # The folder was removed.
        return None
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except (RuntimeError, OSError):
        # No home folder, an unknown user, or no current folder. A run that needs the path reports it.
        return path
