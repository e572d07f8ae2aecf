"""What has expired in a registry that does not know of expiry."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from build.engine import labels
from build.registry import expiry
from build.registry.client import Registry
from build.registry.repository_name import RepositoryName
from tests.unit.fakes import digest
from tests.unit.loopback import Answer, Asked, serving

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def config(days: float, lasts: str | None) -> dict[str, Any]:
    """An image's configuration, so many days old."""
    created = (NOW - dt.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    return {"created": created, "config": {"Labels": {labels.QUAY_EXPIRES: lasts} if lasts else None}}


@pytest.mark.parametrize(
    ("found", "gone"),
    [
        (config(2.9, "3d"), False),
        (config(3.1, "3d"), True),
        (config(999, None), False),
        (config(999, "soon"), False),
        ({}, False),
        ({"created": None, "config": None}, False),
    ],
)
def test_an_image_expires_as_its_label_says(found: Mapping[str, Any], gone: bool) -> None:  # noqa: FBT001 - a column
    assert expiry.has_expired(found, NOW) == gone


def of(flavor: str, found: dict[str, Any]) -> dict[str, Any]:
    """The same image with the label of a flavor."""
    return {**found, "config": {"Labels": {**found["config"]["Labels"], labels.FLAVOR: flavor}}}


def gone(images: Mapping[str, Any], tags: Mapping[str, str]) -> set[str]:
    """The tags whose images may go, of a registry that holds these."""

    def service(asked: Asked) -> Answer:
        kind, _, name = asked.path.removeprefix("/v2/x/").partition("/")
        if kind == "tags":
            document: Any = {"tags": list(tags)}
        elif kind == "manifests":
            document = {"config": {"digest": digest(tags[name])}, "layers": []}
        else:
            document = next(image for key, image in images.items() if digest(key) == name)
        return Answer(body=json.dumps(document).encode())

    with serving(service) as address:
        registry = Registry(RepositoryName(host=address, path="x"))
        digests = expiry.expired(registry, NOW)
        return {tag for tag in tags if (found := registry.manifest(tag)) and found.digest in digests}


def test_the_moving_tag_and_what_it_names_stay() -> None:
    images = {"old": config(99, "3d"), "new": config(1, "3d"), "good": config(99, "3d")}
    tags = {"local-1": "old", "local-2": "new", "nightly-1": "good", "nightly": "good", "nightly-2": "old"}
    assert gone(images, tags) == {"local-1", "nightly-2"}


def test_each_flavor_has_its_own_moving_tag() -> None:
    images = {"cuda": of("cuda", config(99, "14d")), "cpu": of("cpu", config(98, "14d")), "old": config(99, "3d")}
    tags = {"nightly": "cuda", "nightly-1": "cuda", "nightly-cpu": "cpu", "nightly-1-cpu": "cpu", "local-1": "old"}
    assert gone(images, tags) == {"local-1"}


def test_a_cpu_image_under_the_cuda_images_name_expires() -> None:
    images = {"cpu": of("cpu", config(99, "14d")), "new": of("cpu", config(1, "14d"))}
    assert gone(images, {"nightly": "cpu", "nightly-cpu": "new"}) == {"nightly"}


def test_a_repository_that_nobody_pushed_to_is_empty() -> None:
    with serving(lambda _: Answer(status=404)) as address:
        assert expiry.expired(Registry(RepositoryName(host=address, path="x")), NOW) == set()
