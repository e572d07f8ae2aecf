"""Containers that run an image's code: what they can reach, and what they may take."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from build.base.store import OWN_LAYOUT
from build.engine.confinement import LOG_BYTES, Limits
from build.engine.executed import EndlessError, execute
from build.engine.serving import PORT
from smoke.server import relay, tiny_model
from smoke.server.launch import Launch, await_healthy, running
from tests.engine.inside import Inside
from tests.standin import trial

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine.client import Engine
    from smoke.server.server import ContainerServer

# Everything that a server might ask: the caller's machine, the gateway, the metadata of clouds, anybody.
_REACH = """\
import json, os, socket
found = {}
for host in ("172.17.0.1", "169.254.169.254", "192.0.2.1", "host.docker.internal"):
    try:
        socket.create_connection((host, PORT), timeout=1).close()
        found[host] = "reached"
    except OSError as error:
        found[host] = type(error).__name__
print(json.dumps([sorted(os.listdir("/sys/class/net")), found]))
"""


@contextlib.contextmanager
def served(
    engine: Engine, image_id: str, folder: Path, limits: Limits, *, network: bool = False
) -> Iterator[ContainerServer]:
    """A healthy server of an image."""
    model = folder / "model"
    tiny_model.write(model)
    launch = Launch(image=engine.image(image_id), model=model, devices=(), key="key", limits=limits, network=network)
    with running(engine, launch, keep_log=lambda _text: None) as server:
        await_healthy(server, timeout=60, progress=lambda _line: None)
        yield server


@contextlib.contextmanager
def listener() -> Iterator[int]:
    """The port of something that listens on every address of this machine."""
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.SimpleHTTPRequestHandler) as made:  # noqa: S104
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made.server_address[1]
        made.shutdown()
        thread.join()


def test_server_reaches_nothing_and_is_reached(engine: Engine, standin: str, tmp_path: Path) -> None:
    with served(engine, standin, tmp_path, Limits()) as server, listener() as port:
        assert server.get("/version").status == 200
        output = Inside(server.container).run(str(OWN_LAYOUT.python), "-c", _REACH.replace("PORT", str(port)))
        interfaces, reached = json.loads(output)
    assert interfaces == ["lo"]
    assert "reached" not in reached.values()


def test_server_has_no_privileges_and_limits(engine: Engine, standin: str, tmp_path: Path) -> None:
    with served(engine, standin, tmp_path, Limits(memory_gb=2, pids=300)) as server:
        host = server.container.attrs["HostConfig"]
        status = Inside(server.container).run("cat", "/proc/1/status")
    assert (host["NetworkMode"], host["CapDrop"], host["SecurityOpt"]) == ("none", ["ALL"], ["no-new-privileges"])
    assert (host["Memory"], host["PidsLimit"], host["PortBindings"]) == (2 * 10**9, 300, None)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "2", "max-size": str(LOG_BYTES)}}
    lines = dict(line.split(":\t") for line in status.splitlines())
    assert (lines["NoNewPrivs"], int(lines["CapBnd"], 16)) == ("1", 0)


def test_unlimited_is_most_of_the_machine(engine: Engine, standin: str, tmp_path: Path) -> None:
    with served(engine, standin, tmp_path, Limits()) as server:
        host = server.container.attrs["HostConfig"]
    assert 0.8 < host["Memory"] / engine.capabilities.memory_bytes < 1
    assert host["PidsLimit"] >= 16384


def test_model_that_fetches_something_may_have_the_network(engine: Engine, standin: str, tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "model")
    outcome = trial.run(engine, standin, tmp_path / "r", "--model", str(tmp_path / "model"), "--allow-network")
    assert outcome.status == 0, outcome.text


def test_server_with_a_network_publishes_no_port(engine: Engine, standin: str, tmp_path: Path) -> None:
    """So it is reached on every engine, also on one whose ports cannot be reached from here."""
    with served(engine, standin, tmp_path, Limits(), network=True) as server:
        assert server.get("/version").status == 200
        host = server.container.attrs["HostConfig"]
        _, reached = Inside(server.container).status("cat", "/proc/net/route")
    assert not host["PortBindings"]
    assert "eth0" in reached


@pytest.mark.parametrize(
    ("words", "said"), [("yes", "printed more than 1024 KiB"), ("echo a; exec sleep 30", "did not end within 3 s")]
)
def test_command_in_a_container_has_an_end(engine: Engine, standin: str, words: str, said: str) -> None:
    options = {"entrypoint": ["sleep"], "command": ["inf"], "init": True, "network_mode": "none"}
    with engine.created(standin, **options) as container:
        container.start()
        done = execute(container, ["sh", "-c", "echo out; echo err >&2; exit 7"], limit=99, seconds=60)
        assert (done.status, done.output, done.errors) == (7, b"out\n", b"err\n")
        with pytest.raises(EndlessError, match=said):
            execute(container, ["sh", "-c", words], limit=2**20, seconds=3 if "sleep" in words else 60)


def test_network_is_for_models_alone(engine: Engine) -> None:
    with trial.start(engine, "--image", "x", "--allow-network") as process:
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "give --model" in text


def test_servers_own_python_leads_to_it_whatever_it_is_called(engine: Engine, standin: str, tmp_path: Path) -> None:
    with (
        served(engine, standin, tmp_path, Limits()) as server,
        relay.carrying(server.container, PORT, pythons=["no-such-python"]) as (host, port),
    ):
        assert requests.get(f"http://{host}:{port}/version", timeout=30).ok


def test_nothing_else_does(engine: Engine, standin: str) -> None:
    options = {"entrypoint": ["sleep"], "command": ["inf"], "init": True, "network_mode": "none"}
    with engine.created(standin, **options) as container:
        container.start()
        with (
            pytest.raises(relay.NoRelayError, match="no Python"),
            relay.carrying(container, PORT, pythons=["no-such-python", "/bin/cat"]),
        ):
            pass


def test_many_connections_at_once_keep_apart(engine: Engine, standin: str) -> None:
    """As many as the suite opens, each with an answer larger than any buffer on the way."""
    program = "import sys; from http.server import *; "
    program += (
        "H = type('H', (BaseHTTPRequestHandler,), {'do_GET': lambda s: s.wfile.write(b'HTTP/1.0 200 OK\\r\\n\\r\\n' "
    )
    program += "+ s.path.encode() * 99999), 'log_message': lambda *a: None}); "
    program += (
        "ThreadingHTTPServer.request_queue_size = 99; ThreadingHTTPServer(('127.0.0.1', 8000), H).serve_forever()"
    )
    options = {"entrypoint": [str(OWN_LAYOUT.python)], "command": ["-c", program], "network_mode": "none"}
    with engine.created(standin, **options) as container:
        container.start()
        carrying = relay.carrying(container, PORT, pythons=[str(OWN_LAYOUT.python)])
        with carrying as (host, port), ThreadPoolExecutor(40) as pool:
            _await_open(host, port)
            asked = [f"/{number:03}" for number in range(40)]
            answers = list(pool.map(lambda path: requests.get(f"http://{host}:{port}{path}", timeout=60).text, asked))
    assert [answer == path * 99999 for answer, path in zip(answers, asked, strict=True)] == [True] * 40


def _await_open(host: str, port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"http://{host}:{port}/x", timeout=30)
            return
        time.sleep(0.1)
    raise AssertionError("nothing listens")
