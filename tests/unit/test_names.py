"""The names of images: written and read back, and never shared by two flavors."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from build.engine import names
from build.engine.names import Kind, Stem, Tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.fakes import FakeEngine

COMMIT = "c" * 40
DIRTY = f"local-{COMMIT}-dirty-{'d' * 12}"


def stems() -> Iterator[Stem]:
    """Every form, with ids that could be taken for words."""
    for commit in ("0" * 40, COMMIT, "deadbeef" * 5, "0123456789abcdef" * 2 + "01234567"):
        yield Stem(kind=Kind.NIGHTLY, commit=commit, tree=None)
        yield Stem.of_commit(commit)
        yield Stem.local(commit)
        yield Stem.local(commit, tree="abcdef" * 7)
    for kind in (Kind.NIGHTLY, Kind.CANDIDATE):
        yield Stem(kind=kind, commit=None, tree=None)


TAGS = [stem.of(flavor) for stem, flavor in itertools.product(stems(), names.FLAVORS)]


@pytest.mark.parametrize("tag", TAGS, ids=str)
def test_what_is_written_is_read_back(tag: Tag) -> None:
    assert Tag.parse(str(tag)) == tag
    assert Tag.parse(tag.in_registry) == tag


def test_no_two_images_share_a_name() -> None:
    for written in (str, lambda tag: tag.in_registry):
        assert len(set(map(written, TAGS))) == len(TAGS)


def test_what_is_read_is_written_the_same() -> None:
    """Also of what is nearly a name: whatever is recognised is exactly a name."""
    chance = random.Random(1)  # noqa: S311 - for texts
    pieces = ["nightly", "candidate", "local", "commit", "dirty", "cpu", "cuda", "-", "", COMMIT, "d" * 12, "d" * 13]
    for _ in range(20_000):
        text = "-".join(chance.choices(pieces, k=chance.randint(1, 5)))
        tag = Tag.parse(text)
        assert tag is None or text in (str(tag), tag.in_registry)


@pytest.mark.parametrize(
    "text",
    [
        *("mine", "latest", "", "nightly-", "nightly-old", "nightly-cuda", "cpu", "-cpu", "nightly-cpu-cpu"),
        *(COMMIT[:12], f"nightly-{COMMIT[:12]}", f"local-{COMMIT}-cpu-dirty-{'d' * 12}", f"commit-nightly-{COMMIT}"),
        *(f"local-{COMMIT}-rocm", f"nightly-{COMMIT}\n", f"candidate-{COMMIT}", f"local-{COMMIT}-dirty-{'d' * 11}"),
    ],
)
def test_what_the_tool_does_not_give_is_not_recognised(text: str) -> None:
    assert Tag.parse(text) is None


def test_the_plain_names_are_the_cuda_images() -> None:
    shown = [str(stem.of(names.CUDA)) for stem in (Stem.local(COMMIT, tree="d" * 40), Stem.of_commit(COMMIT))]
    assert shown == [DIRTY, COMMIT]
    assert [str(names.nightly(flavor)) for flavor in names.FLAVORS] == ["nightly", "nightly-cpu"]
    assert str(names.nightly("cpu", COMMIT)) == f"nightly-{COMMIT}-cpu"
    assert str(names.candidate("cpu")) == "candidate-cpu"
    assert Stem.of_commit(COMMIT).of("cpu").in_registry == f"commit-{COMMIT}-cpu"
    assert [names.base_commit_file(flavor).name for flavor in names.FLAVORS] == [
        "base_commit.txt",
        "base_commit-cpu.txt",
    ]


# --- Of images -----------------------------------------------------------------------------------------------------

LOCAL = [
    (["nightly", f"nightly-{COMMIT}"], [f"nightly-{COMMIT}", "nightly"]),
    ([f"local-{COMMIT}"], [f"local-{COMMIT}"]),
    ([DIRTY], [DIRTY]),
    ([COMMIT], [f"commit-{COMMIT}"]),
    ([f"local-{COMMIT}", COMMIT, "nightly"], [f"commit-{COMMIT}", f"local-{COMMIT}", "nightly"]),
    (["mine", "latest", "nightly-old", COMMIT[:12], "candidate"], []),
]


@pytest.mark.parametrize(("local", "remote"), LOCAL)
@pytest.mark.parametrize("repository", ["llm-d-dev", "me/llm-d-dev", "localhost:5000/x"])
def test_the_registrys_tags_follow_the_local_ones_with_the_moving_one_last(
    engine: FakeEngine, repository: str, local: list[str], remote: list[str]
) -> None:
    image = engine.hold(*(f"{repository}:{tag}" for tag in local), flavor="cuda")
    assert names.for_registry(image, repository) == remote


@pytest.mark.parametrize(("local", "remote"), LOCAL)
def test_a_cpu_image_gets_no_name_of_a_cuda_image_whatever_it_is_called_here(
    engine: FakeEngine, local: list[str], remote: list[str]
) -> None:
    expected = [f"{tag}-cpu" for tag in remote]
    for suffix in ("", "-cpu"):
        marked = engine.hold(*(f"llm-d-dev:{tag}{suffix}" for tag in local), flavor="cpu")
        assert names.for_registry(marked, "llm-d-dev") == expected


DIRTY_WORK = f"{COMMIT}-dirty-{'d' * 12}"
OTHER = "e" * 40


@pytest.mark.parametrize(
    ("tag", "marks", "true"),
    [
        ("nightly", {"kind": "base"}, True),
        (f"nightly-{COMMIT}-cpu", {"kind": "base"}, True),
        (f"nightly-{OTHER}", {"kind": "base"}, False),
        (f"local-{COMMIT}", {"kind": "base"}, False),
        (COMMIT, {"kind": "overlay"}, True),
        (f"local-{COMMIT}-cpu", {"kind": "overlay"}, True),
        (f"local-{OTHER}", {"kind": "overlay"}, False),
        (f"nightly-{COMMIT}", {"kind": "overlay"}, False),
        ("nightly", {"kind": "overlay"}, False),
        ("nightly", {"kind": "other"}, False),
        (f"local-{DIRTY_WORK}", {"kind": "overlay", "work": DIRTY_WORK}, True),
        (f"local-{DIRTY_WORK}", {"kind": "overlay"}, False),
        (f"local-{COMMIT}-dirty-{'e' * 12}", {"kind": "overlay", "work": DIRTY_WORK}, False),
        (f"local-{COMMIT}", {"kind": "overlay", "work": DIRTY_WORK}, False),
    ],
)
def test_a_tag_says_kind_and_commit_of_its_image(
    engine: FakeEngine, tag: str, marks: dict[str, str], *, true: bool
) -> None:
    image = engine.hold(f"llm-d-dev:{tag}", commit=COMMIT, **marks)
    found = Tag.parse(tag)
    assert found
    assert names.describes(found, image) == true


def test_the_name_of_an_upload_is_recognised_and_says_nothing_else() -> None:
    upload = names.Upload(image="0" * 12, place="1" * 8, push="2" * 8)
    assert str(upload) == f"candidate-{'0' * 12}-{'1' * 8}{'2' * 8}"
    assert names.Upload.parse(str(upload)) == upload
    assert Tag.parse(str(upload)) is None
    for text in ("candidate", "nightly", f"candidate-{COMMIT}", f"{upload}0"):
        assert names.Upload.parse(text) is None


def test_names_in_other_repositories_do_not_count(engine: FakeEngine) -> None:
    elsewhere = [f"quay.example/x:nightly-{COMMIT}", "other:nightly", f"llm-d-dev-temporary:{COMMIT}"]
    image = engine.hold(*elsewhere, flavor="cuda")
    assert names.for_registry(image, "llm-d-dev") == []
    assert not names.promoted(image, "llm-d-dev")
    assert not names.is_last_good(image, "llm-d-dev")


@pytest.mark.parametrize(
    ("tag", "promoted", "last"),
    [
        ("nightly", True, True),
        ("nightly-cpu", True, True),
        (f"nightly-{COMMIT}-cpu", True, False),
        ("candidate-cpu", False, False),
        (f"{COMMIT}-cpu", False, False),
        ("nightly-mine", False, False),
    ],
)
def test_names_tell_which_bases_passed(engine: FakeEngine, tag: str, *, promoted: bool, last: bool) -> None:
    image = engine.hold(f"llm-d-dev:{tag}", kind="base")
    assert names.promoted(image, "llm-d-dev") == promoted
    assert names.is_last_good(image, "llm-d-dev") == last
