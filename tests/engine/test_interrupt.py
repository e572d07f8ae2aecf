"""A run that is interrupted or killed at any step of the way."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import git
import pytest

from tests.engine import traces
from tests.engine.conftest import LOCAL, commit_all, make_cli
from tests.engine.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from build.engine import Engine, Image
    from tests.engine.conftest import Cli, Ran
    from tests.engine.relay import Moment

FAULTS = "vllm/entrypoints/launchers/faults.py"
REACHED_S = 60.0
ENDS_S = 20.0
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Step:
    """A moment of `dev`, as the engine sees it.

    Attributes:
        name: In words.
        request: Pattern of the request that is held.
        moment: Whether the engine has already done what it asks for.
        work: What there is to do: a ``new`` commit, one that also ``deletes`` a file, or one whose image is there and
            ``hangs`` or ``passed``.
        cached: Whether what the base holds is known already.
    """

    name: str
    request: str
    moment: Moment
    work: str
    cached: bool = True


STEPS = (
    Step("container of the base made", "POST .*/containers/create", "done", "new", cached=False),
    Step("reading the base", "GET .*/archive", "asked", "new", cached=False),
    Step("container to add to made", "POST .*/containers/create", "done", "new"),
    Step("adding the files", "PUT .*/archive", "asked", "new"),
    Step("making the overlay", "POST .*/commit", "asked", "new"),
    Step("base tagged", "POST .*/tag.*repo=llm-d-dev-temporary", "done", "deletes"),
    Step("building the overlay", "POST /session", "asked", "deletes"),
    Step("container of the overlay made", "POST .*/containers/create", "done", "hangs"),
    Step("overlay started", "POST .*/start", "done", "hangs"),
    Step("overlay tagged for the registry", "POST .*/tag.*repo=127", "done", "passed"),
    Step("asking to push", "POST .*/push", "asked", "passed"),
    Step("pushing", "POST .*/push", "done", "passed"),
)
BY_NAME = {step.name: step for step in STEPS}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended, and what it left.

    Attributes:
        returncode: Its exit status.
        output: What it printed.
        left: What it left behind.
        tags: Names that the commit's image got.
        next: The run after a killed one.
        left_by_next: What there was after that.
    """

    returncode: int
    output: str
    left: list[str]
    next: Ran | None
    left_by_next: list[str]


@dataclass(frozen=True)
class Scene:
    """Where the runs take place."""

    engine: Engine
    registry_address: str
    folder: Path
    works: dict[str, Path]
    images: dict[str, Image]
    cache: Path

    def play(self, step: Step, number: signal.Signals) -> Outcome:
        """Run `dev` to a step, send it a signal, and see what is left."""
        folder = self.folder / f"{STEPS.index(step)}-{number.name}"
        cli = make_cli(self.engine, self.registry_address, folder)
        if step.cached:
            shutil.copytree(self.cache, cli.folders.cache)
        if step.work == "passed":
            cli.pass_smoke(self.images["passed"])
        words = ["dev", self._work(step, folder), "--json"]
        with Relay(folder / "engine", self.engine.host.removeprefix("unix://")) as relay:
            relay.hold(step.request, step.moment)
            run = interrupt(cli, words, number, when=lambda: relay.wait(seconds=REACHED_S), DOCKER_HOST=relay.host)
        left = traces.left(self.engine, cli, run.pids)
        following = cli(*words, "--no-smoke") if number == signal.SIGKILL else None
        return Outcome(
            returncode=run.returncode,
            output=run.output,
            left=left,
            next=following,
            left_by_next=traces.left(self.engine, cli, run.pids),
        )

    def _work(self, step: Step, folder: Path) -> Path:
        """A repository whose HEAD gives the step something to do."""
        if step.work in self.works:
            return self.works[step.work]
        deletes = step.work == "deletes"
        return make_work(self.works["passed"], folder / "vllm", f"New for {folder.name}", deletes=deletes)


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """A run that was sent a signal."""

    returncode: int
    output: str
    pids: set[int]


def interrupt(
    cli: Cli, words: list[str | Path], number: signal.Signals, *, when: Callable[[], bool], **variables: str
) -> Interrupted:
    """Start a run, send a signal at the right moment, and wait until all its processes are gone."""
    with cli.start(*words, **variables) as process:
        try:
            assert when(), f"not reached; exit status {process.poll()}"
            pids = traces.processes(cli)
            process.send_signal(number)
        except BaseException:
            process.kill()
            raise
        stdout, stderr = process.communicate(timeout=ENDS_S)
    traces.eventually(lambda: not traces.processes(cli), seconds=ENDS_S)
    return Interrupted(returncode=process.returncode, output=stdout + stderr, pids=pids)


def make_work(source: Path, folder: Path, message: str, *, hangs: bool = False, deletes: bool = False) -> Path:
    """A clone with a commit of its own; perhaps one whose server never becomes healthy, or one with a file less."""
    with contextlib.closing(git.Repo.clone_from(str(source), folder)) as clone:
        if hangs:
            file = folder / FAULTS
            text = file.read_text(encoding="utf-8")
            assert "return name or None" in text
            file.write_text(text.replace("return name or None", 'return "hangs"'), encoding="utf-8")
        if deletes:
            (folder / FAULTS).unlink()
        commit_all(clone, message)
    return folder


@pytest.fixture(scope="module")
def scene(
    engine: Engine, registry_address: str, base: Image, vllm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    """Two commits whose images are there, and a cache that knows the base."""
    del base  # on the engine now
    folder = tmp_path_factory.mktemp("interrupt")
    cli = make_cli(engine, registry_address, folder / "before")
    works = {name: make_work(vllm, folder / name, name, hangs=name == "hangs") for name in ("passed", "hangs")}
    images = {}
    for name, work in works.items():
        ran = cli("dev", work, "--no-smoke", "--json")
        assert ran.returncode == 0, ran.stderr
        images[name] = engine.image(ran.json["id"])
    return Scene(engine, registry_address, folder, works, images, cli.folders.cache)


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Callable[[str, signal.Signals], Outcome]]:
    """Gives the outcome of a step and a signal. Those that are asked for run side by side: each is mostly waiting."""
    wanted = dict.fromkeys(pair for item in request.session.items if (pair := _pair(item)))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        started: dict[tuple[str, signal.Signals], Future[Outcome]] = {
            pair: pool.submit(scene.play, BY_NAME[pair[0]], pair[1]) for pair in wanted
        }
        yield lambda step, number: started[step, number].result()


def _pair(item: pytest.Item) -> tuple[str, signal.Signals] | None:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return (parameters["step"], parameters["number"]) if {"step", "number"} <= parameters.keys() else None


@pytest.mark.parametrize("number", INTERRUPTS)
@pytest.mark.parametrize("step", BY_NAME)
def test_interrupt_leaves_nothing(
    played: Callable[[str, signal.Signals], Outcome], step: str, number: signal.Signals
) -> None:
    outcome = played(step, number)
    assert outcome.returncode == 130, outcome.output
    assert outcome.left == []
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("number", [signal.SIGKILL])
@pytest.mark.parametrize("step", BY_NAME)
def test_kill_leaves_nothing_that_the_next_run_stumbles_over(
    played: Callable[[str, signal.Signals], Outcome], step: str, number: signal.Signals
) -> None:
    outcome = played(step, number)
    assert outcome.returncode == -number
    assert outcome.next is not None
    assert outcome.next.returncode == 0, outcome.next.stderr
    assert [what for what in outcome.left_by_next if not what.startswith("/")] == []


assert LOCAL
assert socket
