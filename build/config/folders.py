"""The folders of state and caches: shared by all clones, readable, safe to delete."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path, user_state_path

import build

REPOSITORY = Path(str(build.__file__)).resolve().parents[1]
"""The checkout of this code."""

INSIDE = REPOSITORY / "build" / "base" / "inside"
"""The scripts that run inside images."""

_APP = "llm-d-dev"


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folders that a run reads and writes.

    Attributes:
        state: Logs, verdicts, reports, locks, and the data of the embedded engine and registry.
        cache: Files that can be fetched or made again: downloads, imported sources, models.
    """

    state: Path
    cache: Path

    @classmethod
    def default(cls) -> Folders:
        """Return the user's own folders, from platformdirs."""
        return cls(state=user_state_path(_APP), cache=user_cache_path(_APP))

    @property
    def logs(self) -> Path:
        """Log files, one per run."""
        return self.state / "logs"

    @property
    def verdicts(self) -> Path:
        """Verdicts: one in-toto statement per image, named after its ID."""
        return self.state / "verdicts"

    @property
    def reports(self) -> Path:
        """Reports, one folder per smoke run."""
        return self.state / "reports"

    @property
    def nightlies(self) -> Path:
        """Records of nightlies, one per run."""
        return self.state / "nightlies"

    @property
    def locks(self) -> Path:
        """Lock files; the operating system drops the lock of a killed process."""
        return self.state / "locks"

    @property
    def engine(self) -> Path:
        """The embedded Docker Engine's configuration and data."""
        return self.state / "engine"

    @property
    def registry(self) -> Path:
        """The embedded registry's configuration and data."""
        return self.state / "registry"

    @property
    def runtime(self) -> Path:
        """Sockets and pid files of the embedded engine and registry.

        Not below ``state``: a Unix socket's path is limited to 107 bytes (unix(7)), and a restart of the machine should
        clear files that only a running process needs.
        """
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]
        return Path("/run") / _APP / digest

    @property
    def downloads(self) -> Path:
        """Release files, named as on the package index and checked against its hashes."""
        return self.cache / "downloads"

    @property
    def mirror(self) -> Path:
        """The bare repository with commits fetched from GitHub."""
        return self.cache / "vllm.git"

    @property
    def releases(self) -> Path:
        """The bare repository with imported vLLM releases."""
        return self.cache / "releases.git"
