"""Ports of an engine's machine, through a program in ssh's place that ends up on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
import urllib.request
from typing import TYPE_CHECKING

import pytest

from build.engine import ssh as tunnel
from build.errors import EngineError
from tests.standin import ssh
from tests.unit.fakes import FakeEngine
from tests.unit.loopback import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from build.engine.client import Engine

HOST = "ssh://somebody@gpu-box:2222"

FORWARDS = f"""
import runpy
sys.argv.insert(1, "unix:///nonexistent")
runpy.run_path({ssh.__file__!r}, run_name="__main__")
"""
REFUSES = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[sys.argv.index("-L") + 1].partition(":")[0])
listener.listen()
client, _ = listener.accept()
print("channel 1: open failed: administratively prohibited: open failed", file=sys.stderr, flush=True)
client.close()
sys.stdin.read()
"""
FAILS = """
import sys
sys.exit("somebody@gpu-box: Permission denied (publickey).")
"""


@pytest.fixture
def in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a Python script in ssh's place; what it was asked is kept in ``asked``."""

    def put(script: str) -> None:
        program = tmp_path / "bin/ssh"
        program.parent.mkdir()
        program.write_text(
            f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'asked')!r}, 'a').write(repr(sys.argv))\n{script}"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return put


@pytest.mark.parametrize("temporary", ["t", "of a cluster" * 9])
def test_a_port_elsewhere_is_reached_through_ssh(
    in_place: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: str
) -> None:
    (tmp_path / temporary).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / temporary))
    in_place(FORWARDS)
    with serving(lambda _asked: Answer(body=b"x" * 200_000)) as address:
        port = int(address.rpartition(":")[2])
        with tunnel.forwarded(HOST, port) as here:
            assert here != port
            for _ in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{here}/") as answer:
                    assert answer.read() == b"x" * 200_000
    asked = (tmp_path / "asked").read_text()
    assert f":127.0.0.1:{port}'" in asked
    assert asked.endswith("'-l', 'somebody', '-p', '2222', '--', 'gpu-box']")


def test_nothing_is_left_of_it(
    in_place: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place(FORWARDS)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serving(lambda _asked: Answer()) as address:
        with tunnel.forwarded(HOST, int(address.rpartition(":")[2])) as here:
            assert list(tmp_path.glob("llm-d-dev-*"))
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"http://127.0.0.1:{here}/")
    assert not list(tmp_path.glob("llm-d-dev-*"))


@pytest.mark.parametrize(
    ("script", "said", "hint"),
    [
        (FAILS, r"ssh forwards no port of ssh://somebody@gpu-box:2222: .*Permission denied", "without a password"),
        (REFUSES, r"the ssh server of ssh://somebody@gpu-box:2222 does not forward ports", "AllowTcpForwarding"),
    ],
)
def test_a_way_that_does_not_get_there(in_place: Callable[[str], None], script: str, said: str, hint: str) -> None:
    in_place(script)
    with pytest.raises(EngineError, match=said) as caught, tunnel.forwarded(HOST, 1):
        pass
    assert hint in caught.value.hint


# --- Which engines need it ---------------------------------------------------------------------------------


def engine_at(host: str) -> Engine:
    engine = FakeEngine()
    engine.host = host
    return engine


@pytest.mark.parametrize("host", ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://localhost:2375"])
def test_ports_of_an_engine_here_are_what_they_are(host: str) -> None:
    with engine_at(host).reachable(8000) as reached:
        assert reached == ("127.0.0.1", 8000)


def test_ports_of_an_engine_elsewhere_without_ssh_are_not_opened_to_the_network() -> None:
    with pytest.raises(EngineError, match=r"ports of the engine at tcp://build.example:2376") as caught:
        engine_at("tcp://build.example:2376").require_reachable_ports()
    assert "ssh://user@build.example" in caught.value.hint
