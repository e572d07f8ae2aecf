"""A nightly that is killed at any step: there is the old base or the new one, and the next nightly ends it well."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from build.engine import labels
from build.errors import BusyError
from tests.engine import nights, traces
from tests.engine.conftest import LOCAL, base_fingerprint
from tests.engine.relay import Relay
from tests.standin.image import another_base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Ran
    from tests.engine.nights import Nights
    from tests.engine.relay import Moment

REACHED_S = 90.0
ENDS_S = 30.0


@dataclass(frozen=True)
class Step:
    """A moment of a nightly, as the engine sees it.

    Attributes:
        name: In words.
        request: Pattern of the request that is held.
        moment: Before the engine has it, or when it is done.
        moved: How many of :data:`PLACES` have the new base then; two numbers where the engine may be faster.
        work: Whether the base is to be ``built``, is there and ``untested``, or is there and ``tested``.
    """

    name: str
    request: str
    moment: Moment
    moved: tuple[int, ...]
    work: Literal["built", "untested", "tested"] = "tested"


PLACES = (
    *("nightly-<commit>-cpu", "nightly-cpu", "base_commit-cpu.txt"),
    *("registry's nightly-<commit>-cpu", "registry's nightly-cpu"),
)
"""Where a base is named, in the order in which that changes."""

_LOCAL = rf"repo={LOCAL}-k\d+&"
_REMOTE = "repo=127"
STEPS = (
    Step("container to look into the image", "POST .*/containers/create", "done", (0,), work="built"),
    Step("base built, without a name", r"POST .*tag\?tag=candidate-cpu", "asked", (0,), work="built"),
    Step("base named candidate", r"POST .*tag\?tag=candidate-cpu", "done", (0,), work="untested"),
    Step("base started", "POST .*/start", "done", (0,), work="untested"),
    Step("base tested", rf"POST .*tag\?tag=nightly-\w+-cpu&{_LOCAL}", "asked", (0,)),
    Step("fixed tag", rf"POST .*tag\?tag=nightly-\w+-cpu&{_LOCAL}", "done", (1,)),
    Step("before the moving tag", rf"POST .*tag\?tag=nightly-cpu&{_LOCAL}", "asked", (1,)),
    Step("moving tag", rf"POST .*tag\?tag=nightly-cpu&{_LOCAL}", "done", (2,)),
    Step("file written", "DELETE .*:candidate-cpu", "asked", (3,)),
    Step("no candidate any more", "DELETE .*:candidate-cpu", "done", (3,)),
    Step("pushing", r"POST .*push\?tag=candidate-[0-9a-f]{12}-", "done", (3,)),
    Step("pushed under all tags", rf"POST .*tag\?tag=nightly-\w+-cpu&{_REMOTE}", "asked", (5,)),
    Step("pruning", "GET .*/containers/json[^{%]*$", "asked", (5,)),
)
BY_NAME = {step.name: step for step in STEPS}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was there after the kill, and after the next nightly.

    Attributes:
        after: For each place, whether it has the ``old`` base or the ``new`` one, or something else.
        next: The next nightly.
        finally_: The places after that.
        left: What that left behind.
        good: Whether overlays had a base to build on after the kill.
    """

    after: list[str]
    next: Ran
    finally_: list[str]
    left: list[str]
    good: bool


@dataclass(frozen=True)
class Scene:
    """Where the nights take place."""

    engine: Engine
    registry_address: str
    base: Image
    new: Image
    vllm: Path
    folder: Path

    def play(self, step: Step) -> Outcome:
        """Kill a nightly at a step, look around, and run the next one."""
        number = STEPS.index(step)
        folder = self.folder / str(number)
        own = nights.make(self.engine, self.registry_address, self.vllm, folder, f"k{number}")
        nights.promoted(own, self.base)
        if step.work == "built":
            commit = own.commit(f"Of night {number}")
            return self._killed(own, step, commit)
        if step.work == "tested":
            own.cli.pass_smoke(self.new)
        return self._killed(own, step, self.new.labels[labels.COMMIT])

    def _killed(self, own: Nights, step: Step, commit: str) -> Outcome:
        with Relay(own.cli.checkout.parent / "engine", self.engine.host.removeprefix("unix://")) as relay:
            relay.hold(step.request, step.moment)
            with own.start("nightly", "--json", DOCKER_HOST=relay.host) as process:
                try:
                    assert relay.wait(seconds=REACHED_S), f"not reached: {relay.seen}"
                finally:
                    process.kill()
                process.communicate(timeout=ENDS_S)
        assert process.returncode == -signal.SIGKILL
        assert traces.eventually(lambda: not traces.processes(own.cli), seconds=ENDS_S)
        after = self._places(own, commit)
        good = own.local("nightly-cpu") is not None
        ran = own("nightly", "--json")
        left = [what for what in traces.left(self.engine, own.cli, {process.pid}) if not what.startswith("/")]
        ours = [what for what in left if not what.startswith(own.cli.repository)]
        return Outcome(after=after, next=ran, finally_=self._places(own, commit), left=ours, good=good)

    def _places(self, own: Nights, commit: str) -> list[str]:
        names = {self.base.id: "old", nights.OLD: "old", commit: "new", None: "none"}
        found = (
            own.local(f"nightly-{commit}-cpu"),
            own.local("nightly-cpu"),
            own.base_commit,
            own.served(f"nightly-{commit}-cpu"),
            own.served("nightly-cpu"),
        )
        # Whatever else an image is, it is the one with the new commit.
        return [names.get(what, "new") for what in found]


@pytest.fixture(scope="session")
def scene(
    engine: Engine, registry_address: str, base: Image, vllm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """The old base, a new one that nightlies find as already built, and sources to build others from."""
    folder = tmp_path_factory.mktemp("killed")
    own = nights.make(engine, registry_address, vllm, folder / "new", "new")
    with (
        another_base(engine, base.id, [f"LABEL {labels.COMMIT}={nights.OLD}"]) as old,
        another_base(engine, base.id, [f"LABEL {labels.FINGERPRINT}={base_fingerprint(own.cli)}"]) as new,
    ):
        yield Scene(engine, registry_address, engine.image(old), engine.image(new), vllm, folder)


@pytest.mark.parametrize("step", BY_NAME)
def test_a_kill_leaves_the_old_base_or_the_new_one(scene: Scene, step: str) -> None:
    outcome = scene.play(BY_NAME[step])
    moved = BY_NAME[step].moved
    # A place that never had one has none until it gets the new one.
    assert outcome.after in [_state(count) for count in moved]
    assert outcome.good
    assert outcome.next.returncode == 0, outcome.next.stderr
    assert outcome.finally_ == _state(len(PLACES))
    # The base that was built before the kill is not built again, once it was whole.
    assert outcome.next.json["built"] == (step == "container to look into the image")
    assert outcome.left == []


def _state(moved: int) -> list[str]:
    before = ["none", "old", "old", "none", "old"]
    return [*["new"] * moved, *before[moved:]]


def test_a_second_nightly_says_who_is_at_work_and_dev_goes_on(
    engine: Engine, registry_address: str, base: Image, vllm: Path, tmp_path: Path
) -> None:
    own = nights.make(engine, registry_address, vllm, tmp_path, "two")
    nights.promoted(own, base)
    own.commit("Tonight's")
    with Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay:
        relay.hold("POST .*/containers/create", "done")
        with own.start("nightly", "--json", DOCKER_HOST=relay.host) as first:
            try:
                assert relay.wait(seconds=REACHED_S)
                second = own("nightly", "--json")
                dev = own("dev", str(own.vllm), "--no-smoke", "--json")
            finally:
                first.kill()
            first.communicate(timeout=ENDS_S)
    assert second.returncode == BusyError.exit_code
    assert f"nightly is busy: process {first.pid} (building a cpu base, since " in second.stderr
    assert dev.returncode == 0, dev.stderr
    assert dev.json["base"].startswith(f"{own.repository}:nightly")
