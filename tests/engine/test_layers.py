"""Credentials in the layers of images, on a real engine: from the folders of its store, and from its archive."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from build.host import stored
from smoke.image import layer_scan
from smoke.image.contents import UnreadableError
from smoke.image.layer import Layer, UnreadableLayerError
from smoke.image.layer_scan import Memory
from tests.engine.conftest import LOCAL
from tests.standin.image import changed
from tests.standin.saved import GONE, as_docker, layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image

MARK = "hush-hush"
NETRC = f"machine index.example\n  login me\n  password {MARK}\n".encode()
KEY = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{MARK}\n".encode()
TOKEN = b"T=ghp_" + b"a1" * 18
LAYERS = (
    layer({"etc/hostname": bytes(2**21)}),
    layer({"root/.netrc": NETRC, "app/id_rsa": KEY, "srv/prod.env": TOKEN, "srv/old.env": TOKEN}),
    layer({"root/.netrc": GONE, "app/id_rsa": b"", "srv/old.env": b"password=${PASSWORD}\n"}),
)
TOLD = [
    "/app/id_rsa in layer 2 of 3 (history, step 2), which a later layer replaces",
    "/root/.netrc in layer 2 of 3 (history, step 2), which a later layer deletes",
    "/srv/old.env in layer 2 of 3 (history, step 2), which a later layer replaces",
    "/srv/prod.env in layer 2 of 3 (history, step 2)",
]


@pytest.fixture
def image(engine: Engine) -> Iterator[Image]:
    with loaded(engine, *LAYERS) as found:
        yield found


@contextlib.contextmanager
def loaded(engine: Engine, *archives: bytes) -> Iterator[Image]:
    """An image that nobody ever builds: it has no shell, and its layers are what we say."""
    made, *_ = engine.client.images.load(as_docker(archives, name=f"{LOCAL}:layers"))
    assert made.id
    try:
        yield engine.image(made.id)
    finally:
        engine.client.images.remove(made.id, force=True)


def told(engine: Engine, image: Image, folder: Path, *, base: Image | None = None) -> list[str]:
    said: list[str] = []
    found = layer_scan.credentials(engine, image, base=base, memory=Memory(folder), say=said.append)
    assert not said
    return sorted(found)


def test_every_credential_is_told_with_what_became_of_it(engine: Engine, image: Image, tmp_path: Path) -> None:
    found = told(engine, image, tmp_path)
    assert found == TOLD
    assert MARK not in str(found)
    assert MARK not in "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())


@pytest.mark.parametrize("folders", [[], ["/nowhere/at/all"] * 3])
def test_both_ways_find_the_same(
    engine: Engine, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: list[str]
) -> None:
    """Engines with another storage driver do not say where a layer's folder is, or let nobody mount it."""
    mounted = told(engine, image, tmp_path / "mounted")
    monkeypatch.setattr(layer_scan, "_folders", lambda *_: folders)
    assert told(engine, image, tmp_path / "saved") == mounted


def test_a_layer_that_was_read_is_not_asked_for_again(engine: Engine, image: Image, tmp_path: Path) -> None:
    before = told(engine, image, tmp_path)
    (remembered,) = tmp_path.iterdir()  # the others are small
    document = json.loads(remembered.read_text(encoding="utf-8").replace('"files": []', '"files": ["/remembered"]'))
    stored.write(remembered, {name: value for name, value in document.items() if name != "checksum"})
    assert set(told(engine, image, tmp_path)) - set(before) == {
        "/remembered in layer 1 of 3 (history, step 1), which a later layer deletes"
    }


def test_an_engine_elsewhere_sends_only_known_places(
    engine: Engine, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engine), "is_here", property(lambda _: False))
    assert told(engine, image, tmp_path) == [TOLD[1]]


def test_an_engine_elsewhere_does_not_send_its_archive(
    engine: Engine, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engine), "is_here", property(lambda _: False))
    monkeypatch.setattr(layer_scan, "_folders", lambda *_: [])
    said: list[str] = []
    assert not layer_scan.credentials(engine, image, base=None, memory=Memory(tmp_path), say=said.append)
    assert [line.partition(" for credentials: ")[0] for line in said] == [
        f"layer {number} of 3 was not looked into" for number in (1, 2, 3)
    ]


def test_an_archive_is_read_once(engine: Engine, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_scan, "_folders", lambda *_: [])
    before = told(engine, image, tmp_path)
    monkeypatch.setattr(layer_scan, "_saved", None)
    assert told(engine, image, tmp_path) == before


def test_a_base_that_passed_is_not_looked_into_again(engine: Engine, image: Image, tmp_path: Path) -> None:
    with changed(engine, image.id, []) as overlay:
        assert told(engine, engine.image(overlay), tmp_path, base=image) == []
        assert len(told(engine, engine.image(overlay), tmp_path)) == len(TOLD)


def test_the_archive_of_a_base_that_passed_is_not_read(
    engine: Engine, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_scan, "_folders", lambda *_: [])
    with changed(engine, image.id, []) as overlay:
        assert told(engine, engine.image(overlay), tmp_path, base=image) == []
        assert len(told(engine, engine.image(overlay), tmp_path)) == len(TOLD)


def test_a_second_name_of_a_file_is_found_in_the_image_as_a_whole(engine: Engine, tmp_path: Path) -> None:
    stream = io.BytesIO(layer({"data": NETRC}))
    with tarfile.open(fileobj=stream, mode="a") as archive:
        link = tarfile.TarInfo("root/.netrc")
        link.type, link.linkname = tarfile.LNKTYPE, "data"
        archive.addfile(link)
    with loaded(engine, stream.getvalue()) as found:
        assert told(engine, found, tmp_path) == ["/root/.netrc"]


def test_a_damaged_layer_fails_the_image(
    engine: Engine, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, damaged = Layer(files=(), content_bytes=0), UnreadableLayerError("it breaks off")
    read = dict(zip(image.diff_ids, (good, damaged, good), strict=True))
    monkeypatch.setattr(layer_scan, "_mounted", lambda *_: read)
    with pytest.raises(UnreadableError, match="layer 2 of 3 cannot be read: it breaks off"):
        told(engine, image, tmp_path)
