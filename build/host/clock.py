"""The machine's clock, which may be wrong: what it says of the past is believed only as far as it can be right."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
"""Docker's first release is newer, and so is every image. Clocks without a battery start in 1970 or 2000."""

_TOMORROW = dt.timedelta(days=1)
"""Clocks of two machines differ by less."""
_LONG = dt.timedelta(days=365)
_SETTLED = dt.timedelta(days=7)


def now() -> dt.datetime:
    """This moment, by the clock."""
    return dt.datetime.fromtimestamp(time.time(), dt.UTC)


def tomorrow() -> dt.datetime:
    """What is dated later was made while a clock was wrong."""
    return now() + _TOMORROW


def is_past(moment: dt.datetime) -> bool:
    """Return whether something can have been made at a moment."""
    return FIRST <= moment <= tomorrow()


def doubt(traces: Iterable[dt.datetime]) -> str | None:
    """Why nothing is to be thrown away for its age today; None if ages can be believed.

    A clock that jumped ahead shows in what earlier runs left: all of it is more than a year old, but for that of a
    few days. After a week the time counts as right: then the machine has been off for so long.

    Args:
        traces: When earlier runs wrote something.
    """
    today = now()
    if today < FIRST:
        return f"the clock says {today:%Y-%m-%d}"
    settled = [moment for moment in traces if moment < today - _SETTLED]
    newest = max(settled, default=today)
    if newest >= today - _LONG:
        return None
    return f"the clock says {today:%Y-%m-%d}, and the last run before this week was on {newest:%Y-%m-%d}"
