"""The embedded registry: real containers of the tests' engine, each for a state folder of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.errors
import pytest
import requests

from build.config import settings
from build.config.folders import REPOSITORY
from build.console import Console
from build.context import Context
from build.engine import labels, leftovers
from build.errors import EngineError, UsageError
from build.host.unpack import unpack
from build.nightly import pruning
from build.registry import expiry, local
from build.registry import login as registry_login
from build.registry.client import Registry
from build.registry.repository_name import EMBEDDED_REPOSITORY, RepositoryName
from tests.engine.conftest import LOCAL, assert_refused, make_cli
from tests.engine.test_gate import make_image
from tests.engine.traces import eventually
from tests.standin import ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

    from build.engine.client import Engine
    from build.registry.repository_name import Access
    from tests.engine.conftest import Cli


@dataclass(frozen=True, kw_only=True)
class Home:
    """A state folder and its registry."""

    folder: Path
    engine: Engine

    def context(self, **overrides: Any) -> Context:  # noqa: ANN401 - settings
        """As a verb has it."""
        places = {"state": self.folder / "state", "cache": self.folder / "cache"}
        context = Context(settings=settings.load({**places, **overrides}), console=Console(quiet=False))
        context.__dict__["engine"] = self.engine
        return context

    def up(self, **overrides: Any) -> Access:  # noqa: ANN401 - settings
        return local.up(self.context(**overrides))

    def down(self) -> bool:
        return local.down(self.engine, self.context().folders)

    @property
    def status(self) -> local.RegistryStatus:
        return local.status(self.engine, self.context().folders)

    @property
    def identity(self) -> registry_login.Identity:
        found = registry_login.known(self.context().folders)
        assert found
        return found

    @property
    def memory(self) -> Path:
        return self.context().folders.registry / "registry.json"

    @property
    def container(self) -> Container:
        return self.engine.client.containers.get(str(self.status.container))

    def remove(self) -> None:
        """Container and volume."""
        if name := self.status.container:
            with contextlib.suppress(docker.errors.NotFound):
                self.engine.client.api.remove_container(name, force=True)
            with contextlib.suppress(docker.errors.NotFound):
                self.engine.client.api.remove_volume(name)


@pytest.fixture
def home(engine: Engine, tmp_path: Path) -> Iterator[Home]:
    """A state folder without a registry; its registry is gone after the test."""
    made = Home(folder=tmp_path, engine=engine)
    yield made
    made.remove()


@pytest.fixture
def other(engine: Engine, tmp_path: Path) -> Iterator[Home]:
    """Another state folder on the same engine."""
    made = Home(folder=tmp_path / "other", engine=engine)
    yield made
    made.remove()


def port_of(access: Access) -> int:
    host, _, port = access.address.partition(":")
    assert host == "127.0.0.1"
    return int(port)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def stranger(port: int) -> Iterator[None]:
    """Something else that listens on a port."""
    with socket.create_server(("127.0.0.1", port)):
        yield


def ask(access: Access, method: str, path: str, **more: Any) -> requests.Response:  # noqa: ANN401 - requests' own
    address = path if path.startswith("http") else f"http://{access.reached}/v2/{path}"
    return requests.request(method, address, auth=(access.login.username, access.login.password), timeout=10, **more)


def push(access: Access, content: bytes) -> str:
    """Upload a blob; its digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    begun = ask(access, "POST", f"{EMBEDDED_REPOSITORY}/blobs/uploads/")
    done = ask(access, "PUT", begun.headers["Location"], params={"digest": digest}, data=content)
    assert done.status_code == requests.codes.created
    return digest


def pull(access: Access, digest: str) -> bytes:
    return ask(access, "GET", f"{EMBEDDED_REPOSITORY}/blobs/{digest}").content


def push_image(access: Access, tag: str, *, created: str, layer: bytes) -> str:
    """Upload an image of one layer that expires after three days; its layer's digest."""
    labelled = {"created": created, "config": {"Labels": {labels.QUAY_EXPIRES: "3d"}}, "rootfs": {"type": "layers"}}
    described = json.dumps(labelled).encode()
    kind, blob = "application/vnd.docker.distribution.manifest.v2+json", push(access, layer)
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": "application/json", "size": len(described), "digest": push(access, described)},
        "layers": [{"mediaType": "application/octet-stream", "size": len(layer), "digest": blob}],
    }
    path = f"{EMBEDDED_REPOSITORY}/manifests/{tag}"
    assert ask(access, "PUT", path, json=document, headers={"Content-Type": kind}).status_code == requests.codes.created
    return blob


# --- Up and down -------------------------------------------------------------------------------------------------


def test_what_is_pushed_outlives_down_and_up_under_the_same_address(home: Home) -> None:
    access = home.up()
    digest = push(access, b"a layer")
    assert home.status.running
    assert home.down()
    assert not home.down()
    assert (home.status.running, home.status.address) == (False, access.address)
    assert home.up() == access
    assert pull(access, digest) == b"a layer"


def test_a_second_up_changes_nothing(home: Home) -> None:
    access = home.up()
    before = home.container.id
    assert home.up() == access
    assert home.up(registry_port=port_of(access)) == access
    assert home.container.id == before


@pytest.mark.parametrize("how", ["killed", "paused", "never started", "removed"])
def test_whatever_state_the_container_is_in_the_next_up_mends_it(home: Home, how: str) -> None:
    access = home.up()
    digest = push(access, b"a layer")
    if how == "paused":
        home.container.pause()
    else:
        home.container.kill()
    if how in ("never started", "removed"):
        image, name = home.container.attrs["Image"], str(home.status.container)
        home.container.remove()
        if how == "never started":
            home.engine.client.containers.create(image, name=name, ports={"5000/tcp": ("127.0.0.1", 1)})
    assert home.up() == access
    assert pull(access, digest) == b"a layer"


def test_it_comes_back_with_the_engine_and_may_do_little(home: Home) -> None:
    access = home.up()
    host = home.container.attrs["HostConfig"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["PortBindings"] == {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port_of(access))}]}
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
    assert "no-new-privileges" in host["SecurityOpt"][0]
    assert host["PidsLimit"] > 0
    assert host["LogConfig"]["Config"]["max-size"]
    status, said = home.container.exec_run(["sh", "-c", "id -u; echo x > /var/lib/registry/htpasswd || echo x > /x"])
    assert isinstance(said, bytes)
    assert status != 0
    assert not said.startswith(b"0\n")


def test_no_sweep_takes_it_for_a_leftover(home: Home) -> None:
    home.up()
    before = home.container.id
    leftovers.sweep(home.engine)
    pruning.prune(home.context(repository=f"{LOCAL}-none"), apply=True)
    assert home.status.running
    assert home.container.id == before
    assert home.container.labels[labels.KIND] == "registry"


def test_variables_of_other_programs_do_not_configure_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_HTTP_ADDR", "0.0.0.0:5006")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    access = home.up()
    assert not [word for word in home.container.attrs["Config"]["Env"] if "5006" in word or "127.0.0.1" in word]
    Registry(RepositoryName(host=access.address, path="thing", access=access)).require_reachable()


def test_status_of_one_that_never_ran(home: Home) -> None:
    status = home.status
    assert (status.running, status.container, status.address, status.data_bytes) == (False, None, None, None)


# --- Its port ----------------------------------------------------------------------------------------------------


def test_a_port_of_our_own_choice_that_a_stranger_took_is_given_up_and_that_is_said(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    access = home.up()
    digest = push(access, b"a layer")
    home.down()
    with stranger(port_of(access)):
        moved = home.up()
    assert moved.address != access.address
    assert f"from port {port_of(access)} to {port_of(moved)}" in " ".join(capsys.readouterr().err.split())
    home.down()
    assert home.up() == moved
    assert pull(moved, digest) == b"a layer"


def test_a_taken_port_that_the_user_wants_is_an_error_and_the_next_up_has_the_old_one(home: Home) -> None:
    access = home.up()
    home.down()
    wanted = free_port()
    with stranger(wanted), pytest.raises(EngineError, match=rf"port {wanted} .* is used by another program") as caught:
        home.up(registry_port=wanted)
    assert caught.value.exit_code == 8
    assert home.up() == access


def test_a_running_registry_does_not_move_and_one_that_was_stopped_says_so(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    access = home.up()
    digest = push(access, b"a layer")
    wanted = free_port()
    with pytest.raises(UsageError, match=rf"runs on port {port_of(access)}.*is {wanted}"):
        home.up(registry_port=wanted)
    assert pull(access, digest) == b"a layer"
    home.down()
    moved = home.up(registry_port=wanted)
    assert port_of(moved) == wanted
    assert "moves from port" in capsys.readouterr().err
    assert pull(moved, digest) == b"a layer"


@pytest.mark.parametrize("damage", [b"", b"\xff\x00", b'{"port": "x"}', b'{"port": 0}', b"[]", b'{"port": 4711}'])
def test_a_damaged_memory_does_not_move_the_port(home: Home, damage: bytes) -> None:
    access = home.up()
    home.memory.write_bytes(damage)
    assert home.up() == access
    home.down()
    assert home.up() == access


# --- Its login ---------------------------------------------------------------------------------------------------


def test_nothing_is_read_or_changed_without_the_password(home: Home) -> None:
    access = home.up()
    push_image(access, "nightly", created="2020-01-01T00:00:00Z", layer=b"1")
    for login in (None, (access.login.username, "guess"), ("root", access.login.password)):
        for method, path in (
            ("GET", "tags/list"),
            ("GET", "manifests/nightly"),
            ("PUT", "manifests/nightly"),
            ("DELETE", "manifests/nightly"),
            ("POST", "blobs/uploads/"),
        ):
            address = f"http://{access.reached}/v2/{EMBEDDED_REPOSITORY}/{path}"
            answer = requests.request(method, address, auth=login, timeout=10)
            assert answer.status_code == requests.codes.unauthorized


def test_only_the_user_can_read_the_password_and_it_is_nowhere_else(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    access = home.up()
    assert home.identity.file.stat().st_mode & 0o777 == 0o600
    assert home.status.login == home.identity.file
    push(access, b"a layer")
    shown = [json.dumps(home.container.attrs), home.container.logs().decode(), repr(access), *capsys.readouterr()]
    shown += [path.read_text() for path in home.memory.parent.iterdir() if path != home.identity.file]
    assert not [text for text in shown if access.login.password in text]


@pytest.mark.parametrize("damage", ["cut", "empty", "bytes", "exposed", "other"])
def test_a_damaged_or_exposed_password_is_replaced_and_the_registry_stays(home: Home, damage: str) -> None:
    access = home.up()
    digest = push(access, b"a layer")
    file, old = home.identity.file, access.login.password
    if damage == "exposed":
        file.chmod(0o644)
    else:
        file.write_bytes({"cut": old[:20].encode(), "empty": b"", "bytes": b"\xff", "other": b"A" * 43}[damage])
    again = home.up()
    assert (again.address, again.login.password) != (access.address, old)
    assert again.address == access.address
    assert file.stat().st_mode & 0o777 == 0o600
    assert pull(again, digest) == b"a layer"
    assert ask(access, "GET", "").status_code == requests.codes.unauthorized


def test_two_state_folders_on_one_engine_have_a_registry_each(home: Home, other: Home) -> None:
    one, two = home.up(), other.up()
    assert one.address != two.address
    digest = push(one, b"a layer")
    assert ask(two, "GET", f"{EMBEDDED_REPOSITORY}/blobs/{digest}").status_code == requests.codes.not_found
    assert requests.get(
        f"http://{two.reached}/v2/", auth=(one.login.username, one.login.password), timeout=10
    ).status_code
    home.down()
    assert other.up() == two


# --- What was there before ---------------------------------------------------------------------------------------


def make_former(home: Home) -> tuple[str, int, Path]:
    """A registry as it was before: data in the state folder, a port remembered. Digest of a layer, port, folder."""
    access = home.up()
    digest = push(access, b"a layer of old")
    pieces, _ = home.container.get_archive("/var/lib/registry/data")
    home.remove()
    home.identity.file.unlink()
    folder = home.memory.parent
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        unpack(tar, folder)
    (folder / "config.yml").write_text("{}", encoding="utf-8")
    return digest, port_of(access), folder


def test_the_images_of_the_former_registry_move_in_and_its_process_ends(home: Home) -> None:
    digest, port, folder = make_former(home)
    words = ["docker-registry", "serve", str(folder / "config.yml")]
    with subprocess.Popen(["sh", "-c", "sleep 60; :", *words]) as process:
        access = home.up()
        assert process.wait(timeout=10)
    assert port_of(access) == port
    assert pull(access, digest) == b"a layer of old"
    assert push(access, b"another")
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["login", "registry.json"]


def test_a_move_that_is_interrupted_is_done_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, _, folder = make_former(home)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            home.up()
    assert (folder / "data").is_dir()
    access = home.up()
    assert pull(access, digest) == b"a layer of old"
    assert not (folder / "data").exists()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_only_our_own_process_is_stopped(home: Home, tmp_path: Path) -> None:
    words = ["docker-registry", "serve", str(tmp_path / "another.yml")]
    with subprocess.Popen(["sh", "-c", "sleep 60; :", *words]) as stranger:
        try:
            assert not home.down()
            assert stranger.poll() is None
        finally:
            stranger.kill()


# --- Garbage -----------------------------------------------------------------------------------------------------


def test_what_has_expired_goes_with_its_layers_and_the_rest_is_served_as_before(home: Home) -> None:
    access = home.up()
    size = 1_000_000
    gone = push_image(access, "local-1", created="2020-01-01T00:00:00Z", layer=b"1" * size)
    stays = push_image(access, "local-2", created="2999-01-01T00:00:00Z", layer=b"2" * size)
    good = push_image(access, "nightly", created="2020-01-01T00:00:00Z", layer=b"3" * size)
    context = home.context()
    assert size <= expiry.sweep(context, EMBEDDED_REPOSITORY) < 2 * size
    assert [len(pull(access, digest)) == size for digest in (gone, stays, good)] == [False, True, True]
    registry = Registry(RepositoryName(host=access.address, path=EMBEDDED_REPOSITORY, access=access))
    assert sorted(registry.tags()) == ["local-2", "nightly"]
    assert expiry.sweep(context, EMBEDDED_REPOSITORY) == 0
    # What went can come again.
    push_image(access, "local-1", created="2999-01-01T00:00:00Z", layer=b"1" * size)
    assert len(pull(access, gone)) == size


def test_a_registry_that_does_not_run_is_not_started_to_be_swept(home: Home) -> None:
    home.up()
    home.down()
    assert expiry.sweep(home.context(), EMBEDDED_REPOSITORY) == 0
    assert not home.status.running


_COLLECT = """
import sys, time
from build.config import settings
from build.console import Console
from build.context import Context
from build.registry import local
def collect(engine, identity, image_id, confined=local._collect):
    words = {"entrypoint": ["sleep"], "command": ["7301"], "network_mode": "none"}
    with engine.created(image_id, **local._confined(local._name(identity)), **words) as container:
        container.start()
        container.wait()
local._collect = collect
places = {"state": sys.argv[1], "cache": sys.argv[2]}
local.collect(Context(settings=settings.load(places), console=Console(quiet=True)))
"""


def test_a_collection_that_is_killed_is_ended_before_the_registry_takes_uploads_again(home: Home) -> None:
    access = home.up()
    digest = push(access, b"a layer")
    folders = home.context().folders
    words = [sys.executable, "-c", _COLLECT, str(folders.state), str(folders.cache)]
    environment = {**os.environ, **home.engine.environment}
    filters = {"volume": str(home.status.container), "label": labels.OWNER}

    def collectors() -> list[Any]:
        return list(home.engine.client.api.containers(filters=filters))

    with subprocess.Popen(words, cwd=REPOSITORY, env=environment) as run:
        assert eventually(lambda: bool(collectors()), seconds=30)
        run.send_signal(signal.SIGKILL)
    assert not home.status.running
    assert home.up() == access
    assert collectors() == []
    assert pull(access, digest) == b"a layer"


def test_nothing_collects_garbage_while_uploads_are_taken(home: Home) -> None:
    access = home.up()
    image, options = home.container.attrs["Image"], local._confined(str(home.status.container))
    home.down()
    with home.engine.created(image, **options, entrypoint=["sleep"], command=["7301"]) as collector:
        collector.start()
        assert home.up() == access
        with pytest.raises(docker.errors.NotFound):
            collector.reload()


# --- Verbs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(home: Home) -> Cli:
    """The command line of that state folder, with no registry set."""
    made = make_cli(home.engine, "unused", home.folder)
    del made.environment["LLM_D_DEV_REGISTRY"]
    return made


def test_an_image_is_pushed_with_the_password_and_pruned_when_it_has_expired(cli: Cli, home: Home) -> None:
    commit = hashlib.sha1(str(home.folder).encode(), usedforsecurity=False).hexdigest()
    image = make_image(home.engine, f"local-{commit}", commit)
    cli.pass_smoke(image)
    ran = cli("push", image.tags[0], "--json")
    assert ran.returncode == 0, ran.stderr
    access = local.running(home.engine, home.context().folders)
    assert access
    (name,) = ran.json["pushed"]
    assert name == f"{access.address}/{EMBEDDED_REPOSITORY}:local-{commit}"
    assert ask(access, "GET", f"{EMBEDDED_REPOSITORY}/manifests/local-{commit}").ok
    # A repository on it by its name is let in as well.
    named = cli("push", image.tags[0], "--json", LLM_D_DEV_REGISTRY=f"{access.address}/mine")
    assert named.returncode == 0, named.stderr
    for pushed in (name, *named.json["pushed"]):
        home.engine.untag(pushed)


def test_the_registry_of_an_engine_elsewhere_is_reached_through_ssh(cli: Cli, home: Home, tmp_path: Path) -> None:
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ssh.__file__} {home.engine.host} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    away = {"DOCKER_HOST": "ssh://user@localhost", "PATH": f"{program.parent}:{os.environ['PATH']}"}
    commit = hashlib.sha1(str(home.folder).encode(), usedforsecurity=False).hexdigest()
    image = make_image(home.engine, f"local-{commit}", commit)
    cli.pass_smoke(image)
    ran = cli("push", image.tags[0], "--json", **away)
    assert ran.returncode == 0, ran.stderr
    access = home.up()
    assert ran.json["pushed"] == [f"{access.address}/{EMBEDDED_REPOSITORY}:local-{commit}"]
    assert ask(access, "GET", f"{EMBEDDED_REPOSITORY}/manifests/local-{commit}").ok
    home.engine.untag(*ran.json["pushed"])


def test_engine_down_stops_the_registry_and_not_an_engine_that_is_anothers(cli: Cli, home: Home) -> None:
    assert cli("engine", "up", "--json").json["registry"]["running"]
    shown = cli("engine", "status", "--json").json["registry"]
    assert shown["running"]
    assert shown["container"] == home.container.name
    assert not cli("engine", "down", "--json").json["registry"]["running"]
    assert home.engine.client.ping()
    assert cli("engine", "up", "--json").json["registry"]["address"] == shown["address"]


def test_a_changed_port_setting_is_refused_in_two_lines(cli: Cli, home: Home) -> None:
    access = home.up()
    refused = cli("engine", "up", "--json", LLM_D_DEV_REGISTRY_PORT="4712")
    assert_refused(refused, 2, "usage", f"runs on port {port_of(access)}")
