"""The host's package settings reach a build, and stay out of everything that remains of it."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import logging
import secrets
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv

from build.engine import buildx
from build.flavors import cpu
from build.pypi.index import PackageIndex
from tests.engine.conftest import LOCAL, assert_refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli

MARK = "hush-hush"
"""Part of everything that must not show."""

# The stages of cpu.Dockerfile that install packages, and one that shows that the settings arrived.
_CHECKED = """
FROM dependencies AS checked
ARG SUMS
RUN --mount=type=secret,id=environment --mount=type=secret,id=uv.toml --mount=type=secret,id=ca.pem \\
    cd /run/secrets; echo "$SUMS" | sha256sum --check --strict; \\
    . ./environment; test -n "$HTTPS_PROXY"; test -n "$https_proxy"; test -r "$SSL_CERT_FILE"
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PackageIndex:
    """Settings that are full of secrets, and a folder with one package."""
    folder = tmp_path_factory.mktemp("index")
    bundle = folder / "ca.pem"
    bundle.write_text(f"{MARK}-bundle\n", encoding="utf-8")
    links = folder / "links"
    links.mkdir()
    with zipfile.ZipFile(links / "stub-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("stub.py", "")
        wheel.writestr("stub-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: stub\nVersion: 1\n")
        wheel.writestr("stub-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("stub-1.dist-info/RECORD", "")
    proxy = f"http://somebody:{MARK}-proxy@{MARK}.invalid:3128"
    return PackageIndex(
        index=f"https://somebody:{MARK}-index@{MARK}.invalid/simple",
        extra=(f"https://somebody:{MARK}-extra@{MARK}.invalid/more",),
        find_links=(links,),
        bundle=bundle,
        proxies={"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy},
    )


@pytest.fixture(scope="module")
def log() -> Iterator[list[str]]:
    """What is logged, as it would be in the log file."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    logger, handler = logging.getLogger("build"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def image(
    engine: Engine, system: Image, index: PackageIndex, log: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Image:
    """An image that was built with those settings."""
    log.clear()  # what comes now is of this build
    folder = tmp_path_factory.mktemp("context")
    # Unlike any before, so that nothing is taken from the cache.
    wanted = f"stub @ file:///find-links/stub-1-py3-none-any.whl # {secrets.token_hex(8)}\n"
    for name in ("requirements.txt", "build-requirements.txt"):
        (folder / name).write_text(wanted, encoding="utf-8")
    dockerfile = folder.with_name("checked.Dockerfile")
    dockerfile.write_text(cpu.DOCKERFILE.read_text(encoding="utf-8") + _CHECKED, encoding="utf-8")
    with index.handed_in() as handed, engine.temporary_tag(system.id) as name:
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {key}" for key, path in handed.secrets.items()]
        request = buildx.ImageBuild(
            dockerfile=dockerfile,
            context=folder,
            target="checked",
            tags=(f"{LOCAL}:secrets",),
            contexts={"uv": Path(uv.find_uv_bin()).parent, **handed.contexts},
            secrets=handed.secrets,
            arguments={"ROOTFS": name, "SUMS": "\n".join(sums)},
        )
        return engine.image(buildx.build(engine, request, progress=lambda _line: None))


def test_the_settings_reach_the_build(index: PackageIndex, image: Image) -> None:
    """The last stage would have failed."""
    assert image.tags == (f"{LOCAL}:secrets",)
    assert (index.shell_environment() + index.uv_settings()).count(MARK) > 4


def test_history_holds_no_secret(engine: Engine, image: Image) -> None:
    history = json.dumps(engine.client.images.get(image.id).history())
    assert "/uv/uv pip install" in history
    assert MARK not in history


def test_configuration_holds_no_secret(engine: Engine, image: Image) -> None:
    assert MARK not in json.dumps(engine.client.images.get(image.id).attrs)


def test_layers_hold_no_secret(engine: Engine, image: Image) -> None:
    """`docker save` holds all layers, uncompressed."""
    tail, size = b"", 0
    for chunk in engine.client.api.get_image(image.id, chunk_size=1 << 22):
        assert MARK.encode() not in tail + chunk
        tail, size = chunk[-len(MARK) :], size + len(chunk)
    assert size > image.size


@pytest.mark.usefixtures("image")
def test_log_of_the_build_holds_no_secret(log: list[str]) -> None:
    text = "\n".join(log)
    assert "docker buildx build" in text
    assert "stub" in text
    assert MARK not in text


class _Refusing(http.server.BaseHTTPRequestHandler):
    """An index that answers with an error."""

    status = 404

    def do_GET(self) -> None:
        self.send_error(self.status)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
        """Say nothing."""


@contextlib.contextmanager
def refusing(status: int) -> Iterator[int]:
    """Port of an index that answers with an error, while the block runs."""
    handler = type("Handler", (_Refusing,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [404, 500])
def test_an_index_that_refuses_is_named_without_the_password(cli: Cli, status: int) -> None:
    with refusing(status) as port:
        address = f"http://somebody:{MARK}@127.0.0.1:{port}/simple"
        ran = cli("nightly", "--json", PIP_INDEX_URL=address)
    assert_refused(ran, 3, "source", "package index")
    assert_logs_hold_no_secret(cli, ran.stderr)


def assert_logs_hold_no_secret(cli: Cli, printed: str) -> None:
    logs = [path.read_text(encoding="utf-8") for path in cli.folders.logs.iterdir()]
    assert any("raised here" in text for text in logs)
    assert not [text for text in (*logs, printed) if MARK in text]
