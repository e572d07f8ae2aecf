"""No Docker, no network beyond loopback, nobody's settings and folders."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.fakes import FakeEngine
from tests.unit.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Whatever would make a test depend on who runs it.
_FOREIGN = ("BUILDKIT_", "BUILDX_", "DOCKER_", "GIT_", "LLM_D_DEV_", "PIP_", "TESTCONTAINERS_", "VLLM_", "XDG_")
_FOREIGN_NAMES = {
    *("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"),
    *("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
}


@pytest.fixture(scope="session")
def nowhere() -> Iterator[str]:
    """``host:port`` on which nothing ever listens: the port is taken, so that nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, nowhere: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, and an address for Docker's clients where nothing answers; returns the home."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.upper() in _FOREIGN_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LLM_D_DEV_STATE", str(home / "state"))
    monkeypatch.setenv("LLM_D_DEV_CACHE", str(home / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{nowhere}")
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name), nowhere))
    return home


def _guarded(connect: Callable[[socket.socket, Any], Any], nowhere: str) -> Callable[[socket.socket, Any], Any]:
    """This machine's TCP ports and a test's own sockets only. ``pytest.fail`` cannot be taken for a network error."""

    def guarded(self: socket.socket, address: Any) -> Any:  # noqa: ANN401 - as the socket module has it
        where = _outside(self.family, address, nowhere)
        if where is None:
            return connect(self, address)
        # Whoever opened it does not expect this.
        self.close()
        pytest.fail(f"a unit test reaches for {where}")

    return guarded


def _outside(family: int, address: Any, nowhere: str) -> str | None:  # noqa: ANN401 - the same
    """What an address stands for, None if a unit test may connect to it."""
    if family == socket.AF_UNIX:
        # A test's own; engines have theirs elsewhere.
        own = (tempfile.gettempdir(), "/tmp/llm-d-dev-")  # noqa: S108 - nothing is made there
        return None if str(address).startswith(own) else f"the socket {address!r}"
    host, port = address[:2]
    if f"{host}:{port}" == nowhere:
        return "DOCKER_HOST"
    return None if str(host).startswith("127.") or host in {"localhost", "::1"} else str(host)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A git repository with nothing in it."""
    return Work.new(tmp_path / "vllm")


@pytest.fixture
def vllm(work: Work) -> Work:
    """A repository that is vLLM, as far as this question goes."""
    work.write("vllm/__init__.py")
    work.commit()
    return work


@pytest.fixture
def engine() -> FakeEngine:
    """One without images."""
    return FakeEngine()
