"""Timestamps and time spans: parsing and wording."""

from __future__ import annotations

import datetime as dt
import re

_LETTERS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def moment(stamp: str) -> dt.datetime:
    """Parse a timestamp of this tool or of Docker: RFC 3339, in Docker's case to the nanosecond.

    Raises:
        ValueError: The text is not a timestamp.
    """
    found = dt.datetime.fromisoformat(stamp)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def lifetime(text: str) -> dt.timedelta:
    """Parse the value of a label ``quay.expires-after``, such as ``14d``.

    Raises:
        ValueError: The text is not a time span.
    """
    match = re.fullmatch(r"([1-9][0-9]*)([smhdw])", text)
    if not match:
        raise ValueError(f"no lifetime: {text!r}")
    try:
        return dt.timedelta(**{_LETTERS[match[2]]: int(match[1])})
    except OverflowError as error:
        raise ValueError(f"no lifetime: {text[:20]}…") from error


def words(age: dt.timedelta) -> str:
    """Return an age in words, such as ``3 days``; never below two of a unit, which avoids the singular."""
    seconds = max(age.total_seconds(), 0)
    return next((f"{seconds // size:.0f} {unit}" for size, unit in _UNITS if seconds >= 2 * size), "a minute")


def expires(made: dt.datetime, after: str) -> dt.datetime:
    """Return when something expires.

    Args:
        made: When it was made.
        after: Value of the label ``quay.expires-after``.

    Raises:
        ValueError: The date is out of range.
    """
    try:
        return made + lifetime(after)
    except OverflowError as error:
        raise ValueError("the date is after the year 9999") from error
