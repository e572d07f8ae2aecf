"""Time stamps, and lengths of time, as they are written and as people say them."""

from __future__ import annotations

import datetime as dt
import re

_LETTERS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def moment(stamp: str) -> dt.datetime:
    """A time stamp as ours and Docker's are: RFC 3339, to the nanosecond in Docker's.

    Raises:
        ValueError: It is none.
    """
    found = dt.datetime.fromisoformat(stamp)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def lifetime(text: str) -> dt.timedelta:
    """The time that a label ``quay.expires-after`` says, such as ``14d``.

    Raises:
        ValueError: It says none.
    """
    match = re.fullmatch(r"([1-9][0-9]*)([smhdw])", text)
    if not match:
        raise ValueError(f"no lifetime: {text!r}")
    try:
        return dt.timedelta(**{_LETTERS[match[2]]: int(match[1])})
    except OverflowError as error:
        raise ValueError(f"no lifetime: {text[:20]}…") from error


def words(age: dt.timedelta) -> str:
    """An age as people say it: ``3 days``; at least two of the unit, so that there is no singular."""
    seconds = max(age.total_seconds(), 0)
    return next((f"{seconds // size:.0f} {unit}" for size, unit in _UNITS if seconds >= 2 * size), "a minute")


def expires(made: dt.datetime, after: str) -> dt.datetime:
    """When something expires.

    Args:
        made: When it was made.
        after: What a label ``quay.expires-after`` says.

    Raises:
        ValueError: It never does.
    """
    try:
        return made + lifetime(after)
    except OverflowError as error:
        raise ValueError("after the last year that there is") from error
