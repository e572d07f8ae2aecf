"""Unit tests cannot reach Docker, the network, or anything of whoever runs them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import docker
import pytest
import requests

from build.config import settings
from build.config.folders import REPOSITORY
from build.engine import client

Refused = pytest.fail.Exception


def test_the_engine_is_not_found_but_the_attempt_is() -> None:
    with pytest.raises(Refused, match="DOCKER_HOST"):
        client.find(embedded_socket="/nonexistent")


def test_a_socket_of_dockers_cannot_be_connected_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST")
    with pytest.raises(Refused, match=r"docker\.sock"):
        client.find(embedded_socket=str(tmp_path / "docker.sock"))
    with pytest.raises(Refused, match=r"docker\.sock"):
        docker.from_env()


def test_no_try_block_of_the_code_can_hide_it() -> None:
    assert not issubclass(Refused, Exception)
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(Refused):
        probe.connect_ex("/var/run/docker.sock")


def test_programs_that_are_started_find_no_engine_either() -> None:
    host, _, port = os.environ["DOCKER_HOST"].removeprefix("tcp://").partition(":")
    program = f"import socket; print(socket.socket().connect_ex(({host!r}, {port})))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert os.strerror(int(shown.stdout)) == "Connection refused"


def test_addresses_beyond_this_machine_are_refused() -> None:
    with pytest.raises(Refused, match=r"192\.0\.2\.1"):
        requests.get("http://192.0.2.1/", timeout=1)


def test_state_and_cache_are_the_tests_own(isolated: Path) -> None:
    folders = settings.load({}).folders
    assert folders.state.is_relative_to(isolated)
    assert folders.cache.is_relative_to(isolated)
    assert Path.home() == isolated
    assert not REPOSITORY.is_relative_to(isolated)
