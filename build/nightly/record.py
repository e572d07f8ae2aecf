"""The records of nightlies: one JSON file a run, in the state folder."""

from __future__ import annotations

import contextlib
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

from build import errors
from build.host import clock, identity, stored
from build.host.secrets import redacted
from build.host.timestamps import moment
from build.source.repository import SHORT_DIGITS

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
"""Prefix of a record's file name."""
_STAMPED = re.compile(r"[0-9]{8}-[0-9]{6}-")


def _is_a_moment(stamp: str) -> str:
    moment(stamp)
    return stamp


def _is_an_error(words: dict[str, str]) -> dict[str, str]:
    if lacking := {"category", "what", "hint"} - set(words):
        raise ValueError(f"{min(lacking)} is missing")
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
    """The record of one nightly.

    Attributes:
        started: RFC 3339 timestamp.
        finished: RFC 3339 timestamp; None for a running or killed nightly.
        owner: Identity of the process (:mod:`build.host.identity`).
        flavor: ``cpu`` or ``cuda``.
        verdict: ``running``, ``pass``, ``fail`` or ``interrupted``; readers derive ``killed``.
        error: Category, what and hint of the error; None without an error.
        commit: Full id of the vLLM commit; None if the nightly ended before it was known.
        image: ID of the base.
        built: Whether this nightly built the base; None if it ended before that was known.
        bytes: Size of the base on disk.
        digest: Digest of the pushed manifest; None without a push.
        freed: Bytes that pruning freed afterwards.
        steps: Name, seconds and enclosing steps of each finished step.
        took: Seconds by the monotonic clock; None while it runs, and in records of older versions.
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
        """Duration in seconds; None if it is unknown or the machine's clock was changed meanwhile."""
        if self.took is not None or self.finished is None:
            return self.took
        apart = (moment(self.finished) - moment(self.started)).total_seconds()
        return apart if apart >= 0 else None

    def document(self) -> dict[str, Any]:
        """Return the document for ``--json``."""
        return {**{name: value for name, value in asdict(self).items() if name != "took"}, "seconds": self.seconds}


def now() -> str:
    """Return the current time as an RFC 3339 timestamp."""
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


class Recorder:
    """The writer of the current run's record. A killed run leaves the record as it was last updated.

    Args:
        path: File of the record.
        record: The initial record.
    """

    def __init__(self, path: Path, record: Record) -> None:
        self._path = path
        self.record = record
        self.update()

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - values of the record's attributes
        """Change attributes and write the record. A write error, such as a full disk, does not fail the nightly."""
        self.record = replace(self.record, **changes)
        try:
            stored.write(self._path, asdict(self.record))
        except OSError as error:
            log.warning("the record was not written: %s", error)


@contextlib.contextmanager
def kept(folder: Path, *, flavor: str, console: Console) -> Iterator[Recorder]:
    """Record the block: its outcome and the duration of its steps.

    Args:
        folder: Folder of the records.
        flavor: Flavor of the base.
        console: Console whose steps are recorded.
    """
    path = folder / f"{time.strftime(_NAMED)}-{os.getpid()}-{secrets.token_hex(2)}.json"
    recorder = Recorder(path, Record(started=now(), owner=identity.identity(), flavor=flavor))
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
        ours = errors.as_ours(error)
        log.error("error[%s]: %s", ours.word, ours.what)  # noqa: TRY400 - the run's own log has the traceback
        finish(FAIL, {"category": ours.word, "what": _shown(ours.what), "hint": _shown(ours.hint)})
        raise
    except BaseException:
        finish(INTERRUPTED)
        raise
    finish(PASS)


def _shown(text: str) -> str:
    """Return a text with credentials redacted and surrogates escaped."""
    return redacted(text).encode("utf-8", "backslashreplace").decode()


def recall(folder: Path, *, last: int | None = None, flavor: str | None = None) -> list[Record]:
    """Return the readable records, the newest first. Records dated in the future, by a wrong clock, come last.

    Args:
        folder: Folder of the records.
        last: Maximum number; all by default.
        flavor: Flavor to return; all by default.
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
    gone = record.verdict == RUNNING and not identity.alive(record.owner)
    return replace(record, verdict=KILLED) if gone else record


_RECORD = TypeAdapter(Record).validate_python

_COLOURS = {PASS: "green", RUNNING: "cyan"}


def table(found: Sequence[Record]) -> Table:
    """Return records as a table."""
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
