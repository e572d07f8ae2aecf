"""The warning about a stale base."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from build.engine import ages, names
from build.engine.ages import created
from build.host import clock
from build.host.timestamps import moment
from build.nightly import record
from build.nightly.record import PASS, RUNNING

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from build.engine.image import Image

_STALE = dt.timedelta(days=2)


def stale(nightlies: Path, image: Image) -> str | None:
    """Return a warning if no nightly has built or confirmed a base for two days, else None.

    Args:
        nightlies: Folder of the nightlies' records.
        image: The base.
    """
    flavor = names.flavor_of(image)
    ended = [one for one in record.recall(nightlies, flavor=flavor) if one.verdict != RUNNING]
    confirmed = [
        moment(one.finished) for one in ended if one.verdict == PASS and one.image == image.id and one.finished
    ]
    since = max([one for one in (created(image), *confirmed) if one <= clock.tomorrow()], default=clock.FIRST)
    if clock.now() - since < _STALE:
        return None
    said = f"base {image.name} is {ages.of(image)}"
    if ended and ended[0].verdict != PASS:
        cause = f": {ended[0].error['what']}" if ended[0].error else ""
        return f"{said}, and the last nightly ({ended[0].started}) did not pass ({ended[0].verdict}{cause})"
    how = f" --flavor {flavor}" if flavor else ""
    return f"{said}; `python -m build nightly{how}` makes a new one"


def tell(context: Context, image: Image) -> None:
    """Warn about a base that is stale."""
    if warning := stale(context.folders.nightlies, image):
        context.console.warn(warning)
