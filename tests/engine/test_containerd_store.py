"""An engine with the containerd image store: image IDs are manifest digests, and no layer may be left out of a load."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING

import git
import pytest
import requests

from build.engine import labels
from build.engine.client import Engine, answering
from build.host import background
from build.host.background import Daemon
from smoke.image import layer_scan
from smoke.image.layer_scan import Memory
from tests.engine.conftest import LOCAL, commit_all, inside, make_cli
from tests.engine.test_layers import LAYERS, TOLD
from tests.standin.image import changed
from tests.standin.saved import as_docker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine.image import Image

START_S = 60.0


@pytest.fixture(scope="module")
def bridge() -> Iterator[str]:
    """A network of the second engine's own: without one it takes the first one's, or removes it."""
    name = f"lldt{os.getpid()}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        # An address for documentation, which nothing else has (RFC 5737).
        subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", name], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.fixture(scope="module")
def store(bridge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A second engine, with nothing that could disturb the first one's network."""
    folder = tmp_path_factory.mktemp("containerd")
    host = f"unix://{folder}/docker.sock"
    configuration = {
        **{name: str(folder / name) for name in ("data-root", "exec-root", "pidfile")},
        "hosts": [host],
        "bridge": bridge,
        "iptables": False,
        "containerd-namespace": f"{LOCAL}-store",
        "features": {"containerd-snapshotter": True},
    }
    (folder / "daemon.json").write_text(json.dumps(configuration), encoding="utf-8")
    server = Daemon(
        argv=("dockerd", "--config-file", str(folder / "daemon.json")),
        log=folder / "dockerd.log",
        shields=("DOCKER_",),
    )
    background.start(server, ready=lambda: _answers(host), timeout_s=START_S)
    try:
        with contextlib.closing(Engine(host=host, origin="tests")) as engine:
            yield engine
    finally:
        background.stop(server, grace_s=START_S)


def _answers(host: str) -> bool:
    found = answering(host, origin="tests")
    if found:
        found.close()
    return found is not None


@pytest.fixture(scope="module")
def stored(engine: Engine, base: Image, store: Engine) -> Image:
    """The base of the other tests, brought over."""
    with subprocess.Popen(
        ["docker", "save", f"{LOCAL}:nightly-cpu"], env=os.environ | engine.environment, stdout=subprocess.PIPE
    ) as saved:
        subprocess.run(
            ["docker", "load", "--quiet"], env=os.environ | store.environment, stdin=saved.stdout, check=True
        )
    found = store.image(f"{LOCAL}:nightly-cpu")
    assert found.diff_ids == base.diff_ids
    return found


def test_a_commit_becomes_an_image_that_is_pushed(
    store: Engine, stored: Image, registry_address: str, vllm: Path, tmp_path: Path
) -> None:
    cli = make_cli(store, registry_address, tmp_path)
    with contextlib.closing(git.Repo.clone_from(str(vllm), tmp_path / "vllm")) as clone:
        (tmp_path / "vllm/vllm/gone.py").unlink()
        (tmp_path / "vllm/vllm/added.py").write_text("new = 1\n", encoding="utf-8")
        commit = commit_all(clone, "Add one, delete one")
    ran = cli("dev", tmp_path / "vllm", "--no-smoke", "--json")
    assert ran.returncode == 0, ran.stderr
    made = store.image(f"{LOCAL}:local-{commit}-cpu")
    assert (made.id, made.diff_ids[:-2]) == (ran.json["id"], stored.diff_ids)
    with inside(store, made) as shell:
        assert shell.git("status", "--porcelain") == ""
        assert shell.git("rev-parse", "HEAD") == commit
    cli.pass_smoke(made)
    pushed = cli("push", f"{LOCAL}:local-{commit}-cpu", "--json")
    assert pushed.returncode == 0, pushed.stderr
    host, _, path = cli.repository.partition("/")
    served = requests.get(f"http://{host}/v2/{path}/manifests/local-{commit}-cpu", headers=_ANY_MANIFEST, timeout=10)
    assert served.headers["Docker-Content-Digest"] == made.id == pushed.json["digest"]


def test_layers_are_read_from_the_archive_once(store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, *_ = store.client.images.load(as_docker(LAYERS, name=f"{LOCAL}:layers"))
    assert loaded.id
    image, memory = store.image(loaded.id), Memory(tmp_path)
    assert sorted(layer_scan.credentials(store, image, base=None, memory=memory, say=print)) == TOLD
    monkeypatch.setattr(layer_scan, "_saved", None)
    assert sorted(layer_scan.credentials(store, image, base=None, memory=memory, say=print)) == TOLD


def test_the_archive_of_an_overlay_is_not_read(
    store: Engine, stored: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_scan, "_saved", None)
    marks = [f"LABEL {labels.KIND}=overlay {labels.BASE}={stored.id}"]
    with changed(store, stored.id, marks) as overlay:
        assert not layer_scan.credentials(store, store.image(overlay), base=stored, memory=Memory(tmp_path), say=print)


_ANY_MANIFEST = {
    "Accept": "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
}
