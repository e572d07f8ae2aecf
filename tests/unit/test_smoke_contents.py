"""What is read from an image, which may hold anything."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, cast

import docker.errors
import pytest

from build.base.store import FACTS, OWN_LAYOUT
from build.source.listing import EXECUTABLE, REGULAR, SUBMODULE, SYMLINK, Entry, Listing, blob_id
from smoke.image import contents, secret_patterns
from smoke.image.contents import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from docker.models.containers import Container

    from tests.unit.work import Work

PLACE = OWN_LAYOUT.source
A, B = Entry(mode=REGULAR, oid="a" * 40), Entry(mode=REGULAR, oid="b" * 40)


class MadeUpContainer:
    """A container that has some files; None is a link, and a path may be asked for that is not there."""

    def __init__(self, files: Mapping[str, bytes | None], *, link: bytes = tarfile.SYMTYPE) -> None:
        self._files = files
        self._link = link
        self.asked: list[str] = []

    def get_archive(self, path: str) -> tuple[Iterator[bytes], None]:
        self.asked.append(path)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            inside = {name: text for name, text in self._files.items() if f"{name}/".startswith(f"{path}/")}
            if not inside:
                raise docker.errors.NotFound("no such file")
            for name, content in inside.items():
                member = tarfile.TarInfo(name.removeprefix(path.rpartition("/")[0] + "/"))
                member.mode = 0o755 if name.endswith(".sh") else 0o644
                if content is None:
                    member.type, member.linkname = self._link, "target"
                member.size = len(content or b"")
                tar.addfile(member, io.BytesIO(content or b""))
        return iter([stream.getvalue()]), None


def container(files: Mapping[str, bytes | None]) -> Container:
    return cast("Container", MadeUpContainer(files))


def listing(**files: Entry) -> Listing:
    return Listing(files=files, trees={})


def test_changes_are_those_in_folders_that_the_base_holds() -> None:
    held = Listing(files={"vllm/a.py": A, "vllm/same.py": A, "vllm/gone.py": A}, trees={})
    tree = Listing(
        files={
            "vllm/a.py": B,
            "vllm/same.py": A,
            "vllm/new.py": A,
            "vllm/sub": Entry(mode=SUBMODULE, oid="c" * 40),
            "tests/test.py": A,
        },
        trees={},
    )
    assert contents.changed(held, tree) == {"vllm/a.py": B, "vllm/new.py": A}
    made = Listing(files={"vllm/new.py": A}, trees={})
    assert contents.changed(held, tree, made=made) == {"vllm/a.py": B}


def test_files_are_read_with_their_modes() -> None:
    root = "/opt/vllm-source"
    image = container({f"{root}/a.py": b"x", f"{root}/vllm/run.sh": b"y", f"{root}/vllm/link": None})
    assert contents._found(image, ["a.py", "vllm/run.sh", "vllm/link", "vllm/not_there.py"], PLACE) == {
        "a.py": Entry(mode=REGULAR, oid=blob_id(b"x")),
        "vllm/run.sh": Entry(mode=EXECUTABLE, oid=blob_id(b"y")),
        "vllm/link": Entry(mode=SYMLINK, oid=blob_id(b"target")),
    }


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_no_link_and_no_device_is_taken_for_a_file(kind: bytes) -> None:
    files: dict[str, bytes | None] = {"/opt/llm-d-dev/target": b"x", "/opt/llm-d-dev/base.json": None}
    files |= {"/opt/vllm-source/a.py": None}
    image = cast("Container", MadeUpContainer(files, link=kind))
    assert contents._members(image, FACTS) == {"target": b"x"}
    assert {entry.mode for entry in contents._found(image, ["a.py"], PLACE).values()} <= {SYMLINK}


def test_many_files_of_a_folder_are_read_at_once() -> None:
    paths = [f"vllm/models/{number}.py" for number in range(9)]
    image = MadeUpContainer({f"/opt/vllm-source/{path}": b"x" for path in paths})
    assert contents._found(cast("Container", image), paths, PLACE).keys() == set(paths)
    assert image.asked == ["/opt/vllm-source/vllm/models"]


def test_what_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_LIMIT", 1000)
    with pytest.raises(UnreadableError, match="larger than"):
        contents._members(container({"/opt/llm-d-dev/base.json": b"x" * 2000}), FACTS)


@pytest.mark.parametrize("head", [b"", b"ref: refs/heads/main", b"ref: ../../etc/passwd", b"main", b"0" * 39, b"\xff"])
def test_head_that_names_no_commit(head: bytes) -> None:
    with pytest.raises(UnreadableError, match="names no commit"):
        contents._head({"HEAD": head}, PLACE)


def test_head_may_be_a_branch() -> None:
    assert contents._head({"HEAD": b"ref: refs/heads/main\n", "refs/heads/main": b"1" * 40 + b"\n"}, PLACE) == "1" * 40


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("TOKEN=ghp_" + "a1" * 18, "a GitHub token"),
        ("hf_" + "Ab" * 17, "a Hugging Face token"),
        ("key AKIA" + "A1B2" * 4, "an AWS key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
        ("pip install -i https://me:secret@index.example/simple x", "an address with a password"),
    ],
)
def test_credentials_are_recognised(text: str, kind: str) -> None:
    assert secret_patterns.kinds(text) == [kind]


@pytest.mark.parametrize(
    "text",
    ["ENV HF_HOME=/x", "https://index.example/simple", "git@github.com:a/b", "https://${USER}:${PASS}@x/", "ghp_"],
)
def test_what_is_no_credential(text: str) -> None:
    assert not secret_patterns.kinds(text)


def test_a_text_that_could_take_hours_to_look_through() -> None:
    assert not secret_patterns.kinds("a." * 2**18)


def test_only_files_that_hold_credentials_are_named() -> None:
    image = container(
        {
            "/root/.netrc": b"machine x login me password secret",
            "/root/.config/pip/pip.conf": b"[global]\nindex-url = https://index.example/simple\n",
            "/home/vllm/.docker/config.json": b'{"auths": {"x": {\n"auth": "c2VjcmV0"}}}',
            "/etc/pip.conf": b"[global]\nindex-url = https://me:secret@index.example/simple\n",
        }
    )
    found = secret_patterns.files(image, ["/root", "/home/vllm"])
    assert found == ["/etc/pip.conf", "/root/.netrc", "/home/vllm/.docker/config.json"]


def test_a_pack_of_a_megabyte_that_holds_gigabytes_is_told_and_not_unpacked(work: Work, tmp_path: Path) -> None:
    with (work.path / "zeros").open("wb") as stream:
        stream.truncate(3 * 10**8)
    oid = work.git("hash-object", "-w", "zeros")
    work.git("pack-objects", str(tmp_path / "pack"), stdin=f"{oid}\n".encode())
    (pack,) = tmp_path.glob("pack-*.pack")
    assert pack.stat().st_size < 10**6
    git = {f"objects/pack/{pack.name}": pack.read_bytes()}
    folder = tmp_path / "git"
    with (
        pytest.raises(UnreadableError, match="an object needs more than 256 MiB of memory"),
        contents._repository(folder, git, "0" * 40, PLACE),
    ):
        pass
