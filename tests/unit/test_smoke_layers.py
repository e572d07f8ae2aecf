"""The layers of an image, which may hold anything, read from archives made by hand."""

from __future__ import annotations

import gzip
import io
import tarfile
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, cast

import pytest

from smoke.image import layer as smoke_layer
from smoke.image import layer_scan
from smoke.image.contents import UnreadableError
from smoke.image.layer import Layer, NotReadError, UnreadableLayerError
from smoke.image.layer_scan import Memory
from tests.standin.saved import GONE, as_docker, as_oci, layer, tar

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image

NETRC = b"machine index.example login me password secret\n"
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
TOKEN = b"hf_" + b"Ab" * 17
# A key that a layer adds, the next one empties, and a token that nothing undoes.
LAYERS = (
    layer({"etc/hostname": b"x"}),
    layer({"root/.netrc": NETRC, "app/id_rsa": KEY}),
    layer({"root/.netrc": GONE, "app/id_rsa": b"", "srv/.cache/huggingface/token": TOKEN}),
)
FOUND = [(), ("/root/.netrc", "/app/id_rsa"), ("/srv/.cache/huggingface/token",)]


class Trickle(io.RawIOBase):
    """A stream that cannot go back and gives less than it is asked for."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int = -1) -> bytes:
        size = min(size, 700) if size >= 0 else 700
        taken, self._content = self._content[:size], self._content[size:]
        return taken


def stream(content: bytes) -> IO[bytes]:
    return cast("IO[bytes]", Trickle(content))


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "layers")


def found(content: bytes, memory: Memory) -> list[tuple[str, ...] | str]:
    read = layer_scan.from_archive(stream(content), memory)
    return [one.files if isinstance(one, Layer) else str(one) for one in read]


def read(*members: tuple[tarfile.TarInfo, bytes]) -> Layer:
    parts = [raw for info, content in members for raw in (_header(info), content, bytes(-len(content) % 512))]
    return Layer.read(stream(b"".join([*parts, bytes(1024)])))


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(format=tarfile.GNU_FORMAT, errors="surrogateescape")


def member(name: str, content: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size = len(content)
    for attribute, value in changes.items():
        setattr(made, attribute, value)
    return made, content


def test_credentials_are_found_in_the_layer_that_adds_them(memory: Memory) -> None:
    assert found(as_docker(LAYERS), memory) == FOUND
    assert found(as_oci(LAYERS), memory) == FOUND


def test_layers_that_are_compressed(memory: Memory) -> None:
    assert found(as_oci(LAYERS, blobs=[gzip.compress(one) for one in LAYERS]), memory) == FOUND


def test_a_layer_that_python_cannot_unpack_is_told_from_a_damaged_one(memory: Memory) -> None:
    packed = [b"\x28\xb5\x2f\xfd" + bytes(600), gzip.compress(LAYERS[1])[:-20], gzip.compress(LAYERS[2])]
    zstd, damaged, good = layer_scan.from_archive(stream(as_oci(LAYERS, blobs=packed)), memory)
    assert isinstance(zstd, NotReadError)
    assert "zstd" in str(zstd)
    assert isinstance(damaged, UnreadableLayerError)
    assert isinstance(good, Layer)


def test_a_layer_that_is_a_link_to_another(memory: Memory) -> None:
    names = ["1/layer.tar", "2/layer.tar"]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as made:
        link = tarfile.TarInfo(names[0])
        link.type, link.linkname = tarfile.SYMTYPE, "../2/layer.tar"
        made.addfile(link)
        for name, content in (
            (names[1], LAYERS[1]),
            ("manifest.json", b'[{"Layers": ["1/layer.tar", "2/layer.tar"]}]'),
        ):
            made.addfile(*_file(name, content))
    assert found(archive.getvalue(), memory) == [FOUND[1], FOUND[1]]


def _file(name: str, content: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info, _ = member(name, content)
    return info, io.BytesIO(content)


@pytest.mark.parametrize("kept", [0, 100, 700, 5000, 9000])
def test_an_archive_that_breaks_off(memory: Memory, kept: int) -> None:
    with pytest.raises(UnreadableError, match="cannot be read"):
        found(as_docker(LAYERS)[:kept], memory)


@pytest.mark.parametrize(
    "manifest", [b"", b"{}", b"[]", b"[3]", b'[{"Layers": null}]', b'[{"Layers": ["x"]}]', b"\xff"]
)
def test_a_manifest_that_names_no_layers(memory: Memory, manifest: bytes) -> None:
    with pytest.raises(UnreadableError, match="cannot be read"):
        found(tar({"manifest.json": manifest}), memory)


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 2000, LAYERS[1][:600], LAYERS[1][:1100]])
def test_a_damaged_layer(content: bytes) -> None:
    with pytest.raises(UnreadableLayerError):
        Layer.read(stream(content))


def test_damage_in_the_middle_is_no_end() -> None:
    good, rest = LAYERS[1][:1024], LAYERS[1][1024:]
    assert rest.startswith(b"app/id_rsa")
    with pytest.raises(UnreadableLayerError):
        Layer.read(stream(good + b"?" * 512 + rest))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_claims_to_be_huge_is_not_read(kind: bytes) -> None:
    huge, _ = member("x", type=kind, size=8 * 2**30)
    asked = Asked(huge.tobuf(format=tarfile.GNU_FORMAT))
    with pytest.raises(UnreadableLayerError, match="extended header"):
        Layer.read(cast("IO[bytes]", asked))
    assert asked.given < 4 * 2**20


class Asked:
    """A beginning, and then zeros for as long as they are asked for."""

    def __init__(self, beginning: bytes) -> None:
        self._beginning = beginning
        self.given = 0

    def read(self, size: int) -> bytes:
        given, self._beginning = self._beginning[:size], self._beginning[size:]
        self.given += size
        return given or bytes(size)


@pytest.mark.parametrize("name", ["root/.netrc", "data"])
@pytest.mark.parametrize("size", [2**30, 2**50, 2**85])
def test_a_file_that_claims_to_be_huge_is_not_there(name: str, size: int) -> None:
    with pytest.raises(UnreadableLayerError):
        read(member(name, NETRC, size=size))


def test_an_extended_header_that_claims_a_file_to_be_huge() -> None:
    info, _ = member("data", pax_headers={"size": str(2**90)})
    with pytest.raises(UnreadableLayerError):
        Layer.read(stream(info.tobuf(format=tarfile.PAX_FORMAT) + bytes(1024)))


def test_of_a_large_file_only_the_beginning_counts() -> None:
    inside, behind = NETRC + bytes(2**20), b"\n" * 2**20 + NETRC
    assert read(member("a/.netrc", inside), member("b/.netrc", behind)).files == ("/a/.netrc",)


@pytest.mark.parametrize("size", [-512, -(2**40)])
def test_a_size_below_nothing(size: int) -> None:
    with pytest.raises(UnreadableLayerError):
        read(member("root/.netrc", size=size))


def test_headers_that_call_for_headers_without_end() -> None:
    names = [member("././@LongLink", b"x\0", type=tarfile.GNUTYPE_LONGNAME) for _ in range(5000)]
    with pytest.raises(UnreadableLayerError):
        read(*names)


def test_more_files_than_any_layer_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke_layer, "_MEMBERS", 10)
    with pytest.raises(UnreadableLayerError, match="more than 10 files"):
        read(*(member(f"{number}") for number in range(11)))


def test_more_credentials_than_anybody_reads() -> None:
    assert len(read(*(member(f"{number}/.netrc", NETRC) for number in range(300))).files) == 100


def test_links_are_not_followed() -> None:
    assert not read(
        member("root/.netrc", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("root/.pypirc", type=tarfile.LNKTYPE, linkname="nothing/there"),
        member("root/.ssh/id_rsa", type=tarfile.CHRTYPE),
        member("root/.aws/credentials", type=tarfile.DIRTYPE),
    ).files


def test_names_that_are_no_text() -> None:
    (path,) = read(member("\udcff\n\x1b[2J/.netrc", NETRC)).files
    assert layer_scan._shown(path) == "/\\udcff\\n\\x1b[2J/.netrc"


@pytest.mark.parametrize("name", ["./root/.netrc", "/root/.netrc", "root/.netrc"])
def test_names_however_they_are_written(name: str) -> None:
    assert read(member(name, NETRC)).files == ("/root/.netrc",)


def test_a_folder_that_stands_for_the_root() -> None:
    assert Layer.read(stream(tar({"3/etc/pip.conf": b"password: x"})), below="3").files == ("/etc/pip.conf",)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("root/.netrc", NETRC),
        ("srv/somebody/.git-credentials", b"https://me:secret@git.example\n"),
        ("tmp/id_ed25519", KEY),
        ("home/a/.netrc", b"machine index.example\n  login me\n  password secret\n"),
        ("root/.docker/config.json", b'{"auths":{"registry.example":{"auth":"c2VjcmV0"}}}'),
        ("home/a/.aws/credentials", b"[default]\naws_secret_access_key = x\n"),
        ("workspace/vllm/.git/config", b"\turl = https://me:secret@git.example/vllm\n"),
        ("app/.env", b"HF_TOKEN=" + TOKEN),
        ("app/prod.env", b"GH=ghp_" + b"a1" * 18),
        ("run/secrets/environment", b"export PIP_INDEX_URL=https://me:secret@index.example\n"),
    ],
)
def test_where_credentials_are_found(path: str, content: bytes) -> None:
    assert read(member(path, content)).files == (f"/{path}",)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("root/.netrc", b""),
        ("root/.netrc", b"\n" * 2**16),
        ("root/.netrc", b"machine " + b"x" * 2**16),
        ("root/.netrc", b"a." * 2**15),
        ("root/.netrc", b"machine x\n" * 2**13),
        ("root/.netrc", b"-----BEGIN " * 2**12),
        ("root/.docker/config.json", b'{"auths":{"registry.example":{"auth":""}}}'),
        ("app/.env", b"password=${PASSWORD}\n"),
        ("opt/vllm/docs/netrc.txt", NETRC),
        ("opt/vllm-source/.git/config", b"\turl = https://git.example/vllm\n"),
        ("etc/ssl/private/key.pem", KEY),
    ],
)
def test_what_is_no_credential_file(path: str, content: bytes) -> None:
    assert not read(member(path, content)).files


# --- What is remembered ----------------------------------------------------------------------------------

DIGEST = f"sha256:{'a' * 64}"
LARGE = Layer(files=("/root/.netrc",), content_bytes=2**30)


def test_a_layer_is_remembered(memory: Memory) -> None:
    memory.put(DIGEST, LARGE)
    assert memory.get(DIGEST) == LARGE
    assert memory.get(f"sha256:{'b' * 64}") is None


def test_other_rules_read_again(memory: Memory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory.put(DIGEST, LARGE)
    monkeypatch.setattr("inspect.getsource", lambda _: "another")
    assert Memory(tmp_path / "layers").get(DIGEST) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"rules": [], "layer": {}}', "\ud800"])
def test_a_memory_that_makes_no_sense_is_none(memory: Memory, tmp_path: Path, text: str) -> None:
    memory.put(DIGEST, LARGE)
    (path,) = (tmp_path / "layers").iterdir()
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert memory.get(DIGEST) is None


def test_a_remembered_blob_is_not_read_again(memory: Memory) -> None:
    large = layer({"root/.netrc": NETRC, "data": bytes(2**20)})
    packed = gzip.compress(large)  # once: it holds the time
    archive = as_oci([large], blobs=[packed])
    assert found(archive, memory) == [("/root/.netrc",)]
    start = archive.index(packed) + 100
    assert found(archive[:start] + bytes(100) + archive[start + 100 :], memory) == [("/root/.netrc",)]


def test_chunks_are_read_in_pieces() -> None:
    chunks = iter([b"ab", b"", b"cdef", b"left"])
    with layer_scan._stream(chunks) as pieces:
        assert [pieces.read(3) for _ in range(3)] == [b"ab", b"cde", b"f"]
    assert next(chunks, None) is None
    assert not pieces.read(3)


def test_layers_of_an_archive_are_remembered_by_what_the_engine_calls_them(memory: Memory) -> None:
    """A compressed layer has two digests: the archive's own names are those of the compressed ones."""
    packed = as_oci(LAYERS, blobs=[gzip.compress(one) for one in LAYERS])
    client = SimpleNamespace(api=SimpleNamespace(get_image=lambda *_, **__: [packed]))
    engine = SimpleNamespace(is_here=True, client=client)
    image = SimpleNamespace(id="x", diff_ids=[f"sha256:{number:064}" for number in range(3)])
    layer_scan._saved(cast("Engine", engine), cast("Image", image), memory)
    known = [memory.get(digest) for digest in image.diff_ids]
    assert [one.files for one in known if one] == FOUND
