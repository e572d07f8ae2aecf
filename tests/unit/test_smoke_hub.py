"""Models are fetched once and whole. The hub is a made-up one on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import huggingface_hub.constants
import pytest

from build.config.model_name import ModelName
from build.errors import BusyError
from build.host import lock
from smoke.server import hub_model
from smoke.server.hub_model import HubError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same weights",
    "original/params.json": b"[]",
}
SHA = "0123456789abcdef0123456789abcdef01234567"
MODEL = ModelName(repository="org/name", revision="main")


class Handler(BaseHTTPRequestHandler):
    """As much of the hub's API as fetching a model takes."""

    server: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if path == "/api/models/org/name/revision/main":
            files = [{"rfilename": name, "size": len(content)} for name, content in self.server.files.items()]
            self._send(json.dumps({"id": "org/name", "sha": SHA, "siblings": files}).encode())
        elif path == f"/api/models/org/name/tree/{SHA}":
            self._send(json.dumps([self._row(name) for name in self.server.files]).encode())
        elif match := re.fullmatch(f"/org/name/resolve/{SHA}/(.+)", path):
            self._send(self.server.served.get(match[1]))
        else:
            self._send(None)

    def _row(self, name: str) -> dict[str, object]:
        content = self.server.files[name]
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": oid}

    def _send(self, content: bytes | None) -> None:
        self.send_response(HTTPStatus.OK if content is not None else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name for it
        """Say nothing."""


class Hub(ThreadingHTTPServer):
    """A hub with one model: what it says it has, what it serves, and what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.served = dict(FILES)
        self.asked: list[str] = []


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield server
        server.shutdown()


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_model_is_fetched_once(made_up: Hub, tmp_path: Path) -> None:
    folder = hub_model.fetch(MODEL, tmp_path, say=print)
    assert names(folder) == {"config.json", "model.safetensors", "original/params.json"}
    assert all(path.stat().st_mode & 0o004 for path in (folder, *folder.rglob("*")))
    made_up.asked.clear()
    assert hub_model.fetch(MODEL, tmp_path, say=print) == folder
    assert not made_up.asked


def test_hub_that_does_not_answer(made_up: Hub, tmp_path: Path) -> None:
    made_up.shutdown()
    made_up.server_close()
    with pytest.raises(HubError, match=r"org/name@main could not be fetched"):
        hub_model.fetch(MODEL, tmp_path, say=print)


def test_model_that_the_hub_does_not_have(made_up: Hub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"org/other@main could not be fetched.*404"):
        hub_model.fetch(ModelName(repository="org/other", revision="main"), tmp_path, say=print)
    assert made_up.asked


def test_model_that_comes_in_part_is_none(made_up: Hub, tmp_path: Path) -> None:
    del made_up.served["model.safetensors"]
    with pytest.raises(HubError):
        hub_model.fetch(MODEL, tmp_path, say=print)
    made_up.served = dict(FILES)
    assert "model.safetensors" in names(hub_model.fetch(MODEL, tmp_path, say=print))


def test_model_without_configuration_is_none(made_up: Hub, tmp_path: Path) -> None:
    del made_up.files["config.json"]
    with pytest.raises(HubError, match=r"no config\.json"):
        hub_model.fetch(MODEL, tmp_path, say=print)


def test_another_run_that_fetches_it_is_waited_for_with_an_end(tmp_path: Path) -> None:
    folder, said = tmp_path / "models", list[str]()
    with (
        lock.held(folder, ".org--name@main", doing="fetching org/name@main"),
        pytest.raises(BusyError, match=r"process \d+ \(fetching org/name@main, since "),
    ):
        hub_model.fetch(MODEL, tmp_path, say=said.append, timeout_s=0.5)
    assert [line.partition(":")[0] for line in said] == ["waiting"]
