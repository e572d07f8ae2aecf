"""What killed runs left on an engine goes; what is in use, or not ours, stays."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from typing import Any

import docker.errors
import pytest
import requests

from build.engine import labels, leftovers
from build.engine.temporary import TEMPORARY_REPOSITORY
from build.host import identity
from tests.unit.fakes import FakeContainer, FakeEngine


@pytest.fixture(scope="module")
def gone() -> str:
    """The identity of a run that has ended."""
    with subprocess.Popen(["sleep", "60"]) as process:
        who = identity.identity(process.pid)
        process.kill()
    return who


@pytest.fixture(scope="module")
def elsewhere() -> str:
    """The identity of a run in another container, which cannot be looked at from here."""
    parts = identity.identity().split(":")
    return ":".join((*parts[:3], "4026532999", "7", "1"))


def container(who: str, name: str = "llm-d-dev-0123", **attributes: Any) -> FakeContainer:  # noqa: ANN401 - its own
    """A container as a run starts them."""
    return FakeContainer(name=name, labels=labels.of_container(name, owner=who), **attributes)


def tag(who: str) -> str:
    return f"{TEMPORARY_REPOSITORY}:{'a' * 24}-{who.replace(':', '-')}"


def test_containers_of_runs_that_are_gone_are_removed(engine: FakeEngine, gone: str, elsewhere: str) -> None:
    kept = [
        container(identity.identity()),
        container("other-host:1:1"),
        container(elsewhere),
        container("me"),
        FakeContainer(labels={}),
    ]
    left = container(gone)
    engine.docker.running = [left, *kept]
    assert leftovers.sweep(engine) == 1
    assert [one.removed for one in engine.docker.running] == [True, *(False for _ in kept)]


def test_a_users_container_that_inherits_the_labels_stays(engine: FakeEngine, gone: str) -> None:
    """``docker commit`` writes a container's labels into the image."""
    users = FakeContainer(name="research", labels=labels.of_container("llm-d-dev-0123", owner=gone))
    without_name = FakeContainer(name="research", labels={labels.OWNER: gone})
    engine.docker.running = [users, without_name]
    assert leftovers.sweep(engine) == 0


def test_one_that_vanishes_meanwhile_is_no_error(engine: FakeEngine, gone: str) -> None:
    engine.docker.running = [container(gone, refuses=docker.errors.NotFound("gone"))]
    assert leftovers.sweep(engine) == 0


@pytest.mark.parametrize(("status", "passes"), [(409, True), (500, False)])
def test_one_that_somebody_else_is_removing_is_no_error(
    engine: FakeEngine, gone: str, status: int, *, passes: bool
) -> None:
    response = requests.Response()
    response.status_code = status
    left = container(gone, refuses=docker.errors.APIError("no", response=response))
    engine.docker.running = [left]
    with contextlib.nullcontext() if passes else pytest.raises(docker.errors.APIError):
        assert leftovers.sweep(engine) == 0


def test_temporary_tags_of_runs_that_are_gone_are_removed(engine: FakeEngine, gone: str, elsewhere: str) -> None:
    other_start = identity.identity().rpartition(":")[0] + ":1"
    kept = [
        tag(identity.identity()),
        tag("other-host:1:1"),
        tag(elsewhere),
        f"{TEMPORARY_REPOSITORY}:mine",
        "llm-d-dev:nightly",
        f"{TEMPORARY_REPOSITORY}-not:{'a' * 24}-{gone.replace(':', '-')}",
    ]
    engine.hold(tag(gone), *kept)
    engine.hold(tag(other_start))
    assert leftovers.sweep(engine) == 2
    assert sorted(engine.docker.names) == sorted(kept)


def test_a_temporary_tag_is_this_runs_while_it_is_used(engine: FakeEngine) -> None:
    image = engine.hold("llm-d-dev:nightly")
    with engine.temporary_tag(image.id) as name:
        assert engine.docker.names[name] == image.id
        assert leftovers.sweep(engine) == 0
        assert name in engine.docker.names
        # Docker's limit for a tag, and its characters.
        assert len(name.partition(":")[2]) <= 128
        assert ":" not in name.partition(":")[2]
    assert list(engine.docker.names) == ["llm-d-dev:nightly"]


def test_a_host_whose_name_has_dashes_is_recognised(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ci-runner-7.example")
    image = engine.hold("llm-d-dev:nightly")
    with engine.temporary_tag(image.id):
        assert leftovers.sweep(engine) == 0
    left = tag(identity.identity().rpartition(":")[0] + ":1")
    engine.docker.names[left] = image.id
    assert leftovers.sweep(engine) == 1


def test_an_image_without_another_name_stays(engine: FakeEngine, gone: str) -> None:
    image = engine.hold()
    with pytest.raises(KeyboardInterrupt), engine.temporary_tag(image.id):
        raise KeyboardInterrupt
    engine.docker.names[tag(gone)] = image.id
    assert leftovers.sweep(engine) == 1
    assert list(engine.docker.known) == [image.id]
    assert engine.docker.names == {}


def test_two_runs_that_let_go_of_an_image_leave_it(engine: FakeEngine, gone: str) -> None:
    image = engine.hold(tag(gone))
    with engine.temporary_tag(image.id):
        assert leftovers.sweep(engine) == 1
    assert list(engine.docker.known) == [image.id]


def test_a_temporary_tag_goes_also_after_an_error(engine: FakeEngine) -> None:
    image = engine.hold("llm-d-dev:nightly")
    with pytest.raises(KeyboardInterrupt), engine.temporary_tag(image.id):
        raise KeyboardInterrupt
    assert list(engine.docker.names) == ["llm-d-dev:nightly"]
