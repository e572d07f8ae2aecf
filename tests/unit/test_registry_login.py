"""The embedded registry's identity and password, and its images from before."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import bcrypt
import pytest

from build.config.folders import Folders
from build.registry import former
from build.registry import login as registry_login

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(state=tmp_path / "state", cache=tmp_path / "cache")


def test_a_state_folder_has_one_identity_and_one_password(folders: Folders) -> None:
    assert registry_login.known(folders) is None
    made = registry_login.ensure(folders)
    assert registry_login.ensure(folders) == registry_login.known(folders) == made
    assert made.login() == made.login()
    assert made.file.stat().st_mode & 0o777 == 0o600


def test_no_two_state_folders_are_alike(folders: Folders, tmp_path: Path) -> None:
    one = registry_login.ensure(folders)
    two = registry_login.ensure(Folders(state=tmp_path / "other", cache=tmp_path))
    assert one.id != two.id
    assert one.login() != two.login()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe", b"short", b"with spaces" * 5, b"a" * 43 + b":b", b"\0" * 43]
)
def test_a_damaged_password_is_no_password_and_the_identity_stays(folders: Folders, content: bytes) -> None:
    made = registry_login.ensure(folders)
    made.file.write_bytes(content)
    found = registry_login.known(folders)
    assert found == made
    assert found.login() is None
    assert found.renew() == found.login()


def test_a_password_that_others_could_read_is_no_password(folders: Folders) -> None:
    made = registry_login.ensure(folders)
    made.file.chmod(0o640)
    assert made.login() is None


def test_other_files_of_the_folder_are_no_identity(folders: Folders) -> None:
    folders.registry.mkdir(parents=True)
    for name in ("login-", "login-x", "login-0123456789ab.tmp", "registry.json", ".login-0123456789ab"):
        (folders.registry / name).write_text("x", encoding="utf-8")
    assert registry_login.known(folders) is None


def test_the_registry_is_told_what_fits_the_password_and_not_the_password(folders: Folders) -> None:
    login = registry_login.ensure(folders).login()
    assert login
    line = registry_login.htpasswd(login)
    user, _, digest = line.strip().partition(":")
    assert user == login.username
    assert bcrypt.checkpw(login.password.encode(), digest.encode())
    assert login.password not in line + repr(login)


def test_what_the_former_registry_has_is_handed_over_whole(folders: Folders) -> None:
    data = former.data(folders)
    contents = {
        "docker/a": b"",
        "docker/b": b"x" * 511,
        "docker/v2/c": b"y" * 512,
        f"docker/{'n' * 150}": b"z" * 3_000_000,
    }
    for name, content in contents.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    os.mkfifo(data / "pipe")
    arrived: list[bytes] = []
    assert former.move(folders, owner=4711, into=arrived.extend)
    with tarfile.open(fileobj=io.BytesIO(b"".join(arrived))) as tar:
        members = {member.name: member for member in tar}
        files = {name: tar.extractfile(member) for name, member in members.items() if member.isfile()}
        assert {name: file.read() for name, file in files.items() if file} == {
            f"data/{name}": content for name, content in contents.items()
        }
        assert {member.uid for member in members.values()} == {4711}
    assert not data.exists()
    assert not former.move(folders, owner=4711, into=lambda _: pytest.fail("there is nothing left"))


def test_what_could_not_be_handed_over_stays(folders: Folders) -> None:
    layer = former.data(folders) / "layer"
    layer.parent.mkdir(parents=True)
    layer.write_bytes(b"x")

    def fail(_: object) -> None:
        raise OSError("the engine went away")

    with pytest.raises(OSError, match="went away"):
        former.move(folders, owner=1, into=fail)
    assert layer.read_bytes() == b"x"
