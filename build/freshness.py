"""How old a base is, and whether somebody should look why."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from build import clock, names, record
from build.record import PASS, RUNNING, moment
from build.retention import created

if TYPE_CHECKING:
    from build.context import Context
    from build.engine import Image

_STALE = dt.timedelta(days=2)
_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def words(age: dt.timedelta) -> str:
    """An age as people say it: ``3 days``; at least two of the unit, so that there is no singular."""
    seconds = max(age.total_seconds(), 0)
    return next((f"{seconds // size:.0f} {unit}" for size, unit in _UNITS if seconds >= 2 * size), "a minute")


def age(image: Image) -> str:
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


def stale(context: Context, image: Image) -> str | None:
    """What to say about a base that no nightly has built or found still right for two days; None otherwise.

    Args:
        context: Where records are.
        image: The base.
    """
    flavor = names.flavor_of(image)
    ended = [one for one in record.recall(context.folders.nightlies, flavor=flavor) if one.verdict != RUNNING]
    confirmed = [
        moment(one.finished) for one in ended if one.verdict == PASS and one.image == image.id and one.finished
    ]
    since = max([one for one in (created(image), *confirmed) if one <= clock.tomorrow()], default=clock.FIRST)
    if clock.now() - since < _STALE:
        return None
    said = f"base {image.name} is {age(image)}"
    if ended and ended[0].verdict != PASS:
        cause = f": {ended[0].error['what']}" if ended[0].error else ""
        return f"{said}, and the last nightly ({ended[0].started}) did not pass ({ended[0].verdict}{cause})"
    how = f" --flavor {flavor}" if flavor else ""
    return f"{said}; `python -m build nightly{how}` makes a new one"


def tell(context: Context, image: Image) -> None:
    """Warn about a base that is stale."""
    if warning := stale(context, image):
        context.console.warn(warning)
