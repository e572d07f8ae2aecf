"""How old an image is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.engine import labels
from build.host import clock
from build.host.timestamps import moment, words

if TYPE_CHECKING:
    import datetime as dt

    from build.engine.client import Image


def created(image: Image) -> dt.datetime:
    """When an image was made, now if that is not known.

    The label counts more than the engine's date, which a loaded image may lack.
    """
    return dated(image) or clock.now()


def dated(image: Image) -> dt.datetime | None:
    """When an image says that it was made; None if it says nothing."""
    for stamp in (image.labels.get(labels.OCI_CREATED), image.created):
        try:
            return moment(stamp or "")
        except ValueError:
            continue
    return None


def order(image: Image) -> tuple[bool, dt.datetime]:
    """What images are sorted by, oldest first. What a wrong clock dated into the future is not the newest."""
    when = created(image)
    return when <= clock.tomorrow(), when


def of(image: Image) -> str:
    """How old a base is, in words."""
    made = created(image)
    if made > clock.tomorrow():
        return f"dated {made:%Y-%m-%d}"
    return f"{words(clock.now() - made)} old"


def is_older(image: Image, limit: dt.timedelta | None) -> bool:
    """Whether an image is older than a limit; without a limit it never is.

    One that is dated into the future was made while a clock was wrong, and would never be too old.
    """
    made, now = created(image), clock.now()
    wrong = now > clock.FIRST and made > clock.tomorrow()
    return limit is not None and (now - made > limit or wrong)
