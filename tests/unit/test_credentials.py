"""What is stored for a registry, in every form that `docker login` and credential helpers have."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from build.engine import credentials
from build.engine.credentials import Login, stored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "registry.example:5000"
HUBS_KEY = "https://index.docker.io/v1/"


def user(name: str, password: str) -> Login:
    return Login(username=name, password=password, identity_token="")


USER = user("me", "word")
TOKEN = replace(user("", ""), identity_token="REFRESH")  # noqa: S106 - nobody's
AUTH = base64.b64encode(b"me:word").decode()


@pytest.fixture
def configure(isolated: Path) -> Callable[[object], None]:
    """Write `config.json`."""

    def configure(document: object) -> None:
        (isolated / "docker").mkdir(exist_ok=True)
        (isolated / "docker/config.json").write_text(json.dumps(document))

    return configure


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a credential helper: its name, and what it does with the registry `$host` that it is asked for."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def install(name: str, script: str) -> None:
        program = tmp_path / f"docker-credential-{name}"
        program.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 9\nread -r host || :\n{script}\n')
        program.chmod(0o755)

    return install


def gives(user: str, secret: str) -> str:
    return f"""printf '{{"ServerURL":"%s","Username":"{user}","Secret":"{secret}"}}' "$host" """


def login(host: str = HOST) -> Login | None:
    return stored(host, os.environ).login


# --- The file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": AUTH}, USER),
        ({"auth": f"{AUTH[:4]}\n{AUTH[4:]}"}, USER),
        ({"auth": base64.b64encode(b"me:word\0\0").decode()}, USER),
        ({"username": "me", "password": "word"}, USER),
        ({"username": "old", "password": "old", "auth": AUTH}, USER),
        ({"auth": base64.b64encode(b"me:a:b").decode()}, user("me", "a:b")),
        ({"auth": base64.b64encode(b"0000:").decode(), "identitytoken": "REFRESH"}, TOKEN),
        ({"identitytoken": "REFRESH"}, TOKEN),
        ({"auth": ""}, None),
        ({}, None),
    ],
)
def test_an_entry_in_every_form(
    configure: Callable[[object], None], entry: dict[str, str], expected: Login | None
) -> None:
    configure({"auths": {HOST: entry}})
    assert stored(HOST, os.environ) == credentials.Stored(host=HOST, login=expected, trouble=None)


@pytest.mark.parametrize("address", [HOST, f"https://{HOST}", f"http://{HOST}/v1/", f"https://{HOST}/v2/"])
def test_addresses_of_older_versions(configure: Callable[[object], None], address: str) -> None:
    configure({"auths": {address: {"auth": AUTH}}})
    assert login() == USER


@pytest.mark.parametrize("address", ["Registry.Example:5000", "https://REGISTRY.example:5000/v2/"])
def test_a_host_in_other_letters_is_the_same_registry(configure: Callable[[object], None], address: str) -> None:
    configure({"auths": {address: {"auth": AUTH}}})
    assert login() == USER


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://r.example:443/", "r.example"),
        ("r.example:443", "r.example"),
        ("https://r.example", "r.example:443"),
        ("r.example", "R.Example"),
        ("docker.io", "docker.io"),
        ("https://index.docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        (HUBS_KEY, "index.docker.io"),
        (HUBS_KEY, "registry-1.docker.io"),
        ("https://INDEX.docker.io/v2/", "docker.io"),
    ],
)
def test_a_registry_by_each_of_its_names(configure: Callable[[object], None], address: str, host: str) -> None:
    configure({"auths": {address: {"auth": AUTH}}})
    assert login(host) == USER


@pytest.mark.parametrize(
    ("address", "host"),
    [("r.example:5000", "r.example"), ("http://r.example:443", "r.example"), ("docker.io.example", "docker.io")],
)
def test_another_registry_is_another(configure: Callable[[object], None], address: str, host: str) -> None:
    configure({"auths": {address: {"auth": AUTH}}})
    assert login(host) is None


def test_of_several_names_the_one_that_docker_takes_counts(configure: Callable[[object], None]) -> None:
    other = {"auth": base64.b64encode(b"other:other").decode()}
    configure({"auths": {"docker.io": other, HUBS_KEY: {"auth": AUTH}}})
    assert login("docker.io") == USER
    configure({"auths": {"REGISTRY.example:5000": other, f"https://{HOST}/v1/": {"auth": AUTH}}})
    assert login() == USER


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("\ufeff{}", "line 1, column 1"),
        ('{\n  // mine\n  "auths": {}\n}', "line 2, column 3"),
        ('{\n  "auths": {},\n}', ": line "),
        ("[" * 100_000, "as JSON"),
    ],
    ids=["byte-order-mark", "comment", "trailing-comma", "nested-too-deeply"],
)
def test_a_configuration_that_cannot_be_read_is_said_to_be_that_and_where(
    configure: Callable[[object], None], isolated: Path, caplog: pytest.LogCaptureFixture, text: str, where: str
) -> None:
    configure({})
    file = isolated / "docker/config.json"
    file.write_text(text, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        found = stored(HOST, os.environ)
    assert found.login is None
    assert str(found.trouble).startswith(f"Docker's {file} cannot be read as JSON")
    assert where in str(found.trouble)
    assert str(found.trouble) in caplog.text


def test_an_empty_configuration_holds_no_login(configure: Callable[[object], None], isolated: Path) -> None:
    configure({})
    (isolated / "docker/config.json").write_text("")
    assert stored(HOST, os.environ) == credentials.Stored(host=HOST, login=None, trouble=None)


def test_docker_hub_is_under_its_old_address(configure: Callable[[object], None]) -> None:
    configure({"auths": {HUBS_KEY: {"auth": AUTH}}})
    found = stored("docker.io", os.environ)
    assert found.for_engine() == {"username": "me", "password": "word", "serveraddress": HUBS_KEY}
    assert login() is None


@pytest.mark.parametrize("document", [None, [], "text", {"auths": []}, {"auths": None}, {"credHelpers": []}])
def test_what_is_no_configuration_holds_no_login(configure: Callable[[object], None], document: object) -> None:
    configure(document)
    assert stored(HOST, os.environ) == credentials.Stored(host=HOST, login=None, trouble=None)
    assert stored(HOST, os.environ).for_engine() == {}


BROKEN = [{"auth": "bm9jb2xvbg=="}, {"auth": "!"}, {"auth": "a"}, {"auth": 5}, "text", None]


@pytest.mark.parametrize("entry", BROKEN)
def test_a_broken_entry_of_another_registry_is_a_warning(
    configure: Callable[[object], None], caplog: pytest.LogCaptureFixture, entry: object
) -> None:
    configure({"auths": {"old.example": entry, HOST: {"auth": AUTH}}})
    with caplog.at_level(logging.WARNING):
        assert login() == USER
    assert "the entry of old.example in " in caplog.text


@pytest.mark.parametrize("entry", BROKEN)
def test_a_broken_entry_of_the_registry_is_named(configure: Callable[[object], None], entry: object) -> None:
    configure({"auths": {HOST: entry}})
    found = stored(HOST, os.environ)
    assert found.login is None
    assert f"the entry of {HOST} in " in str(found.trouble)


# --- The variable ------------------------------------------------------------------------------------------


def test_the_variable_comes_before_helper_and_file(
    configure: Callable[[object], None], helper: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure({"credHelpers": {HOST: "x"}, "auths": {"other.example": {"auth": AUTH}}})
    helper("x", gives("helped", "word"))
    there = {"username": "there", "password": "word"}
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {HOST: there, "third.example": {}}}))
    assert login() == user("there", "word")
    assert login("other.example") == USER
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"third.example": there}}))
    assert login() == user("helped", "word")
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "")
    assert stored(HOST, os.environ) == credentials.Stored(host=HOST, login=user("helped", "word"), trouble=None)


def test_the_variable_holds_docker_hub_and_more_than_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"auths": {HUBS_KEY: {"auth": AUTH}}, "credsStore": "gone"}
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps(document))
    assert login("docker.io") == USER
    assert stored(HOST, os.environ) == credentials.Stored(host=HOST, login=None, trouble=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3same", "DOCKER_AUTH_CONFIG cannot be read as JSON: line 1, column 1"),
        (json.dumps({"auths": {HOST: {"auth": "s3same"}}}), f"the entry of {HOST} in DOCKER_AUTH_CONFIG"),
    ],
)
def test_a_broken_variable_is_named_and_the_file_counts(
    configure: Callable[[object], None], monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    configure({"auths": {HOST: {"auth": AUTH}}})
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", text)
    found = stored(HOST, os.environ)
    assert found.login == USER
    assert said in str(found.trouble)
    assert "s3same" not in str(found.trouble)


# --- Helpers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document", [{"credHelpers": {HOST: "x"}}, {"credsStore": "x"}, {"auths": {HOST: {}}, "credsStore": "x"}]
)
def test_a_helper_is_asked(
    configure: Callable[[object], None], helper: Callable[[str, str], None], document: object
) -> None:
    configure(document)
    helper("x", f'[ "$host" = "{HOST}" ] || exit 1; ' + gives("me", "word"))
    assert login() == USER


def test_a_registrys_own_helper_comes_first(
    configure: Callable[[object], None], helper: Callable[[str, str], None]
) -> None:
    configure({"credHelpers": {HOST: "own"}, "credsStore": "all"})
    helper("own", gives("me", "word"))
    helper("all", gives("other", "other"))
    assert login() == USER


def test_a_helper_is_asked_for_docker_hub_by_its_old_address(
    configure: Callable[[object], None], helper: Callable[[str, str], None]
) -> None:
    configure({"credsStore": "x"})
    helper("x", f'[ "$host" = "{HUBS_KEY}" ] || exit 1; ' + gives("me", "word"))
    assert login("docker.io") == USER


def test_a_helpers_identity_token(configure: Callable[[object], None], helper: Callable[[str, str], None]) -> None:
    configure({"credsStore": "x"})
    helper("x", gives("<token>", "REFRESH"))
    assert login() == TOKEN
    assert stored(HOST, os.environ).for_engine() == {"identitytoken": "REFRESH", "serveraddress": HOST}


@pytest.mark.parametrize("script", ["echo 'credentials not found in native keychain'; exit 1", gives("", "")])
def test_a_helper_without_credentials_is_no_trouble(
    configure: Callable[[object], None], helper: Callable[[str, str], None], script: str
) -> None:
    configure({"credsStore": "x"})
    helper("x", script)
    assert stored(HOST, os.environ) == credentials.Stored(host=HOST, login=None, trouble=None)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'keychain is locked'; exit 1", "docker-credential-x failed with status 1: keychain is locked"),
        ("exit 3", "docker-credential-x failed with status 3"),
        ("echo sesame", "docker-credential-x printed no readable credentials"),
        ("echo '[]'", "docker-credential-x printed no readable credentials"),
        ("head -c 100000 /dev/zero | tr '\\0' '['", "docker-credential-x printed no readable credentials"),
        ("sleep 1000 & wait", "docker-credential-x was ended: it took longer than 0.3 s"),
    ],
)
def test_a_helper_that_fails_is_named(
    configure: Callable[[object], None],
    helper: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    said: str,
) -> None:
    monkeypatch.setattr(credentials, "_HELPER_TIMEOUT_S", 0.3 if "sleep" in script else 20)
    configure({"credsStore": "x"})
    helper("x", script)
    assert stored(HOST, os.environ) == credentials.Stored(host=HOST, login=None, trouble=said)


def test_a_helper_that_may_not_be_run_is_said_to_be_that(
    configure: Callable[[object], None], helper: Callable[[str, str], None], tmp_path: Path
) -> None:
    configure({"credsStore": "x"})
    helper("x", gives("me", "word"))
    (tmp_path / "docker-credential-x").chmod(0o644)
    assert "is not executable: run `chmod +x " in str(stored(HOST, os.environ).trouble)


def test_a_helper_that_leaves_something_running_is_not_waited_for(
    configure: Callable[[object], None], helper: Callable[[str, str], None], tmp_path: Path
) -> None:
    configure({"credsStore": "x"})
    # What is left holds the helper's output for longer than a helper is given.
    helper("x", f"sleep 60 & echo $! > {tmp_path}/left; " + gives("me", "word"))
    found = stored(HOST, os.environ)
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)
    assert found == credentials.Stored(host=HOST, login=USER, trouble=None)


def test_a_helper_that_is_missing_is_named_and_the_file_counts(configure: Callable[[object], None]) -> None:
    configure({"credHelpers": {HOST: "gone"}, "auths": {HOST: {"auth": AUTH}}})
    found = stored(HOST, os.environ)
    assert found.trouble == "docker-credential-gone, which Docker's config.json names, is not installed"
    assert found.login == USER


def test_a_secret_does_not_reach_the_log(
    configure: Callable[[object], None], helper: Callable[[str, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    configure({"credsStore": "x"})
    helper("x", gives("me", "s3same"))
    with caplog.at_level(logging.DEBUG):
        assert login() is not None
    assert "s3same" not in caplog.text
