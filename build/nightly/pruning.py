"""Frees disk: removes what is ours and of no use any more."""

from __future__ import annotations

import datetime as dt
import logging
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import docker.errors
import requests
from rich.markup import escape
from rich.table import Table

from build.engine import embedded, labels
from build.gate import verdict, ways
from build.host import clock, lock
from build.nightly import retention
from build.nightly.retention import Decision, Rules
from build.registry import expiry
from build.registry.repository_name import EMBEDDED_REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.context import Context
    from build.engine.image import Image

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What went, or would go.

    Attributes:
        applied: Whether anything was removed.
        decisions: About each image of ours.
        files: Old reports, logs, records, verdicts and copies.
        pushed: How many images of the embedded registry have expired, and names there that killed pushes left.
        cache: Whether old build cache goes too.
        freed: Bytes; an upper bound if nothing was removed.
    """

    applied: bool
    decisions: tuple[Decision, ...]
    files: tuple[Path, ...]
    pushed: int
    cache: bool
    freed: int

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        images = [
            {"id": one.image.id, "names": list(one.image.tags), "keep": one.keep, "why": one.why}
            for one in self.decisions
        ]
        files = [str(path) for path in self.files]
        return {
            "applied": self.applied,
            "images": images,
            "files": files,
            "registry_images": self.pushed,
            "build_cache": self.cache,
            "freed_bytes": self.freed,
        }

    def table(self) -> Table:
        """For a person."""
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("image", "kind", "", "why"):
            shown.add_column(column, overflow="fold")
        for one in self.decisions:
            what = "[green]stays[/]" if one.keep else "[red]goes[/]"
            shown.add_row(escape(one.image.name), one.image.labels[labels.KIND], what, escape(one.why))
        return shown

    @property
    def summary(self) -> str:
        """In one line."""
        going = sum(not one.keep for one in self.decisions)
        things = f"{going} images, {self.pushed} in the registry, {len(self.files)} old files"
        things += ", old build cache" if self.cache else ""
        if self.applied:
            return f"removed {things}: {self.freed / 1e9:.2f} GB freed"
        return f"would remove {things}: up to {self.freed / 1e9:.2f} GB; --apply does it"


def prune(context: Context, *, apply: bool) -> Pruned:
    """Find what may go, and remove it if asked to, while no nightly runs.

    Raises:
        BusyError: A nightly runs.
        EngineError: No engine answers.
    """
    if not apply:
        return _plan(context)
    with lock.held(context.folders.locks, "nightly", doing="pruning"):
        return carry_out(context)


def carry_out(context: Context) -> Pruned:
    """Remove what may go. The caller holds the nightly's lock: bases on their way have no name yet."""
    with context.console.step("prune"):
        planned = _plan(context)
        measured = planned if planned.files or not all(one.keep for one in planned.decisions) else None
        before = _used(context, measured)
        removed = tuple(one for one in planned.decisions if one.keep or _remove(context, one.image))
        for path in planned.files:
            _delete(path)
        cache = _prune_cache(context) if planned.cache else 0
        freed = max(0, before - _used(context, measured)) + cache
        freed += _sweep_registry(context) if planned.pushed else 0
    done = replace(planned, applied=True, decisions=removed, freed=freed)
    context.console.note(done.summary)
    return done


def _plan(context: Context) -> Pruned:
    images = [image for image in context.engine.images() if labels.KIND in image.labels]
    rules = Rules(
        repository=context.settings.repository,
        keep_bases=context.settings.keep_bases,
        now=clock.now(),
        failed=lambda image: _failed(context, image),
        used={row["ImageID"] for row in context.engine.client.api.containers(all=True)},
        doubt=_doubt(context),
    )
    if rules.doubt:
        context.console.warn(f"nothing is removed for its age: {rules.doubt}")
    decisions = retention.decide(images, rules)
    decided = {one.image.id for one in decisions}
    others = [image for image in images if image.id not in decided]
    files = () if rules.doubt else tuple(_old_files(context, {image.id for image in images}))
    freed = retention.at_most(decisions, others) + sum(map(_size, files))
    return Pruned(
        applied=False,
        decisions=tuple(decisions),
        files=files,
        pushed=0 if rules.doubt else _expired(context),
        cache=not rules.doubt and _cache_is_ours(context),
        freed=freed,
    )


def _failed(context: Context, image: Image) -> bool:
    required = ways.required(context.settings)
    found = verdict.recall(context.folders.verdicts, image.id, required=required)
    return found is not None and not found.ok


def _remove(context: Context, image: Image) -> bool:
    """Remove an image name by name, never by force: what got another name meanwhile stays."""
    try:
        for name in image.tags:
            # A `dev` that runs meanwhile may have given the name to a new image.
            if (named := context.engine.find_image(name)) and named.id == image.id:
                context.engine.untag(name)
        gone = context.engine.discard(image)
    except docker.errors.APIError as error:
        if error.status_code != requests.codes.conflict:
            raise
        gone = False
    log.info("%s %s", "removed" if gone else "still used:", image.name)
    return gone


def _expired(context: Context) -> int:
    """Only in the embedded registry: another has rules of its own."""
    if context.settings.registry:
        return 0
    found = expiry.waiting(context, EMBEDDED_REPOSITORY)
    return len(found[1]) + len(found[2]) if found else 0


def _sweep_registry(context: Context) -> int:
    return expiry.sweep(context, EMBEDDED_REPOSITORY)


# --- Build cache -------------------------------------------------------------------------------------------------


def _cache_is_ours(context: Context) -> bool:
    """The embedded engine builds for nobody else; on any other engine the cache is everybody's."""
    return context.engine.host == f"unix://{embedded.socket(context.folders)}"


def _prune_cache(context: Context) -> int:
    """Drop what no build has used for the time that files are kept; BuildKit leaves alone what is in use now."""
    unused = {"until": f"{context.settings.keep_days * 24}h"}
    # types-docker has the filters of another request.
    answer = context.engine.client.api.prune_builds(filters=unused, all=True)  # type: ignore[arg-type]
    return int(answer.get("SpaceReclaimed") or 0)


# --- Files -------------------------------------------------------------------------------------------------------


def _old_files(context: Context, images: set[str]) -> Iterator[Path]:
    """What can be thrown away without loss."""
    folders = context.folders
    limit = clock.now().timestamp() - context.settings.keep_days * 86400
    # .context-*: what a build that was killed had put together for the engine.
    old = _traces(context)
    yield from (path for found in (*old, folders.cache.glob(".context-*")) for path in found if _older(path, limit))
    # Named after images: of use as long as the image is there, and perhaps on another engine.
    named = (*folders.verdicts.glob("*.json"), *(folders.cache / "bases").glob("*"))
    yield from (path for path in named if verdict.image_of(path) not in images and _older(path, limit))


def _traces(context: Context) -> list[Iterator[Path]]:
    """What every run leaves."""
    folders = context.folders
    return [folders.reports.glob("*"), folders.logs.glob("*.log"), folders.nightlies.glob("*.json")]


def _doubt(context: Context) -> str | None:
    """Why ages are not to be believed; None if they are."""
    return clock.doubt(when for found in _traces(context) for path in found if (when := _written(path)))


def _written(path: Path) -> dt.datetime | None:
    """When a file was written last; None if it is gone, or has a date that no calendar has."""
    try:
        return dt.datetime.fromtimestamp(path.lstat().st_mtime, dt.UTC)
    except (OSError, OverflowError, ValueError):
        return None


def _older(path: Path, limit: float) -> bool:
    try:
        return path.lstat().st_mtime < limit
    except OSError:
        return False


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)


def _size(path: Path) -> int:
    """Bytes below a path; 0 for one that is gone."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file())


def _used(context: Context, planned: Pruned | None) -> int:
    """Bytes of the engine's layers and of the files that go; nothing is measured, which takes time, for nothing."""
    if planned is None:
        return 0
    return int(context.engine.client.api.df().get("LayersSize") or 0) + sum(map(_size, planned.files))
