"""A push with what `docker login` stored, in every form; the registry takes only who may, the engine is real."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.engine.test_gate import image, registry_tag
from tests.unit.loopback import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from build.engine.image import Image
    from tests.engine.conftest import Cli
    from tests.unit.loopback import Asked

__all__ = ["image"]

BASIC = "Basic dXNlcjpwYXNz"  # user:pass
BEARER = "Bearer GOOD"
HELPER = """#!/bin/sh
[ "$1" = get ] || exit 1
read -r host
printf '{"ServerURL":"%s","Username":"USER","Secret":"SECRET"}' "$host"
"""


@dataclass(kw_only=True)
class Taking:
    """A registry that has every layer already, and takes manifests.

    Attributes:
        challenge: What a 401 asks for; empty for a registry that anybody may write to. ``HOST`` stands for itself.
        manifests: What it took, by name.
    """

    challenge: str = ""
    manifests: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Answer:
        shown = asked.headers.get("Authorization")
        if asked.path.startswith("/token"):
            by_token = asked.method == "POST" and b"refresh_token=REFRESH" in asked.body
            return Answer(body=b'{"access_token":"GOOD"}') if by_token or shown == BASIC else Answer(status=401)
        if self.challenge and shown not in (BASIC, BEARER):
            challenge = self.challenge.replace("HOST", asked.headers["Host"])
            return Answer(status=401, headers={"WWW-Authenticate": challenge})
        name = asked.path.rpartition("/")[2]
        if "/uploads/" in asked.path:
            # It has the layer, whatever is sent: only its address is needed to go on.
            place = f"http://{asked.headers['Host']}/v2/team/vllm/blobs/uploads/1"
            status = 201 if asked.method == "PUT" else 202
            return Answer(status=status, headers={"Location": place, "Range": f"0-{max(0, len(asked.body) - 1)}"})
        if "/manifests/" in asked.path:
            return self._put(name, asked.body) if asked.method == "PUT" else self._manifest(name)
        return Answer(body=b"{}", headers={"Docker-Content-Digest": name})

    def _put(self, name: str, body: bytes) -> Answer:
        self.manifests[name] = body
        return Answer(status=201, headers={"Docker-Content-Digest": f"sha256:{hashlib.sha256(body).hexdigest()}"})

    def _manifest(self, name: str) -> Answer:
        if name not in self.manifests:
            return Answer(status=404)
        body = self.manifests[name]
        return Answer(
            body=body,
            headers={
                "Content-Type": json.loads(body)["mediaType"],
                "Docker-Content-Digest": f"sha256:{hashlib.sha256(body).hexdigest()}",
            },
        )


@pytest.fixture
def taking() -> Taking:
    return Taking()


@pytest.fixture
def host(taking: Taking) -> Iterator[str]:
    with serving(taking) as address:
        yield address


@pytest.fixture
def push(cli: Cli, image: Image, host: str, tmp_path: Path) -> Callable[[object], None]:
    """Push an image that passed, with a configuration."""
    cli.pass_smoke(image)

    def push(configuration: object) -> None:
        (tmp_path / "docker").mkdir()
        text = json.dumps(configuration).replace("HOST", host)
        (tmp_path / "docker/config.json").write_text(text)
        path = f"{tmp_path}:{cli.environment['PATH']}"
        words = ("push", image.tags[0], "--json", "--registry", f"{host}/team/vllm")
        ran = cli(*words, DOCKER_CONFIG=str(tmp_path / "docker"), PATH=path)
        assert ran.returncode == 0, ran.stderr
        assert ran.json["pushed"] == [f"{host}/team/vllm:{registry_tag(image)}"]

    return push


def install(folder: Path, name: str, user: str, secret: str) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(HELPER.replace("USER", user).replace("SECRET", secret))
    program.chmod(0o755)


BY_TOKEN = 'Bearer realm="http://HOST/token",service="fake",scope="repository:team/vllm:pull,push"'  # noqa: S105 - a challenge
ASKING = pytest.mark.parametrize("challenge", [BY_TOKEN, 'Basic realm="fake"'], ids=["token", "basic"])


@ASKING
@pytest.mark.parametrize(
    "configuration",
    [
        {"credHelpers": {"HOST": "userpass"}},
        {"auths": {"HOST": {}}, "credsStore": "userpass"},
        {"auths": {"HOST": {"username": "user", "password": "pass"}}},
        {"auths": {"HOST": {"auth": "dXNlcjpwYXNz"}, "old.example.com": {"auth": "bm9jb2xvbg=="}}},
    ],
    ids=["helper", "store", "fields", "broken-other"],
)
def test_a_user_and_a_password(
    push: Callable[[object], None], taking: Taking, tmp_path: Path, configuration: object, challenge: str
) -> None:
    install(tmp_path, "userpass", "user", "pass")
    taking.challenge = challenge
    push(configuration)


@pytest.mark.parametrize(
    "configuration",
    [
        {"auths": {"HOST": {"auth": "MDAwMDAwMDA6", "identitytoken": "REFRESH"}}},
        {"credsStore": "token"},
    ],
    ids=["file", "helper"],
)
def test_an_identity_token(
    push: Callable[[object], None], taking: Taking, tmp_path: Path, configuration: object
) -> None:
    install(tmp_path, "token", "<token>", "REFRESH")
    taking.challenge = BY_TOKEN
    push(configuration)


@pytest.mark.parametrize("entry", [{"auth": ""}, {}, {"auth": "bm9jb2xvbg=="}])
def test_an_entry_without_a_login_where_none_is_needed(push: Callable[[object], None], entry: object) -> None:
    push({"auths": {"HOST": entry}})


def test_logins_that_cannot_be_read_are_no_matter_to_other_verbs(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    entries = {"a.example": {"auth": ""}, "b.example": {"auth": "bm9jb2xvbg=="}, "c.example": "text"}
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": entries}))
    ran = cli("status", "--json", DOCKER_CONFIG=str(tmp_path / "docker"))
    assert ran.returncode == 0, ran.stderr
