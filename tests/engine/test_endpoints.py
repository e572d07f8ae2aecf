"""The engine that the user chose, by variables or by a docker context, is the one that is used, or none."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from build.engine import buildx
from build.engine.client import connected
from build.engine.confinement import Limits
from build.engine.endpoint import chosen
from build.host import process
from smoke.server import tiny_model
from smoke.server.launch import Launch, await_healthy, running
from tests.engine import tls
from tests.engine.conftest import assert_refused
from tests.standin.tls import make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.endpoint import Endpoint
    from build.engine.image import Image
    from tests.engine.conftest import Cli


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    make_certificates(tmp_path / "certificates")
    return tmp_path / "certificates"


@pytest.fixture
def secured(engine: Engine, certificates: Path) -> Iterator[str]:
    with tls.relayed(certificates, engine.host.removeprefix("unix://")) as address:
        yield f"tcp://{address}"


@pytest.fixture
def found(configured: dict[str, str], secured: str, certificates: Path) -> Endpoint:
    """The engine that a context with TLS chooses."""
    create_context(configured, secured, certificates)
    endpoint = chosen({**configured, "DOCKER_CONTEXT": "secured"})
    assert endpoint is not None
    return endpoint


@pytest.fixture
def configured(tmp_path: Path) -> dict[str, str]:
    """Variables of a user who has a docker configuration, and chose no engine yet."""
    (tmp_path / "docker").mkdir()
    return {"DOCKER_HOST": "", "DOCKER_CONFIG": str(tmp_path / "docker")}


def docker(configured: Mapping[str, str], *words: str) -> None:
    subprocess.run(["docker", *words], env={**os.environ, **configured}, check=True, capture_output=True)


def by_variables(secured: str, certificates: Path) -> dict[str, str]:
    return {"DOCKER_HOST": secured, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}


def create_context(configured: Mapping[str, str], secured: str, certificates: Path) -> None:
    files = ",".join(f"{name}={certificates / name}.pem" for name in ("ca", "cert", "key"))
    docker(configured, "context", "create", "secured", "--docker", f"host={secured},{files}")


def test_tls_of_variables(cli: Cli, base: Image, secured: str, certificates: Path) -> None:
    ran = cli("status", "--json", **by_variables(secured, certificates))
    assert ran.returncode == 0, ran.stderr
    assert base.id in ran.stdout


def test_tls_without_certificates_is_refused(cli: Cli, secured: str) -> None:
    assert_refused(
        cli("status", "--json", DOCKER_HOST=secured), 8, "engine", f"nothing answers at DOCKER_HOST={secured}"
    )


@pytest.mark.parametrize("by_name", [False, True])
def test_tls_of_a_context(
    cli: Cli, base: Image, configured: dict[str, str], secured: str, certificates: Path, *, by_name: bool
) -> None:
    create_context(configured, secured, certificates)
    if by_name:
        configured["DOCKER_CONTEXT"] = "secured"
    else:
        docker(configured, "context", "use", "secured")
    ran = cli("status", "--json", **configured)
    assert ran.returncode == 0, ran.stderr
    assert base.id in ran.stdout


def test_every_program_reaches_the_engine_of_a_context(
    engine: Engine, base: Image, found: Endpoint, secured: str, tmp_path: Path
) -> None:
    """Docker's SDK, ``docker``, buildx and testcontainers."""
    with contextlib.closing(connected(found)) as reached:
        # Its names are not compared: other tests give it some meanwhile.
        assert (reached.host, reached.image(base.id).id) == (secured, base.id)
        identity = ["docker", "info", "--format", "{{.ID}}"]
        expected = process.output(identity, env=engine.environment)
        # Whatever the process itself has.
        assert process.output(identity, env={"DOCKER_CONTEXT": "gone", **reached.environment}) == expected
        buildx.require_buildkit(reached)
        builder = process.output(["docker", "buildx", "inspect", "default"], env=reached.environment).decode()
        assert re.search(r"^Status: +running$", builder, re.MULTILINE)
        tiny_model.write(tmp_path / "model")
        launch = Launch(image=base, model=tmp_path / "model", devices=(), key="key", limits=Limits())
        with running(reached, launch, keep_log=lambda _text: None) as server:
            await_healthy(server, timeout=60, progress=lambda _line: None)


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("by_name", [True, False])
def test_a_context_whose_engine_is_gone(
    cli: Cli, configured: dict[str, str], tmp_path: Path, *, by_name: bool, exists: bool
) -> None:
    if exists:
        docker(configured, "context", "create", "gone", "--docker", f"host=unix://{tmp_path}/nowhere.sock")
    if by_name:
        configured["DOCKER_CONTEXT"] = "gone"
    else:
        (tmp_path / "docker/config.json").write_text(json.dumps({"currentContext": "gone"}))
    assert_refused(cli("status", "--json", **configured), 8, "engine", "docker context 'gone'")


def test_the_default_context_is_the_engine_of_this_machine(configured: dict[str, str]) -> None:
    assert chosen({**configured, "DOCKER_CONTEXT": "default"}) is None


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_an_engine_that_accepts_and_says_nothing_is_given_up(cli: Cli, tmp_path: Path, words: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent"))
        listener.listen()
        process = cli.start("status", "--json", DOCKER_HOST=f"unix://{tmp_path}/silent")
        clients = [listener.accept()[0] for _ in range(2)]
        clients[1].sendall(words)
        _, said = process.communicate(timeout=120)
        for client in clients:
            client.close()
    assert process.returncode == 8
    assert f"nothing answers at DOCKER_HOST=unix://{tmp_path}/silent" in said


def test_logins_for_testcontainers_change_nothing(
    engine: Engine, base: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415

    login = {"auths": {"registry.example.invalid": {"auth": "dXNlcjpwYXNz"}}}
    monkeypatch.setattr(testcontainers_config, "_docker_auth_config", json.dumps(login))
    launch = Launch(image=base, model=tmp_path, devices=(), key="key", limits=Limits())
    with running(engine, launch, keep_log=lambda _text: None) as server:
        assert server.container.id
