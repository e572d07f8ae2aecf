"""The age of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.engine import labels
from build.host import clock
from build.host.timestamps import moment, words

if TYPE_CHECKING:
    import datetime as dt

    from build.engine.image import Image


def created(image: Image) -> dt.datetime:
    """Return when an image was made, or the current time if that is unknown.

    The label has priority over the engine's date, which a loaded image may lack.
    """
    return dated(image) or clock.now()


def dated(image: Image) -> dt.datetime | None:
    """Return the recorded creation time of an image, or None without one."""
    for stamp in (image.labels.get(labels.OCI_CREATED), image.created):
        try:
            return moment(stamp or "")
        except ValueError:
            continue
    return None


def order(image: Image) -> tuple[bool, dt.datetime]:
    """Return the sort key of an image, oldest first. An image dated into the future never sorts as the newest."""
    when = created(image)
    return when <= clock.tomorrow(), when


def of(image: Image) -> str:
    """Return the age of a base in words."""
    made = created(image)
    if made > clock.tomorrow():
        return f"dated {made:%Y-%m-%d}"
    return f"{words(clock.now() - made)} old"


def is_older(image: Image, limit: dt.timedelta | None) -> bool:
    """Return whether an image is older than a limit; without a limit it never is.

    An image dated into the future was made with a wrong clock; it counts as too old.
    """
    made, now = created(image), clock.now()
    wrong = now > clock.FIRST and made > clock.tomorrow()
    return limit is not None and (now - made > limit or wrong)
