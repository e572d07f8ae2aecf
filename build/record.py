"""What became of each nightly: one JSON file a run, in the state folder."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import re
import secrets
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked
from rich.markup import escape
from rich.table import Table

from build import clock, failure, owner, stored
from build.git import SHORT_DIGITS
from build.redact import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from build.console import Console

log = logging.getLogger(__name__)

RUNNING = "running"
PASS = "pass"  # noqa: S105 - a verdict
FAIL = "fail"
INTERRUPTED = "interrupted"
KILLED = "killed"

_NAMED = "%Y%m%d-%H%M%S"
"""How the name of a record begins."""
_STAMPED = re.compile(r"[0-9]{8}-[0-9]{6}-")


def moment(stamp: str) -> dt.datetime:
    """A time stamp as ours and Docker's are: RFC 3339, to the nanosecond in Docker's.

    Raises:
        ValueError: It is none.
    """
    found = dt.datetime.fromisoformat(stamp)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _is_a_moment(stamp: str) -> str:
    moment(stamp)
    return stamp


def _is_an_error(words: dict[str, str]) -> dict[str, str]:
    if lacking := {"category", "what", "hint"} - set(words):
        raise ValueError(f"no {min(lacking)}")
    return words


def _is_a_verdict(word: str) -> str:
    if word not in (RUNNING, PASS, FAIL, INTERRUPTED, KILLED):
        raise ValueError("no verdict")
    return word


_Verdict = Annotated[str, AfterValidator(_is_a_verdict)]
_Moment = Annotated[str, AfterValidator(_is_a_moment)]
_Bytes = Annotated[int, Field(ge=0, lt=2**63)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Error = Annotated[dict[str, str], AfterValidator(_is_an_error)]


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Record:
    """One nightly.

    Attributes:
        started: RFC 3339 time stamp.
        finished: The same; None while it runs, and for one that was killed.
        owner: Identity of its process (:mod:`build.owner`).
        flavor: ``cpu`` or ``cuda``.
        verdict: ``running``, ``pass``, ``fail``, ``interrupted``; ``killed`` is what a reader finds out.
        error: Category, what and hint of what it failed with; None if it did not.
        commit: Full id of the vLLM commit; None if it did not get that far.
        image: ID of the base.
        built: Whether it was built now; None if it did not get that far.
        bytes: Size of the base on disk.
        digest: Of what was pushed; None if nothing was.
        freed: Bytes that pruning freed afterwards.
        steps: Name, seconds, and the steps that it was part of, of each step that was done.
        took: Seconds of the monotonic clock; None as long as its end is not known, and from older versions.
    """

    started: _Moment
    owner: str
    flavor: str
    verdict: _Verdict = RUNNING
    finished: _Moment | None = None
    error: _Error | None = None
    commit: str | None = None
    image: str | None = None
    built: bool | None = None
    bytes: _Bytes | None = None
    digest: str | None = None
    freed: _Bytes | None = None
    steps: tuple[dict[str, Any], ...] = ()
    took: _Seconds | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None if that is not known: the machine's clock may have been set meanwhile."""
        if self.took is not None or self.finished is None:
            return self.took
        apart = (moment(self.finished) - moment(self.started)).total_seconds()
        return apart if apart >= 0 else None

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**{name: value for name, value in asdict(self).items() if name != "took"}, "seconds": self.seconds}


def now() -> str:
    """This moment as an RFC 3339 time stamp."""
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


class Recorder:
    """Keeps the record of the run that goes on, so that also a killed one leaves what it knew.

    Args:
        path: Its file.
        record: What is known at first.
    """

    def __init__(self, path: Path, record: Record) -> None:
        self._path = path
        self.record = record
        self.update()

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - values of the record's attributes
        """Change some attributes and write them down. A full disk must not change how a nightly ends."""
        self.record = replace(self.record, **changes)
        try:
            stored.write(self._path, asdict(self.record))
        except OSError as error:
            log.warning("the record cannot be written: %s", error)


@contextlib.contextmanager
def kept(folder: Path, *, flavor: str, console: Console) -> Iterator[Recorder]:
    """Keep a record of the block: how it ended, and what its steps took.

    Args:
        folder: Where records are.
        flavor: What is built.
        console: Whose steps count.
    """
    path = folder / f"{time.strftime(_NAMED)}-{os.getpid()}-{secrets.token_hex(2)}.json"
    recorder = Recorder(path, Record(started=now(), owner=owner.identity(), flavor=flavor))
    since = time.monotonic()
    log.info("nightly: a %s base", flavor)

    def finish(verdict: str, error: dict[str, str] | None = None) -> None:
        done = [step for step in console.durations if step.started >= since]
        steps = tuple({"name": one.name, "within": one.within, "seconds": round(one.seconds, 3)} for one in done)
        took = round(time.monotonic() - since, 3)
        recorder.update(verdict=verdict, error=error, steps=steps, finished=now(), took=took)
        log.info("nightly: %s after %.0f s", verdict, took)

    try:
        yield recorder
    except Exception as error:
        ours = failure.as_ours(error)
        log.error("error[%s]: %s", ours.word, ours.what)  # noqa: TRY400 - the whole of it is in the run's own log
        finish(FAIL, {"category": ours.word, "what": _shown(ours.what), "hint": _shown(ours.hint)})
        raise
    except BaseException:
        finish(INTERRUPTED)
        raise
    finish(PASS)


def _shown(text: str) -> str:
    """A text without credentials; letters of a path that are not UTF-8 are escaped."""
    return redacted(text).encode("utf-8", "backslashreplace").decode()


def recall(folder: Path, *, last: int | None = None, flavor: str | None = None) -> list[Record]:
    """Records that can be read, the newest first; those of the future last, from when a clock was wrong.

    Args:
        folder: Where they are.
        last: How many at most; all by default.
        flavor: Of which flavor; of all by default.
    """
    limit = time.strftime(_NAMED, time.localtime(clock.tomorrow().timestamp()))
    future = {path for path in folder.glob("*.json") if _STAMPED.match(path.name) and path.name[: len(limit)] > limit}
    paths = sorted(folder.glob("*.json"), key=lambda path: (path not in future, path.name), reverse=True)
    found = (record for path in paths if (record := _read(path)) and flavor in (None, record.flavor))
    return [record for _, record in zip(range(len(paths) if last is None else last), found, strict=False)]


def _read(path: Path) -> Record | None:
    record = stored.read(path, _RECORD)
    if record is None:
        return None
    gone = record.verdict == RUNNING and not owner.alive(record.owner)
    return replace(record, verdict=KILLED) if gone else record


_RECORD = TypeAdapter(Record).validate_python

_COLOURS = {PASS: "green", RUNNING: "cyan"}


def table(found: Sequence[Record]) -> Table:
    """For a person."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("nightly", "verdict", "flavor", "commit", "took", "base", "freed", "error"):
        shown.add_column(column, overflow="fold", justify="right" if column in ("took", "base", "freed") else "left")
    for one in found:
        shown.add_row(
            escape(one.started.replace("T", " ").removesuffix("Z")),
            f"[{_COLOURS.get(one.verdict, 'red')}]{one.verdict}[/]",
            escape(one.flavor),
            escape((one.commit or "")[:SHORT_DIGITS]),
            "" if one.seconds is None else f"{one.seconds:.0f} s",
            "" if one.bytes is None else f"{one.bytes / 1e9:.2f} GB",
            "" if one.freed is None else f"{one.freed / 1e9:.2f} GB",
            escape(f"{one.error['category']}: {one.error['what']}" if one.error else ""),
        )
    return shown
