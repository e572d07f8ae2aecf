"""The smoke suite's benchmarks: what it takes beyond the server's own start, and what sealing saves of that."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from build.confinement import Limits
from smoke import model
from smoke.launch import Launch, await_healthy, running
from tests.bench.figures import Figure
from tests.standin import trial
from tests.standin.image import changed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.ground import Ground

BEYOND_SERVER_S = 15.0
SEALED_RATIO = 0.75
KNOWN_BROKEN_S = 20.0

# A start of the server takes most of a minute.
_RUNS = 3
_TIMEOUT_S = 600.0
_PATH = "vllm/entrypoints/serve/engine/protocol.py"
# uv compiles nothing, so what is there was made by sealing.
_WITHOUT_BYTECODE = "find /opt -name __pycache__ -prune -exec rm -r {} +"


def smoke(ground: Ground, runs: int) -> Iterator[Figure]:
    """The suite on an overlay, sound and with a syntax error; starts of the base with and without bytecode."""
    runs = min(runs, _RUNS)
    sealed: list[float] = []
    bare: list[float] = []
    suites: list[float] = []
    sound = _overlay(ground, ground.clone.edited(ground.commit, files=1))
    with changed(ground.engine, ground.base.image.id, (), script=_WITHOUT_BYTECODE) as without:
        for _ in range(runs):
            sealed.append(_healthy_s(ground, ground.base.image.id))
            bare.append(_healthy_s(ground, without))
            suites.append(_suite_s(ground, sound, status=0))
    own = statistics.median(sealed)
    yield Figure(
        name="smoke suite beyond the server's own time to healthy",
        value=statistics.median(suites) - own,
        goal=BEYOND_SERVER_S,
        unit="s",
        detail=f"suite {statistics.median(suites):.1f} s, server {own:.1f} s",
    )
    yield Figure(
        name="time to healthy, sealed against without bytecode",
        value=own / statistics.median(bare),
        goal=SEALED_RATIO,
        unit="x",
        detail=f"{own:.1f} s, without {statistics.median(bare):.1f} s",
    )
    broken = _broken(ground)
    yield Figure(
        name="smoke suite on a syntax error",
        value=statistics.median(_suite_s(ground, broken, status=1) for _ in range(runs)),
        goal=KNOWN_BROKEN_S,
        unit="s",
    )


def _healthy_s(ground: Ground, image_id: str) -> float:
    """Seconds that the server of an image takes to become healthy, with nothing else going on."""
    folder = ground.folder / "model"
    model.write(folder)
    launch = Launch(image=ground.engine.image(image_id), model=folder, devices=(), key="bench", limits=Limits())
    with running(ground.engine, launch, keep_log=lambda _log: None) as server:
        await_healthy(server, timeout=_TIMEOUT_S, progress=lambda _line: None)
        return server.healthy_s


def _suite_s(ground: Ground, image_id: str, *, status: int) -> float:
    """Seconds that the whole suite takes."""
    start = time.monotonic()
    outcome = trial.run(ground.engine, image_id, ground.folder / "report")
    took = time.monotonic() - start
    assert outcome.status == status, outcome.text
    return took


def _overlay(ground: Ground, commit: str) -> str:
    """Image ID of the overlay of a commit."""
    return str(ground.dev(ground.clone, commit).document["id"])


def _broken(ground: Ground) -> str:
    """Image ID of an overlay whose server has a syntax error."""
    file = ground.clone.path / _PATH
    ground.clone.git("checkout", "--quiet", "--force", "--detach", ground.commit)
    file.write_text(file.read_text(encoding="utf-8") + "\ndef broken(:\n", encoding="utf-8")
    ground.clone.git("commit", "--quiet", "--all", "--message", "Break it")
    return _overlay(ground, ground.clone.git("rev-parse", "HEAD"))
