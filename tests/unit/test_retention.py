"""What may go and what must stay: one row each."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field, replace

import pytest

from build.engine import ages, content, labels
from build.engine.image import Image
from build.host import timestamps
from build.nightly import retention
from build.nightly.retention import Rules

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
OURS = "llm-d-dev"
REGISTRY = "quay.example/team/llm-d-dev"


def image(
    name: str,
    kind: str = "base",
    *,
    tags: tuple[str, ...] = (),
    days: float = 0,
    base: str = "",
    expires: str = "3d",
    repository: str = OURS,
    flavor: str = "cpu",
    genuine: bool = True,
) -> Image:
    """An image that is so many days old; ``tags`` without a repository are in ours."""
    marks = {
        labels.KIND: kind,
        labels.FLAVOR: flavor,
        labels.REPOSITORY: repository,
        labels.OCI_CREATED: (NOW - dt.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        labels.QUAY_EXPIRES: expires,
        labels.BASE: base,
    }
    layers = (f"layer of {name}",)
    if genuine and kind in ("base", "overlay", "unsealed"):
        marks[labels.CONTENT] = content.content({}, marks, layers)
    return Image(
        id=name,
        tags=tuple(_full(tag if ":" in tag else f"{OURS}:{tag}") for tag in tags),
        digests=(f"{REGISTRY}@sha256:1",),
        labels=marks,
        diff_ids=layers,
        size=100,
        created="2020-01-01T00:00:00Z",
        config={},
    )


def committed(image: Image, name: str, *tags: str) -> Image:
    """What a user makes of a container of an image with `docker commit`."""
    return replace(image, id=name, tags=tags, diff_ids=(*image.diff_ids, f"layer of {name}"))


def _full(name: str) -> str:
    """A name whose tag has the one digit of a commit, with all of them."""
    return re.sub(r"(?<=-)([0-9])(?=-|$)", lambda found: found[1] * 40, name)


def goes(
    images: list[Image], *, keep: int = 2, failed: set[str] | None = None, used: set[str] | None = None
) -> set[str]:
    """IDs of what would be removed."""
    rules = Rules(
        repository=OURS,
        keep_bases=keep,
        now=NOW,
        failed=lambda one: one.id in (failed or set()),
        used=used or set(),
    )
    return {one.image.id for one in retention.decide(images, rules) if not one.keep}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Images, and which of them go."""

    images: list[Image]
    goes: set[str]
    failed: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)


NIGHTLIES = [image(f"b{n}", tags=(f"nightly-{n}",), days=n) for n in range(1, 6)]
NEWEST = image("b0", tags=("nightly-0", "nightly"))

TABLE = {
    "the last N good bases stay": Row(images=[NEWEST, *NIGHTLIES], goes={"b2", "b3", "b4", "b5"}),
    "a base that is found broken does not count": Row(
        images=[NEWEST, *NIGHTLIES], failed={"b1"}, goes={"b1", "b3", "b4", "b5"}
    ),
    "what nightly names stays, however old and broken": Row(
        images=[*NIGHTLIES[:3], image("old", tags=("nightly",), days=99)], failed={"old"}, goes={"b3"}
    ),
    "each flavor has its own": Row(
        images=[*NIGHTLIES, image("gpu", tags=("nightly-9",), days=99, flavor="cuda")], goes={"b3", "b4", "b5"}
    ),
    "what each flavor's moving name names stays": Row(
        images=[
            *NIGHTLIES[:3],
            image("old-cpu", tags=("nightly-cpu", "nightly-8-cpu"), days=99),
            image("old-cuda", tags=("nightly", "nightly-9"), days=99, flavor="cuda"),
        ],
        goes={"b3"},
    ),
    "names of cpu images are the tool's own": Row(
        images=[image("o", "overlay", tags=("local-1-cpu", f"{REGISTRY}:commit-{'2' * 40}-cpu"), days=4)], goes={"o"}
    ),
    "a cpu base that waits for its test stays": Row(
        images=[image("c", tags=("candidate-cpu",)), *NIGHTLIES[:1]], goes=set()
    ),
    "a base that a kept overlay stands on stays": Row(
        images=[NEWEST, *NIGHTLIES, image("o", "overlay", tags=("local-1",), base="b5")], goes={"b2", "b3", "b4"}
    ),
    "also without a name": Row(
        images=[NEWEST, image("b9"), image("o", "overlay", tags=("local-1",), base="b9")], goes=set()
    ),
    "also if the overlay is somebody else's": Row(
        images=[NEWEST, *NIGHTLIES, image("o", "overlay", tags=("x:y",), base="b5", repository="x", days=9)],
        goes={"b2", "b3", "b4"},
    ),
    "not if the overlay goes": Row(
        images=[NEWEST, *NIGHTLIES, image("o", "overlay", tags=("local-1",), base="b5", days=4)],
        goes={"o", "b2", "b3", "b4", "b5"},
    ),
    "an overlay goes when it expires": Row(
        images=[
            image("fresh", "overlay", tags=("local-1",), days=2.9),
            image("stale", "overlay", tags=("local-2",), days=3.1),
            image("week", "overlay", tags=("local-3",), days=3.1, expires="1w"),
            image("never", "overlay", tags=("local-4",), days=999, expires=""),
        ],
        goes={"stale"},
    ),
    "its copy in a registry does not hold it": Row(
        images=[image("o", "overlay", tags=("local-1", f"{REGISTRY}:local-1"), days=4)], goes={"o"}
    ),
    "a name that somebody gave it does": Row(
        images=[image("o", "overlay", tags=("local-1", "precious"), days=4)], goes=set()
    ),
    "another name does": Row(images=[image("o", "overlay", tags=("local-1", "mine:kept"), days=4)], goes=set()),
    "what lost its names goes": Row(
        images=[NEWEST, image("o", "overlay"), image("u", "unsealed"), image("b", days=3)], goes={"o", "u", "b"}
    ),
    "what a user made from one stays, without a name too": Row(
        images=[
            NEWEST,
            committed(image("o", "overlay", tags=("local-1",)), "mine", "mine:1"),
            committed(image("o", "overlay", tags=("local-1",), days=9), "unnamed"),
            committed(image("b", days=9), "also-mine"),
            committed(image("u", "unsealed"), "of-an-unsealed"),
        ],
        goes=set(),
    ),
    "and keeps no base and takes no base's place": Row(
        images=[
            NEWEST,
            *NIGHTLIES,
            committed(NEWEST, "later", f"{OURS}:nightly-{'7' * 40}"),
            committed(image("o", "overlay", tags=("local-1",), base="b5"), "mine", "mine:1"),
        ],
        goes={"b2", "b3", "b4", "b5"},
    ),
    "of what another version made, what lost its names stays": Row(
        images=[
            NEWEST,
            image("o", "overlay", genuine=False),
            image("named", "overlay", tags=("local-1",), days=4, genuine=False),
        ],
        goes={"named"},
    ),
    "what a container uses stays": Row(
        images=[NEWEST, image("o", "overlay", days=99), image("b", days=3)], used={"o", "b"}, goes=set()
    ),
    "a base that waits for its test stays": Row(images=[image("c", tags=("candidate",)), *NIGHTLIES[:1]], goes=set()),
    "also if it has no name yet": Row(images=[image("c"), *NIGHTLIES[:1]], goes=set()),
    "one that was overtaken goes": Row(images=[NEWEST, image("c", tags=("candidate",), days=1)], goes={"c"}),
    "others' images are nobody's business": Row(
        images=[
            NEWEST,
            image("t", "overlay", tags=("llm-d-dev-test-1:local-1",), days=99, repository="llm-d-dev-test-1"),
            image("d", "overlay", days=99, repository="llm-d-dev-test-1"),
            image("r", "rootfs", tags=("llm-d-dev-rootfs:x",), days=99),
            image("s", "standin", tags=("unsealed",), days=99),
        ],
        goes=set(),
    ),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_what_goes(row: Row) -> None:
    assert goes(row.images, failed=row.failed, used=row.used) == row.goes


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_the_last_good_base_never_goes(row: Row) -> None:
    good = {one.id for one in row.images if {f"{OURS}:nightly", f"{OURS}:nightly-cpu"} & set(one.tags)}
    assert not good & goes(row.images, keep=1, failed={one.id for one in row.images})


def test_one_good_base_stays_also_if_no_name_says_which() -> None:
    assert goes(NIGHTLIES, keep=1) == {"b2", "b3", "b4", "b5"}


@pytest.mark.parametrize(("text", "hours"), [("3d", 72), ("2h", 2), ("1w", 168), ("90m", 1.5)])
def test_lifetimes_are_quays(text: str, hours: float) -> None:
    assert timestamps.lifetime(text) == dt.timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "3", "d", "-1d", "0d", "3 d"])
def test_what_is_no_lifetime_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no lifetime"):
        timestamps.lifetime(text)


def test_an_image_without_any_date_counts_as_new() -> None:
    before = dt.datetime.now(dt.UTC)
    assert ages.created(Image.parse({"Id": f"sha256:{'1' * 64}", "Size": 1})) >= before
