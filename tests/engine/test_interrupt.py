"""A run that is interrupted or killed at any step of the way."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import git
import pytest

from build.engine import labels
from tests.engine import traces
from tests.engine.conftest import LOCAL, base_fingerprint, commit_all, finished, make_cli
from tests.engine.relay import Relay
from tests.standin.image import another_base

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli, Ran, Word
    from tests.engine.relay import Moment

FAULTS = "vllm/entrypoints/launchers/faults.py"
REACHED_S = 60.0
ENDS_S = 20.0


@dataclass(frozen=True)
class Step:
    """A moment of `dev`, as the engine sees it.

    Attributes:
        name: In words.
        request: Pattern of the request that is held; for a moment that is ``logged``, of the line.
        moment: Before the engine has that request, or when it is done; or when something is in the log.
        work: What there is to do: a ``new`` commit, one that ``installs`` something, which takes a build, or one
            whose image is there and ``hangs``, is ``sound``, or has ``passed``.
        cached: Whether what the base holds is known already.
    """

    name: str
    request: str
    moment: Moment | Literal["logged"]
    work: str
    cached: bool = True


STEPS = (
    Step("container of the base made", "POST .*/containers/create", "done", "new", cached=False),
    Step("reading the base", "GET .*/archive", "asked", "new", cached=False),
    Step("overlay handed over", "POST .*/images/load", "asked", "new"),
    Step("base tagged", "POST .*/tag.*repo=llm-d-dev-temporary", "done", "installs"),
    Step("building the overlay", r"\[installed .*uv pip install", "logged", "installs"),
    Step("container of the overlay made", "POST .*/containers/create", "done", "hangs"),
    Step("overlay started", "POST .*/start", "done", "hangs"),
    Step("overlay tested", "POST .*/kill", "asked", "sound"),
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
        survivors: Processes of it that were there when it had ended.
        left: What it left behind.
        next: The run after a killed one.
        left_by_next: What there was after that.
    """

    returncode: int
    output: str
    survivors: set[int]
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
        cli.pass_smoke(self.images["base"])
        if step.work == "passed":
            cli.pass_smoke(self.images["sound"])
        work = self._work(step, folder)
        words: list[Word] = ["dev", work, "--json", *(["--install-deps"] if step.work == "installs" else [])]
        if step.work == "installs":
            stand_in_for_uv(cli, "sleep 20")
        if step.moment == "logged":
            run = interrupt(cli, words, number, when=lambda: logged(cli, step.request))
        else:
            with Relay(folder / "engine", self.engine.host.removeprefix("unix://")) as relay:
                relay.hold(step.request, step.moment)
                run = interrupt(cli, words, number, when=lambda: relay.wait(seconds=REACHED_S), DOCKER_HOST=relay.host)
        left = [*traces.left(self.engine, cli, run.pids), *self._half_made(work)]
        if step.work == "installs":
            stand_in_for_uv(cli, "exit 0")
        next_run = cli(*words, "--no-smoke") if number == signal.SIGKILL else None
        return Outcome(
            returncode=run.returncode,
            output=run.output,
            survivors=run.survivors,
            left=left,
            next=next_run,
            left_by_next=traces.left(self.engine, cli, run.pids),
        )

    def _half_made(self, work: Path) -> list[str]:
        """Names of the image of a commit that was not to get one."""
        if work in self.works.values():
            return []
        with contextlib.closing(git.Repo(work)) as repository:
            commit = repository.head.commit.hexsha
        return [name for image in self.engine.images(commit=commit) for name in image.tags]

    def _work(self, step: Step, folder: Path) -> Path:
        """A repository whose HEAD gives the step something to do."""
        if step.work in ("new", "installs"):
            requires = "nowhere-to-be-had" if step.work == "installs" else None
            return make_work(self.works["sound"], folder / "vllm", f"New for {folder.name}", requires=requires)
        return self.works["hangs" if step.work == "hangs" else "sound"]


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """A run that was sent a signal.

    Attributes:
        returncode: Its exit status.
        output: What it printed.
        pids: Its processes at that time.
        survivors: Those that were still there when it had ended.
    """

    returncode: int
    output: str
    pids: set[int]
    survivors: set[int]


def interrupt(
    cli: Cli, words: Sequence[Word], number: signal.Signals, *, when: Callable[[], bool], **variables: str
) -> Interrupted:
    """Start a run, send a signal at the right moment, and wait until all its processes are gone."""
    with cli.start(*words, **variables) as process:
        try:
            assert when(), f"not reached: {process.communicate(timeout=ENDS_S)}"
            pids = traces.processes(cli)
            process.send_signal(number)
        except BaseException:
            process.kill()
            raise
        stdout, stderr = process.communicate(timeout=ENDS_S)
    survivors = traces.processes(cli)
    traces.eventually(lambda: not traces.processes(cli), seconds=ENDS_S)
    return Interrupted(returncode=process.returncode, output=stdout + stderr, pids=pids, survivors=survivors)


def logged(cli: Cli, pattern: str) -> bool:
    """Whether a line of a run's log matches before long."""
    return traces.eventually(
        lambda: any(re.search(pattern, path.read_text(encoding="utf-8")) for path in cli.folders.logs.glob("*.log")),
        seconds=REACHED_S,
    )


def stand_in_for_uv(cli: Cli, does: str) -> None:
    """Put a script where uv would be downloaded to."""
    program = cli.folders.cache / "programs" / f"uv-{importlib.metadata.version('uv')}" / "uv"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    program.chmod(0o755)


def make_work(source: Path, folder: Path, message: str, *, hangs: bool = False, requires: str | None = None) -> Path:
    """A clone with a commit of its own; perhaps one whose server never becomes healthy, or that requires something."""
    with contextlib.closing(git.Repo.clone_from(str(source), folder)) as clone:
        if requires:
            with (folder / "requirements/common.txt").open("a", encoding="utf-8") as lines:
                lines.write(f"\n{requires}\n")
        if hangs:
            file = folder / FAULTS
            text = file.read_text(encoding="utf-8")
            assert "return names" in text
            file.write_text(text.replace("return names", 'return frozenset({"hangs"})'), encoding="utf-8")
        commit_all(clone, message)
    return folder


@pytest.fixture(scope="session")
def scene(
    engine: Engine, registry_address: str, base: Image, vllm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    """Two commits whose images are there, and a cache that knows the base."""
    folder = tmp_path_factory.mktemp("interrupt")
    cli = make_cli(engine, registry_address, folder / "before")
    works = {name: make_work(vllm, folder / name, name, hangs=name == "hangs") for name in ("sound", "hangs")}
    images = {"base": base}  # what `dev` finds
    for name, work in works.items():
        ran = cli("dev", work, "--no-smoke", "--json")
        assert ran.returncode == 0, ran.stderr
        images[name] = engine.image(ran.json["id"])
    return Scene(engine, registry_address, folder, works, images, cli.folders.cache)


@pytest.mark.parametrize(
    ("step", "number"), [*((step, signal.SIGINT) for step in BY_NAME), ("overlay started", signal.SIGTERM)]
)
def test_interrupt_leaves_nothing(scene: Scene, step: str, number: signal.Signals) -> None:
    outcome = scene.play(BY_NAME[step], number)
    assert outcome.returncode == 130, outcome.output
    assert (outcome.survivors, outcome.left) == (set(), [])
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("step", BY_NAME)
def test_kill_leaves_nothing_that_the_next_run_stumbles_over(scene: Scene, step: str) -> None:
    outcome = scene.play(BY_NAME[step], signal.SIGKILL)
    assert outcome.returncode == -signal.SIGKILL
    assert outcome.next is not None
    assert outcome.next.returncode == 0, outcome.next.stderr
    # A name for the registry is the next push's; a lock's file says who had it.
    assert [what for what in outcome.left_by_next if not (what.endswith(".json") or f"/{LOCAL}/" in what)] == []


def test_interrupt_before_anything_is_done(cli: Cli) -> None:
    process = cli.start("status")
    loaded = Path("/proc", str(process.pid), "maps")
    # One of the first libraries that are imported, and with others to follow.
    assert traces.eventually(lambda: "pydantic_core" in loaded.read_text(encoding="utf-8"), seconds=REACHED_S)
    process.send_signal(signal.SIGINT)
    ran = finished(process)
    assert ran.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in ran.stderr


# --- nightly ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("released")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nightly_that_waits_for_the_package_index(cli: Cli, engine: Engine, number: signal.Signals) -> None:
    words = ["nightly", "--json"]
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        index.settimeout(REACHED_S)

        def asked() -> bool:
            stack.enter_context(index.accept()[0])
            return (cli.folders.locks / "nightly.json").exists()

        address = f"http://127.0.0.1:{index.getsockname()[1]}/"
        run = interrupt(cli, words, number, when=asked, PIP_INDEX_URL=address)
    if number == signal.SIGKILL:
        assert run.returncode == -number
        # Its lock is nobody's any more: the next one gets as far.
        assert cli(*words, PIP_INDEX_URL="http://127.0.0.1:1/").returncode == 3
    else:
        assert run.returncode == 130, run.output
    assert traces.left(engine, cli, run.pids) == []


@pytest.mark.usefixtures("released")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nightly_that_tests_the_base(
    cli: Cli, engine: Engine, base: Image, tmp_path: Path, number: signal.Signals
) -> None:
    own = f"{LOCAL}-interrupted"
    engine.tag(base.id, f"{own}:nightly-cpu")
    hanging = [f"LABEL {labels.FINGERPRINT}={base_fingerprint(cli)}", "ENV STANDIN_FAULT=hangs"]
    variables = {"LLM_D_DEV_REPOSITORY": own, "PIP_INDEX_URL": "http://127.0.0.1:1/"}
    with (
        another_base(engine, base.id, hanging) as image_id,
        Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay,
    ):
        engine.tag(image_id, f"{own}:kept")
        relay.hold("POST .*/start", "done")
        run = interrupt(
            cli,
            ["nightly", "--json"],
            number,
            when=lambda: relay.wait(seconds=REACHED_S),
            DOCKER_HOST=relay.host,
            **variables,
        )
        assert run.returncode == (-number if number == signal.SIGKILL else 130), run.output
        if number == signal.SIGKILL:
            assert cli("status").returncode == 0
            (cli.folders.locks / "nightly.json").unlink()  # says who had the lock, which is nobody's any more
        assert traces.left(engine, cli, run.pids) == []
    assert engine.image(f"{own}:nightly-cpu").id == base.id
