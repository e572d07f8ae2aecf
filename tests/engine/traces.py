"""What a run left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from build.engine import labels
from build.engine.temporary import TEMPORARY_REPOSITORY, tag_owner
from tests.engine.conftest import LOCAL, RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from build.engine.client import Engine
    from tests.engine.conftest import Cli


def processes(cli: Cli) -> set[int]:
    """Processes of a command line's runs: they have its state folder in their environment."""
    mark = f"LLM_D_DEV_STATE={cli.folders.state}".encode()
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and mark in _environment(path)}


def _environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it ended
        return []


def eventually(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Whether something becomes true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def left(engine: Engine, cli: Cli, pids: Collection[int]) -> list[str]:
    """Processes, containers, temporary names, names for the registry, locks and temporary files, in words.

    Args:
        engine: Where it ran.
        cli: The command line.
        pids: Processes of the run, while it ran.
    """
    return [
        *(f"process {pid}" for pid in processes(cli)),
        *(f"container of {pid}" for pid in _owners(engine) if pid in pids),
        *(name for name in _names(engine, TEMPORARY_REPOSITORY) if _process(tag_owner(name)) in pids),
        *_names(engine, cli.repository),
        *(str(path) for path in cli.folders.locks.glob("*.json")),
        *(str(path) for path in Path(cli.environment["TMPDIR"]).glob("llm-d-dev-*")),
    ]


def _owners(engine: Engine) -> list[int]:
    # The rows as they are: looking up each would fail for one that is removed in between.
    rows = engine.client.api.containers(all=True, filters={"label": f"{RUN}={LOCAL}"})
    return [_process(row["Labels"][labels.OWNER]) for row in rows]


def _process(owner: str) -> int:
    """The process of an identity (:mod:`build.host.identity`); 0 for what is none."""
    parts = owner.split(":")
    return int(parts[-2]) if len(parts) > 1 and parts[-2].isdigit() else 0


def containers(engine: Engine) -> list[int]:
    """Processes that own containers of these tests' images, this one left out."""
    return [pid for pid in _owners(engine) if pid != os.getpid()]


def _names(engine: Engine, repository: str) -> list[str]:
    return [name for image in engine.client.api.images(name=repository) for name in image["RepoTags"] or ()]
