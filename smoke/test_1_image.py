"""What an image says of itself. Nothing is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build import labels

if TYPE_CHECKING:
    from build.engine import Image

_ROOT = ("", "root", "0")


@pytest.fixture(autouse=True)
def _ours(image: Image) -> None:
    if image.labels.get(labels.KIND) not in ("base", "overlay"):
        pytest.skip("not applicable: neither a base nor an overlay of ours")


def test_labels(image: Image) -> None:
    """The image's labels say its flavor, commit and version."""
    missing = {labels.FLAVOR, labels.COMMIT, labels.VERSION} - {key for key, value in image.labels.items() if value}
    assert not missing, f"no label {', '.join(sorted(missing))}"


def test_user(image: Image) -> None:
    """The image runs as somebody else than root."""
    user = (image.config.get("User") or "").partition(":")[0]
    assert user not in _ROOT, f"it runs as {user or 'root'}"
