"""The root file system: pulled, or made, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import docker.errors
import pytest
import requests

from build.console import Console
from build.engine import rootfs
from build.errors import BuildError
from build.host import apt, process
from build.host.process import Completed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.fakes import FakeEngine

    Pull = Callable[[str], list[dict[str, Any]]]

IMAGE = "debian:12-slim"


def _refused(status: int, said: str) -> docker.errors.APIError:
    response = requests.Response()
    response.status_code = status
    return docker.errors.APIError("refused", response=response, explanation=said)


def test_what_is_pulled_is_taken(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    def pulled(name: str) -> list[dict[str, Any]]:
        engine.hold(name)
        return [{"status": "Pulling", "id": "1"}]

    engine.docker.pulls = pulled
    found = rootfs.ensure(engine, image=IMAGE, install=False, console=Console(quiet=False))
    assert found.id == engine.image(IMAGE).id
    assert "taking debian:12-slim" in capsys.readouterr().err


def _raising(error: Exception) -> Pull:
    def pull(_name: str) -> list[dict[str, Any]]:
        raise error

    return pull


NO_HOST = 'Get "https://me:secret@registry.example/v2/": dial tcp: lookup registry.example: no such host'


@pytest.mark.parametrize(
    ("pull", "why"),
    [
        (_raising(_refused(500, NO_HOST)), "lookup registry.example: no such host"),
        (_raising(_refused(404, "manifest unknown")), "manifest unknown"),
        (_raising(requests.ConnectionError("read timed out")), "read timed out"),
        (lambda _: [{"status": "Pulling"}, {"error": "write /var: no space left on device"}], "no space left"),
        (lambda _: [{"status": "Pulling"}], "does not have it"),
    ],
)
def test_why_nothing_was_pulled_is_said_and_said_again_when_nothing_can_be_made_either(
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pull: Pull,
    why: str,
) -> None:
    engine.docker.pulls = pull
    monkeypatch.setattr(apt, "ensure", lambda *_, **__: ())
    failed = Completed(returncode=1, tail=("E: mirror does not answer",))
    monkeypatch.setattr(process, "run", lambda *_, **__: failed)
    with pytest.raises(BuildError, match="mirror does not answer") as caught:
        rootfs.ensure(engine, image=IMAGE, install=False, console=Console(quiet=False))
    said = " ".join(capsys.readouterr().err.split())
    assert why in said
    assert why in caught.value.hint
    assert "secret" not in said + caught.value.hint
