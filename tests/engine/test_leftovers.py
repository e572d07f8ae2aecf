"""What a killed run left on the engine goes; what somebody made of it stays."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import docker.errors

from build.engine import labels, leftovers
from build.host import identity
from tests.engine.conftest import LOCAL, RUN

if TYPE_CHECKING:
    from build.engine.client import Engine
    from build.engine.image import Image


def _gone() -> str:
    """The identity of a process that has ended."""
    with subprocess.Popen(["sleep", "60"]) as process:
        who = identity.identity(process.pid)
        process.kill()
    return who


def _exists(engine: Engine, name: str) -> bool:
    try:
        engine.client.containers.get(name)
    except docker.errors.NotFound:
        return False
    return True


def test_a_container_of_an_image_that_was_committed_from_a_leftover_stays(engine: Engine, system: Image) -> None:
    left, users = f"{LOCAL}-left", f"{LOCAL}-users"
    # Another run on this engine may sweep a leftover at any moment: it is made one when its copy is there.
    marks = labels.of_container(left, owner=_gone()) | {RUN: LOCAL}
    with contextlib.ExitStack() as stack:
        stack.callback(_remove, engine, left)
        engine.client.containers.create(system.id, ["-"], name=f"{left}-unswept", labels=marks)
        stack.callback(_remove, engine, f"{left}-unswept")
        committed = engine.client.containers.get(f"{left}-unswept").commit(LOCAL, "research")
        stack.callback(engine.untag, f"{LOCAL}:research")
        engine.client.containers.create(str(committed.id), ["-"], name=users)
        stack.callback(_remove, engine, users)
        engine.client.containers.create(system.id, ["-"], name=left, labels=marks)
        leftovers.sweep(engine)
        assert not _exists(engine, left)
        inherited = engine.client.containers.get(users).labels
        assert inherited[labels.OWNER] == marks[labels.OWNER]
        assert _exists(engine, users)


def _remove(engine: Engine, name: str) -> None:
    with contextlib.suppress(docker.errors.NotFound):
        engine.client.api.remove_container(name, force=True, v=True)
