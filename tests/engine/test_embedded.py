"""The embedded engine: a real dockerd with a state folder and a network of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from docker.types import DeviceRequest

from build.config.folders import REPOSITORY, Folders
from build.console import Console
from build.engine import buildx, embedded
from build.errors import EngineError
from build.host import background, mounts
from tests.engine import gpu_standin, private_network
from tests.engine.conftest import make_cli
from tests.engine.private_network import IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from build.engine.client import Engine

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True, scope="module")
def _network() -> Iterator[None]:
    with private_network.entered():
        yield


@contextlib.contextmanager
def own_folders(path: Path) -> Iterator[Folders]:
    """Folders of an engine that does not run; in the end it is down again."""
    folders = Folders(state=path / "state", cache=path / "cache")
    with pytest.MonkeyPatch.context() as patch:
        # Any engine that this machine has is out of sight: DOCKER_HOST comes first.
        patch.setenv("DOCKER_HOST", f"unix://{embedded.socket(folders)}")
        try:
            yield folders
        finally:
            embedded.down(folders, console=QUIET)


@contextlib.contextmanager
def up(folders: Folders) -> Iterator[Engine]:
    """The engine of those folders, up; it stays up."""
    engine = embedded.up(folders, install=False, console=QUIET)
    with contextlib.closing(engine):
        yield engine


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    """Folders of an engine that does not run."""
    with own_folders(tmp_path) as folders:
        yield folders


@pytest.fixture
def engine(folders: Folders) -> Iterator[Engine]:
    """The engine of ``folders``, up, with an image."""
    with up(folders) as engine:
        private_network.load_image(engine)
        yield engine


def kill(folders: Folders) -> None:
    """As the kernel does it when memory runs out."""
    pid = embedded.status(folders).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not embedded.status(folders).running)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleeping(seconds: str) -> list[int]:
    """Processes of this machine, in containers or not, that sleep for so long."""
    return [pid for pid in background.pids() if background.arguments(pid) == ("sleep", seconds)]


def run_sleep(engine: Engine, seconds: str) -> str:
    container = engine.client.containers.run(IMAGE, ["sleep", seconds], detach=True, init=True)
    wait_until(lambda: sleeping(seconds))
    assert container.id is not None
    return container.id


def traces(folders: Folders) -> list[str]:
    """What would show that an engine is or was running: processes, mounts, files."""
    names = (str(folders.runtime), str(folders.engine), f"llm-d-dev-{folders.runtime.name}")
    lines = [" ".join(background.arguments(pid)) for pid in background.pids()]
    return [
        *(line for line in lines if any(name in line for name in names)),
        *(str(point) for point in mounts.below([folders.runtime, folders.engine])),
        *(str(path) for path in [folders.runtime] if path.exists()),
    ]


class TestRunning:
    """An engine that is up and stays as it is."""

    @pytest.fixture(scope="class")
    @classmethod
    def folders(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
        with own_folders(tmp_path_factory.mktemp("running")) as folders:
            yield folders

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, folders: Folders) -> Iterator[Engine]:
        with up(folders) as engine:
            private_network.load_image(engine)
            yield engine

    def test_it_can_build_and_knows_cdi(self, engine: Engine, folders: Folders) -> None:
        buildx.require_buildkit(engine)
        assert engine.capabilities.cdi
        assert engine.capabilities.root_dir == str(folders.engine / "data")
        status = embedded.status(folders)
        assert status.running
        assert status.version == engine.capabilities.server_version
        assert status.data_bytes is not None
        assert status.data_bytes > 1_000_000

    def test_it_can_be_reached_through_a_socket_of_root_only(self, engine: Engine, folders: Folders) -> None:
        assert engine.host == f"unix://{embedded.socket(folders)}"
        assert folders.runtime.stat().st_mode & 0o777 == 0o700
        assert private_network.listeners() == []

    def test_a_second_up_changes_nothing(self, engine: Engine, folders: Folders) -> None:
        configuration = folders.engine / "daemon.json"
        before = embedded.status(folders).pid, configuration.stat().st_mtime_ns
        with up(folders) as again:
            assert again.host == engine.host
        assert (embedded.status(folders).pid, configuration.stat().st_mtime_ns) == before

    def test_another_user_of_the_product_gets_it_and_leaves_it_alone(
        self, engine: Engine, folders: Folders, tmp_path: Path
    ) -> None:
        before = embedded.status(folders).pid
        other = Folders(state=tmp_path / "other", cache=tmp_path / "cache")
        found = embedded.up(other, install=True, console=QUIET)
        found.close()
        assert (found.host, found.origin) == (engine.host, "DOCKER_HOST")
        assert not other.state.exists()
        assert not embedded.down(other, console=QUIET)
        assert embedded.status(folders).pid == before

    def test_containers_have_a_network(self, engine: Engine) -> None:
        words = ["sh", "-c", "while read line; do echo $line; done < /proc/net/route"]
        assert "eth0" in engine.client.containers.run(IMAGE, words, remove=True).decode()

    def test_a_cdi_device_reaches_a_container(self, engine: Engine, folders: Folders) -> None:
        spec = {
            "cdiVersion": "0.6.0",
            "kind": "nvidia.com/gpu",
            "devices": [{"name": "all", "containerEdits": {"env": ["MADE_UP_GPU=yes"]}}],
        }
        file = embedded.cdi_specs(folders) / "made-up.json"
        file.write_text(json.dumps(spec), encoding="utf-8")
        request = DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=all"])
        environment = engine.client.containers.run(IMAGE, ["env"], remove=True, device_requests=[request])
        file.unlink()
        assert b"MADE_UP_GPU=yes" in environment

    def test_a_nightly_without_arguments_follows_the_engine(self, engine: Engine, tmp_path: Path) -> None:
        cli = make_cli(engine, "127.0.0.1:1", tmp_path / "home")
        del cli.environment["LLM_D_DEV_FLAVOR"]
        without = cli("nightly", "--dry-run")
        assert "flavor cpu: the engine cannot pass a GPU" in without.stderr
        assert without.stdout.startswith("flavor: cpu\n")
        assert cli("nightly", "--dry-run", "--json").json["flavor_from"] == "the engine cannot pass a GPU"
        with gpu_standin.gpus(engine, tmp_path, count=1):
            # Of vLLM's main, which this machine may not reach.
            assert "flavor cuda: the engine can pass a GPU (CDI devices)" in cli("nightly", "--dry-run").stderr
            asked_for = cli("nightly", "--dry-run", "--flavor", "cpu")
        assert asked_for.stdout.startswith("flavor: cpu\n")
        nowhere = cli("nightly", "--dry-run", DOCKER_HOST="tcp://127.0.0.1:1")
        assert "flavor cpu: nothing answers at DOCKER_HOST=tcp://127.0.0.1:1" in nowhere.stderr

    def test_the_build_cache_is_limited(self, engine: Engine) -> None:
        text = subprocess.run(
            ["docker", "buildx", "inspect"],
            env={**os.environ, **engine.environment},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        # The second is what newer releases call the first.
        named = [line for line in text.splitlines() if "Keep Bytes" in line or "Reserved Space" in line]
        limits = [line.split()[-1] for line in named]
        # The last rule is the one about everything.
        assert limits[-1:] == ["20GiB"]

    def test_a_client_without_buildx_is_told_so(
        self, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = tmp_path / "bin/docker"
        client.parent.mkdir()
        client.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        client.chmod(0o755)
        monkeypatch.setenv("PATH", str(client.parent), prepend=":")
        with pytest.raises(EngineError, match="docker buildx version") as caught:
            buildx.require_buildkit(engine)
        assert caught.value.exit_code == 8


def test_images_outlive_a_killed_engine_and_its_containers_do_not(engine: Engine, folders: Folders) -> None:
    container = run_sleep(engine, "7211")
    kill(folders)
    with up(folders) as again:
        assert [image.tags for image in again.client.images.list()] == [[IMAGE]]
        assert sleeping("7211") == []
        found = again.client.containers.get(container)
        assert found.status == "exited"
        found.start()
        wait_until(lambda: sleeping("7211"))
        assert again.client.containers.run(IMAGE, ["sh", "-c", "echo works"], remove=True) == b"works\n"


@pytest.mark.usefixtures("engine")
def test_a_killed_engine_comes_up_although_its_number_is_somebody_elses(folders: Folders) -> None:
    kill(folders)
    for path in (folders.runtime / "docker.pid", folders.runtime / "exec/containerd/containerd.pid"):
        assert path.exists()
        path.write_text(str(os.getpid()), encoding="ascii")
    with up(folders):
        pass


def test_a_build_that_was_under_way_when_the_engine_was_killed_is_gone(
    engine: Engine, folders: Folders, tmp_path: Path
) -> None:
    words = ["docker", "buildx", "build", "--no-cache", str(tmp_path)]
    environment = {**os.environ, **engine.environment}
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN sleep 7212\n", encoding="utf-8")
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL):
        wait_until(lambda: sleeping("7212"))
        kill(folders)
    with up(folders):
        assert sleeping("7212") == []
        (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo works\n", encoding="utf-8")
        subprocess.run(words, env=environment, check=True, capture_output=True)


def test_an_engine_that_is_busy_is_waited_for(engine: Engine, folders: Folders) -> None:
    run_sleep(engine, "7215")
    pid = embedded.status(folders).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    wake = threading.Timer(11, os.kill, [pid, signal.SIGCONT])
    wake.start()
    with up(folders):
        assert embedded.status(folders).pid == pid
        assert len(sleeping("7215")) == 1
    wake.join()


def test_down_leaves_data_and_nothing_else(engine: Engine, folders: Folders) -> None:
    run_sleep(engine, "7213")
    assert embedded.down(folders, console=QUIET)
    assert sleeping("7213") == []
    assert traces(folders) == []
    assert not embedded.status(folders).running
    assert embedded.status(folders).data_bytes is None
    assert not embedded.down(folders, console=QUIET)
    with up(folders) as again:
        assert [image.tags for image in again.client.images.list()] == [[IMAGE]]


def test_down_after_a_kill_leaves_nothing_either(engine: Engine, folders: Folders) -> None:
    run_sleep(engine, "7214")
    assert traces(folders) != []
    kill(folders)
    embedded.down(folders, console=QUIET)
    assert sleeping("7214") == []
    assert traces(folders) == []


def test_only_our_own_process_is_stopped(folders: Folders) -> None:
    words = ["dockerd", "--config-file", str(folders.engine / "another.json")]
    with subprocess.Popen(["sh", "-c", "sleep 60; :", *words]) as stranger:
        folders.runtime.mkdir(parents=True)
        (folders.runtime / "docker.pid").write_text(str(stranger.pid), encoding="ascii")
        try:
            assert not embedded.down(folders, console=QUIET)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_containerd_that_outlived_its_engine_is_stopped(folders: Folders) -> None:
    words = ["-c", "sleep 60; :", "--config", str(folders.runtime / "exec/containerd/containerd.toml")]
    with subprocess.Popen(["containerd", *words], executable="/bin/sh") as survivor:
        embedded.down(folders, console=QUIET)
        assert survivor.wait(timeout=10) == -signal.SIGTERM


def test_an_engine_that_cannot_start_says_why_and_leaves_nothing(folders: Folders) -> None:
    folders.engine.mkdir(parents=True)
    (folders.engine / "data").write_text("no folder", encoding="utf-8")
    with pytest.raises(EngineError, match=r"ended while starting: .*data.* points to a file") as caught:
        embedded.up(folders, install=False, console=QUIET)
    assert "dockerd.log" in caught.value.hint
    assert traces(folders) == []


_UP = """
import sys
from pathlib import Path
from build.config.folders import Folders
from build.console import Console
from build.engine import embedded
folders = Folders(state=Path(sys.argv[1]), cache=Path(sys.argv[2]))
print(embedded.up(folders, install=False, console=Console(quiet=False)).host)
"""


def up_elsewhere(folders: Folders) -> subprocess.Popen[str]:
    """`up` in a process of its own."""
    words = [sys.executable, "-c", _UP, str(folders.state), str(folders.cache)]
    return subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_while_starting_leaves_nothing(folders: Folders) -> None:
    with up_elsewhere(folders) as run:
        wait_until((folders.runtime / "docker.pid").exists)
        run.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in run.communicate()[1]
    assert traces(folders) == []


def test_two_ups_at_once_start_one_engine(folders: Folders) -> None:
    with up_elsewhere(folders) as one, up_elsewhere(folders) as two:
        answers = [run.communicate() for run in (one, two)]
    assert [out for out, _ in answers] == [f"unix://{embedded.socket(folders)}\n"] * 2
    assert sum("✓ Docker Engine" in err for _, err in answers) == 1


def test_an_up_during_a_down_waits_and_then_starts(engine: Engine, folders: Folders) -> None:
    assert engine.host
    before = embedded.status(folders).pid
    stopping = threading.Thread(target=embedded.down, args=(folders,), kwargs={"console": QUIET})
    stopping.start()
    wait_until(lambda: not embedded.socket(folders).exists())
    with up_elsewhere(folders) as run:
        assert run.communicate()[0] == f"unix://{embedded.socket(folders)}\n"
    stopping.join()
    assert embedded.status(folders).pid not in (before, None)
