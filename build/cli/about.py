"""The version of this checkout."""

from __future__ import annotations

import contextlib
import tomllib

from build.config.folders import REPOSITORY
from build.errors import SourceError
from build.source.repository import Repository


def version() -> str:
    """Return the version of ``pyproject.toml`` and, in a git checkout, the output of ``git describe``."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commit = _described()
    return f"{project['name']} {project['version']}" + (f" ({commit})" if commit else "")


def _described() -> str:
    # Without a repository of its own, git would describe a surrounding one.
    if not (REPOSITORY / ".git").exists():
        return ""
    with contextlib.suppress(OSError, SourceError), contextlib.closing(Repository(REPOSITORY)) as own:
        return own.described()
    return ""
