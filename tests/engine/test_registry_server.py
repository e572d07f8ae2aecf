"""The embedded registry: a real docker-registry with a state folder and a network of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests

from build import expiry, labels, packages, registry_server
from build.console import Console
from build.errors import EngineError
from build.folders import Folders
from build.registry import Registry, RepositoryName
from tests.engine import private_network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUIET = Console(quiet=True)

pytestmark = pytest.mark.skipif(
    packages.program("docker-registry") is None, reason="the package docker-registry is not installed"
)


@pytest.fixture(autouse=True, scope="module")
def _network() -> Iterator[None]:
    with private_network.entered():
        yield


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    """Folders of a registry that does not run; after the test it is down again."""
    folders = Folders(state=tmp_path / "state", cache=tmp_path / "cache")
    yield folders
    registry_server.down(folders)


def up(folders: Folders, port: int | None = None) -> str:
    return registry_server.up(folders, port=port, install=False, console=QUIET)


def port_of(address: str) -> int:
    host, _, port = address.partition(":")
    assert host == "127.0.0.1"
    return int(port)


@contextlib.contextmanager
def stranger(port: int) -> Iterator[None]:
    """Something else that listens on a port."""
    with socket.create_server(("127.0.0.1", port)):
        yield


def push(address: str, content: bytes) -> str:
    """Upload a blob; its digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    begun = requests.post(f"http://{address}/v2/thing/blobs/uploads/", timeout=10)
    done = requests.put(begun.headers["Location"], params={"digest": digest}, data=content, timeout=10)
    assert done.status_code == requests.codes.created
    return digest


def pull(address: str, digest: str) -> bytes:
    return requests.get(f"http://{address}/v2/thing/blobs/{digest}", timeout=10).content


def test_up_gives_a_registry_that_keeps_and_deletes_what_is_pushed(folders: Folders) -> None:
    address = up(folders)
    digest = push(address, b"a layer")
    assert pull(address, digest) == b"a layer"
    blob = f"http://{address}/v2/thing/blobs/{digest}"
    assert requests.delete(blob, timeout=10).status_code == requests.codes.accepted
    assert requests.get(blob, timeout=10).status_code == requests.codes.not_found


def test_it_listens_on_one_loopback_port_only(folders: Folders) -> None:
    address = up(folders)
    assert private_network.listeners() == [f"0100007F:{port_of(address):04X}"]


def test_a_second_up_changes_nothing_and_is_fast(folders: Folders) -> None:
    address = up(folders)
    before = registry_server.status(folders)
    begin = time.monotonic()
    assert up(folders) == address
    assert up(folders, port_of(address)) == address
    assert time.monotonic() - begin < 1
    assert registry_server.status(folders).pid == before.pid


def test_port_and_images_outlive_a_restart(folders: Folders) -> None:
    address = up(folders)
    digest = push(address, b"a layer")
    assert registry_server.down(folders)
    assert registry_server.status(folders).pid is None
    assert registry_server.status(folders).address == address
    assert not registry_server.down(folders)
    assert up(folders) == address
    assert pull(address, digest) == b"a layer"


def test_port_and_images_outlive_a_kill(folders: Folders) -> None:
    address = up(folders)
    digest = push(address, b"a layer")
    pid = registry_server.status(folders).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert up(folders) == address
    assert pull(address, digest) == b"a layer"


def test_a_registry_that_is_busy_is_waited_for(folders: Folders) -> None:
    address = up(folders)
    pid = registry_server.status(folders).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    wake = threading.Timer(11, os.kill, [pid, signal.SIGCONT])
    wake.start()
    assert up(folders) == address
    wake.join()
    assert registry_server.status(folders).pid == pid


def test_a_port_of_our_own_choice_that_a_stranger_took_is_given_up(folders: Folders) -> None:
    address = up(folders)
    registry_server.down(folders)
    with stranger(port_of(address)):
        other = up(folders)
    assert other != address
    registry_server.down(folders)
    assert up(folders) == other


def test_a_taken_port_that_the_user_wants_is_an_error_and_stops_nothing(folders: Folders) -> None:
    address = up(folders)
    with stranger(5005), pytest.raises(EngineError, match=r"port 5005 .* is taken") as caught:
        up(folders, 5005)
    assert caught.value.exit_code == 8
    assert requests.get(f"http://{address}/v2/", timeout=10).ok


def test_a_running_registry_moves_to_the_port_that_the_user_wants(folders: Folders) -> None:
    digest = push(up(folders), b"a layer")
    assert up(folders, 5005) == "127.0.0.1:5005"
    assert pull("127.0.0.1:5005", digest) == b"a layer"
    assert private_network.listeners() == [f"0100007F:{5005:04X}"]
    assert up(folders) == "127.0.0.1:5005"


def test_variables_of_other_programs_do_not_configure_it(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/run/user/0/containers/auth.json")
    monkeypatch.setenv("REGISTRY_HTTP_ADDR", "0.0.0.0:5006")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    address = up(folders)
    assert private_network.listeners() == [f"0100007F:{port_of(address):04X}"]


def test_only_our_own_process_is_stopped(folders: Folders, tmp_path: Path) -> None:
    words = ["docker-registry", "serve", str(tmp_path / "another.yml")]
    with subprocess.Popen(["sh", "-c", "sleep 60; :", *words]) as other:
        try:
            assert not registry_server.down(folders)
            assert other.poll() is None
        finally:
            other.kill()


def test_status_of_one_that_never_ran(folders: Folders) -> None:
    status = registry_server.status(folders)
    assert (status.running, status.pid, status.address, status.data_bytes) == (False, None, None, 0)


def push_image(address: str, tag: str, *, created: str, layer: bytes) -> str:
    """Upload an image of one layer that expires after three days; its layer's digest."""
    labelled = {"created": created, "config": {"Labels": {labels.QUAY_EXPIRES: "3d"}}, "rootfs": {"type": "layers"}}
    described = json.dumps(labelled).encode()
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": "application/json", "size": len(described), "digest": push(address, described)},
        "layers": [{"mediaType": "application/octet-stream", "size": len(layer), "digest": push(address, layer)}],
    }
    done = requests.put(
        f"http://{address}/v2/thing/manifests/{tag}", json=document, headers={"Content-Type": kind}, timeout=10
    )
    assert done.status_code == requests.codes.created, done.text
    return str(document["layers"][0]["digest"])  # type: ignore[index]


def test_what_has_expired_goes_with_its_layers_and_the_rest_is_served_as_before(folders: Folders) -> None:
    address = up(folders)
    size = 1_000_000
    gone = push_image(address, "local-1", created="2020-01-01T00:00:00Z", layer=b"1" * size)
    stays = push_image(address, "local-2", created="2999-01-01T00:00:00Z", layer=b"2" * size)
    good = push_image(address, "nightly", created="2020-01-01T00:00:00Z", layer=b"3" * size)
    assert size <= expiry.sweep(folders, "thing", console=QUIET) < 2 * size
    assert [len(pull(address, digest)) == size for digest in (gone, stays, good)] == [False, True, True]
    registry = Registry(RepositoryName.parse(f"{address}/thing"))
    assert sorted(registry.tags()) == ["local-2", "nightly"]
    assert expiry.sweep(folders, "thing", console=QUIET) == 0
    # What went can come again.
    push_image(address, "local-1", created="2999-01-01T00:00:00Z", layer=b"1" * size)
    assert len(pull(address, gone)) == size


def test_a_registry_that_does_not_run_is_not_started_to_be_swept(folders: Folders) -> None:
    up(folders)
    registry_server.down(folders)
    assert expiry.sweep(folders, "thing", console=QUIET) == 0
    assert not registry_server.status(folders).running
