"""The machine's clock, which may be wrong. Its times are trusted only as far as they are plausible."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
"""Docker's first release is newer, and so is every image. Clocks without a battery start in 1970 or 2000."""

_TOMORROW = dt.timedelta(days=1)
"""The clocks of two machines differ by less."""
_LONG = dt.timedelta(days=365)
_SETTLED = dt.timedelta(days=7)


def now() -> dt.datetime:
    """Return the current time."""
    return dt.datetime.fromtimestamp(time.time(), dt.UTC)


def tomorrow() -> dt.datetime:
    """Return the time after which a date comes from a wrong clock."""
    return now() + _TOMORROW


def is_past(moment: dt.datetime) -> bool:
    """Return whether a moment is a plausible time in the past."""
    return FIRST <= moment <= tomorrow()


def doubt(traces: Iterable[dt.datetime]) -> str | None:
    """Return why ages cannot be trusted today, so that pruning must wait; None if they can.

    If the clock jumped ahead, all traces of earlier runs are more than a year old, except those of the last few days.
    After a week, the time counts as right: the machine was off for so long.

    Args:
        traces: When earlier runs wrote their files.
    """
    today = now()
    if today < FIRST:
        return f"the clock says {today:%Y-%m-%d}"
    settled = [moment for moment in traces if moment < today - _SETTLED]
    newest = max(settled, default=today)
    if newest >= today - _LONG:
        return None
    return f"the clock says {today:%Y-%m-%d}, and the last run before this week was on {newest:%Y-%m-%d}"
