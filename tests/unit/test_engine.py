"""Which engine is meant, and which registries it calls insecure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from build.engine.endpoint import chosen
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("/var/run/docker.sock", "unix:///var/run/docker.sock"),
        (" unix:///x/docker.sock\n", "unix:///x/docker.sock"),
        ("build-host:2375", "tcp://build-host:2375"),
        ("ssh://me@build-host", "ssh://me@build-host"),
    ],
)
def test_an_address_is_read_as_docker_reads_it(given: str, address: str) -> None:
    found = chosen({"DOCKER_HOST": given})
    assert found is not None
    assert found.host == address


def test_a_path_from_the_current_folder_is_a_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = chosen({"DOCKER_HOST": "./docker.sock"})
    assert found is not None
    assert found.host == f"unix://{tmp_path}/docker.sock"


INFO = {
    "RegistryConfig": {
        "IndexConfigs": {
            "docker.io": {"Secure": True},
            "plain.invalid:5000": {"Secure": False},
            "10.1.2.3:5000": {"Secure": True},
        },
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", "10.0.0.0/8"],
    }
}


@pytest.mark.parametrize(
    ("registry", "insecure"),
    [
        ("127.0.0.1:5000", True),
        ("localhost:5000", True),
        ("[::1]:5000", True),
        ("plain.invalid:5000", True),
        ("10.1.2.3:5001", True),
        ("10.9.9.9:5000", True),
        ("10.9.9.9", True),
        ("10.1.2.3:5000", False),
        ("192.0.2.1:5000", False),
        ("docker.io", False),
    ],
)
def test_insecure_is_what_the_engine_is_configured_to_call_so(registry: str, *, insecure: bool) -> None:
    engine = FakeEngine()
    engine.docker.about = INFO
    assert engine.is_insecure(registry) == insecure


@pytest.mark.parametrize("info", [{}, {"RegistryConfig": None}, {"RegistryConfig": {"InsecureRegistryCIDRs": None}}])
def test_an_engine_that_says_nothing_of_registries(info: Mapping[str, Any]) -> None:
    engine = FakeEngine()
    engine.docker.about = info
    assert engine.is_insecure("127.0.0.1:5000")
    assert not engine.is_insecure("192.0.2.1:5000")
