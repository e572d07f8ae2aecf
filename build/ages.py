"""How old an image is."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from build import labels
from build.timestamps import moment, words

if TYPE_CHECKING:
    from build.engine import Image


def created(image: Image) -> dt.datetime:
    """When an image was made; the label counts more than the engine's date, which a loaded image may lack."""
    for stamp in (image.labels.get(labels.OCI_CREATED), image.created):
        try:
            return moment(stamp or "")
        except ValueError:
            continue
    return dt.datetime.now(dt.UTC)


def of(image: Image) -> str:
    """How old a base is, in words."""
    return f"{words(dt.datetime.now(dt.UTC) - created(image))} old"


def is_older(image: Image, limit: dt.timedelta | None) -> bool:
    """Whether an image is older than a limit; without a limit it never is."""
    return limit is not None and dt.datetime.now(dt.UTC) - created(image) > limit
