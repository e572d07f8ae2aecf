"""What a server said of a request that went wrong: the exception in its log, found by the time."""

from __future__ import annotations

from datetime import UTC, datetime

from smoke.diagnosis import log
from smoke.diagnosis.raised import raised

# RFC 3339 with microseconds; the engine writes nine digits (moby, daemon/logger/jsonfilelog/jsonlog).
_STAMP = len("2026-01-01T00:00:00.000000")


def exception_since(stamped: str, moment: float) -> tuple[int, str] | None:
    """The exception of the last traceback that was printed since a moment; of a chain the first.

    Args:
        stamped: A log whose lines begin with the engine's time.
        moment: Seconds since the epoch by the engine's clock.

    Returns:
        The number of its line, from 1, and the line without the time; None where nothing was raised since.
    """
    since = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    rows = [line.partition(" ")[::2] for line in log.split(stamped)]
    begin = next((index for index, (stamp, _) in enumerate(rows) if stamp[:_STAMP] >= since), len(rows))
    lines = log.read("\n".join(text for _, text in rows[begin:]))
    found = raised(lines, survived=True)
    if not found:
        return None
    first = next(each for each in found if each.chain == found[-1].chain)
    line = lines[first.shown]
    return begin + line.number, line.text
