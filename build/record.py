"""What became of each nightly: one JSON file a run, in the state folder."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from build import errors, owner
from build.folders import write_json
from build.git import SHORT_DIGITS
from build.redact import redacted
from build.timestamps import moment

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


@dataclass(frozen=True, kw_only=True)
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
    """

    started: str
    owner: str
    flavor: str
    verdict: str = RUNNING
    finished: str | None = None
    error: dict[str, str] | None = None
    commit: str | None = None
    image: str | None = None
    built: bool | None = None
    bytes: int | None = None
    digest: str | None = None
    freed: int | None = None
    steps: tuple[dict[str, Any], ...] = ()

    @property
    def seconds(self) -> float | None:
        """How long it took; None if its end is not known."""
        return (moment(self.finished) - moment(self.started)).total_seconds() if self.finished else None

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "seconds": self.seconds}


def now() -> str:
    """This moment as an RFC 3339 time stamp."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


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
            write_json(self._path, asdict(self.record))
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
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}.json"
    recorder = Recorder(path, Record(started=now(), owner=owner.identity(), flavor=flavor))
    since = time.monotonic()
    log.info("nightly: a %s base", flavor)

    def finish(verdict: str, error: dict[str, str] | None = None) -> None:
        done = [step for step in console.durations if step.started >= since]
        steps = tuple({"name": one.name, "within": one.within, "seconds": round(one.seconds, 3)} for one in done)
        recorder.update(verdict=verdict, error=error, steps=steps, finished=now())
        log.info("nightly: %s after %.0f s", verdict, time.monotonic() - since)

    try:
        yield recorder
    except Exception as error:
        ours = errors.as_ours(error)
        log.error("error[%s]: %s", ours.word, ours.what)  # noqa: TRY400 - the whole of it is in the run's own log
        finish(FAIL, {"category": ours.word, "what": redacted(ours.what), "hint": redacted(ours.hint)})
        raise
    except BaseException:
        finish(INTERRUPTED)
        raise
    finish(PASS)


def recall(folder: Path, *, last: int | None = None, flavor: str | None = None) -> list[Record]:
    """Records that can be read, the newest first.

    Args:
        folder: Where they are.
        last: How many at most; all by default.
        flavor: Of which flavor; of all by default.
    """
    paths = sorted(folder.glob("*.json"), reverse=True)
    found = (record for path in paths if (record := _read(path)) and flavor in (None, record.flavor))
    return [record for _, record in zip(range(len(paths) if last is None else last), found, strict=False)]


def _read(path: Path) -> Record | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**{**document, "steps": tuple(document["steps"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    gone = record.verdict == RUNNING and not owner.alive(record.owner)
    return replace(record, verdict=KILLED) if gone else record


_COLOURS = {PASS: "green", RUNNING: "cyan"}


def table(found: Sequence[Record]) -> Table:
    """For a person."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("nightly", "verdict", "flavor", "commit", "took", "base", "freed", "error"):
        shown.add_column(column, overflow="fold", justify="right" if column in ("took", "base", "freed") else "left")
    for one in found:
        shown.add_row(
            one.started.replace("T", " ").removesuffix("Z"),
            f"[{_COLOURS.get(one.verdict, 'red')}]{one.verdict}[/]",
            one.flavor,
            (one.commit or "")[:SHORT_DIGITS],
            "" if one.seconds is None else f"{one.seconds:.0f} s",
            "" if one.bytes is None else f"{one.bytes / 1e9:.2f} GB",
            "" if one.freed is None else f"{one.freed / 1e9:.2f} GB",
            escape(f"{one.error['category']}: {one.error['what']}" if one.error else ""),
        )
    return shown
