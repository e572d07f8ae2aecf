"""What a sealed image says of itself."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from build.base import store
from build.base.store import Facts
from build.engine import labels
from build.errors import IncompatibleError, SourceError
from build.layer.archive import Tarball
from build.source.listing import REGULAR
from tests.unit import bases
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.image import Image

SEALED = bases.base({"setup.py": "x", "vllm/\udcff.py": "y", "tests/t.py": ""}, absent=("tests/",))


COMPILED = {"compiled.paths": b"vllm/__pycache__/a.cpython-312.pyc\0"}


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    files = store.files(SEALED.facts, SEALED.held, SEALED.tree)
    engine.docker.archives[str(store.FACTS)] = archive({**files, **COMPILED})
    return engine


@pytest.fixture
def image(engine: FakeEngine) -> Image:
    return engine.hold("llm-d-dev:nightly", "llm-d-dev:nightly-1", kind="base")


def archive(files: dict[str, bytes]) -> bytes:
    """What the engine sends for the folder."""
    stream = io.BytesIO()
    with Tarball(stream, owner=bases.FACTS.owner, timestamp=0, existing=frozenset()) as tarball:
        for name, content in files.items():
            tarball.add_bytes(store.FACTS.relative_to("/opt") / name, content, mode=REGULAR)
    return stream.getvalue()


def test_facts_are_read_as_they_were_written() -> None:
    document = json.loads(json.dumps(bases.FACTS.document()))
    assert Facts.parse(document) == bases.FACTS


@pytest.mark.parametrize(
    "change", [{"schema": 0}, {"schema": None}, {"owner": {}}, {"owner": None}, {"unmet": None}, {"new": 1}]
)
def test_facts_of_another_version_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Facts.parse({**bases.FACTS.document(), **change})


def test_facts_that_were_written_when_bases_had_a_split_index_are_read() -> None:
    document = {**bases.FACTS.document(), "schema": 6, "shared_index": "sharedindex.1"}
    assert Facts.parse(document) == bases.FACTS


def test_what_an_image_holds_is_read_from_it_once(engine: FakeEngine, image: Image, tmp_path: Path) -> None:
    first = store.load(engine, image, tmp_path)
    assert (first.facts, first.held, first.tree) == (SEALED.facts, SEALED.held, SEALED.tree)
    assert first.compiled == {"vllm/__pycache__/a.cpython-312.pyc"}
    assert (first.name, first.user) == ("llm-d-dev:nightly", "root")
    assert [one.removed for one in engine.docker.running] == [True]
    assert store.load(engine, image, tmp_path) == first
    assert len(engine.docker.running) == 1


def test_it_is_called_what_it_was_asked_for_by(engine: FakeEngine, image: Image, tmp_path: Path) -> None:
    for _ in ("from the image", "from the cache"):
        assert store.load(engine, image, tmp_path, name="llm-d-dev:nightly-1").name == "llm-d-dev:nightly-1"


def test_an_image_that_is_no_base_is_named(engine: FakeEngine, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="debian:12 is not a base"):
        store.load(engine, engine.hold("debian:12"), tmp_path)
    assert engine.docker.running == []


def test_a_label_alone_makes_no_base(engine: FakeEngine, image: Image, tmp_path: Path) -> None:
    engine.docker.archives[str(store.FACTS)] = archive({"base.json": b"{}"})
    with pytest.raises(SourceError, match="llm-d-dev:nightly is not a base"):
        store.load(engine, image, tmp_path)
    assert [one.removed for one in engine.docker.running] == [True]


@pytest.mark.parametrize(
    "change", [{"layers": ("edited",)}, {"env": ("VLLM_TARGET_DEVICE=tpu",)}, {"commit": "e" * 40}]
)
def test_what_was_made_from_a_base_is_not_one(
    engine: FakeEngine, image: Image, tmp_path: Path, change: dict[str, Any]
) -> None:
    assert store.load(engine, image, tmp_path).name
    made = engine.commit(image, "mine:debug", **change)
    with pytest.raises(SourceError, match="mine:debug was made from an image of this tool"):
        store.load(engine, made, tmp_path)


def test_a_base_from_before_bases_told_their_content_is_not_one(engine: FakeEngine, tmp_path: Path) -> None:
    old = engine.hold("llm-d-dev:nightly", kind="base")
    del engine.docker.known[old.id]["Config"]["Labels"][labels.CONTENT]
    with pytest.raises(SourceError, match="was made by another version of this tool"):
        store.load(engine, engine.image(old.id), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        *({"version": "dev"}, {"python": None}, {"metadata": "opt/x"}, {"folders": {"opt": [1]}}),
        *({"distributions": {"numpy": 2}}, {"made_by_build": 7}, {"owner": {"uid": "x"}}),
    ],
)
def test_a_description_that_is_none_is_refused(
    engine: FakeEngine, image: Image, tmp_path: Path, change: dict[str, Any]
) -> None:
    files = store.files(SEALED.facts, SEALED.held, SEALED.tree) | COMPILED
    files["base.json"] = json.dumps({**SEALED.facts.document(), **change}).encode()
    engine.docker.archives[str(store.FACTS)] = archive(files)
    with pytest.raises(SourceError, match="sealed by another version"):
        store.load(engine, image, tmp_path)


def test_a_base_of_another_version_of_this_tool_is_named(engine: FakeEngine, image: Image, tmp_path: Path) -> None:
    files = store.files(SEALED.facts, SEALED.held, SEALED.tree)
    files |= COMPILED
    files["base.json"] = json.dumps({**SEALED.facts.document(), "schema": 0}).encode()
    engine.docker.archives[str(store.FACTS)] = archive(files)
    with pytest.raises(SourceError, match="sealed by another version") as caught:
        store.load(engine, image, tmp_path)
    assert "`python -m build nightly` makes a new base" in caught.value.hint


@pytest.mark.parametrize(
    ("made", "has"),
    [((), False), (("vllm/_C.abi3.so",), False), (("vllm/vllm-rs",), True), (("vllm/_rust_a.abi3.so",), True)],
)
def test_rust_is_in_it_if_its_binaries_are(made: tuple[str, ...], *, has: bool) -> None:
    assert bases.base({}, made_by_build=made).facts.has_rust is has


def test_only_bases_that_were_promoted_are_candidates_newest_first(engine: FakeEngine) -> None:
    first, second, third = (f"llm-d-dev:nightly-{digit * 40}" for digit in "123")
    engine.hold(first, kind="base", created="2026-01-01")
    engine.hold(f"{second}-cpu", kind="base", created="2026-01-02")
    engine.hold("llm-d-dev:mine", kind="base", created="2026-01-03")
    engine.hold("other:nightly", kind="base", created="2026-01-04")
    engine.hold(third, kind="overlay", created="2026-01-05")
    found = store.candidates(engine, "llm-d-dev")
    assert [image.tags for image in found] == [(f"{second}-cpu",), (first,)]


def test_dates_are_compared_as_dates(engine: FakeEngine) -> None:
    # As BuildKit and the SDK write them.
    older, newer, oldest = (f"llm-d-dev:nightly-{digit * 40}" for digit in "123")
    engine.hold(older, kind="base", created="2026-01-01T00:00:20Z")
    engine.hold(newer, kind="base", created="2026-01-01T00:00:20.600000001Z")
    engine.hold(oldest, kind="base", created="")
    found = store.candidates(engine, "llm-d-dev")
    assert [image.name for image in found] == [newer, older, oldest]


def test_an_image_is_called_what_it_was_asked_for_by(engine: FakeEngine) -> None:
    image = engine.hold("llm-d-dev:nightly", "aaa:zz", kind="base")
    assert engine.image("llm-d-dev:nightly").name == "llm-d-dev:nightly"
    assert engine.image(image.id).name == "aaa:zz"


def test_without_a_base_one_is_told_how_to_get_one() -> None:
    with pytest.raises(IncompatibleError, match="no base image") as caught:
        store.require_any([])
    assert "nightly" in caught.value.hint
