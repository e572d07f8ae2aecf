"""Pruning: frees disk by removing this tool's obsolete images and files."""

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
    """The result of pruning, or the plan for it.

    Attributes:
        applied: Whether anything was removed.
        decisions: Decision about each image of this tool.
        files: Old reports, logs, records, verdicts and copies.
        pushed: Number of expired images in the embedded registry, plus the tags that killed pushes left there.
        cache: Whether old build cache is removed too.
        freed: Freed bytes; an upper bound if nothing was removed.
    """

    applied: bool
    decisions: tuple[Decision, ...]
    files: tuple[Path, ...]
    pushed: int
    cache: bool
    freed: int

    def document(self) -> dict[str, Any]:
        """Return the document for ``--json``."""
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
        """Return the decisions as a table."""
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("image", "kind", "", "why"):
            shown.add_column(column, overflow="fold")
        for one in self.decisions:
            what = "[green]stays[/]" if one.keep else "[red]goes[/]"
            shown.add_row(escape(one.image.name), one.image.labels[labels.KIND], what, escape(one.why))
        return shown

    @property
    def summary(self) -> str:
        """The result in one line."""
        going = sum(not one.keep for one in self.decisions)
        things = f"{going} images, {self.pushed} in the registry, {len(self.files)} old files"
        things += ", old build cache" if self.cache else ""
        if self.applied:
            return f"removed {things}: {self.freed / 1e9:.2f} GB freed"
        return f"would remove {things}: up to {self.freed / 1e9:.2f} GB; --apply does it"


def prune(context: Context, *, apply: bool) -> Pruned:
    """Find what is obsolete. Remove it if ``apply`` is set and no nightly runs.

    Raises:
        BusyError: A nightly runs.
        EngineError: No engine answers.
    """
    if not apply:
        return _plan(context)
    with lock.held(context.folders.locks, "nightly", doing="pruning"):
        return carry_out(context)


def carry_out(context: Context) -> Pruned:
    """Remove what is obsolete. The caller holds the nightly's lock, because unfinished bases have no name yet."""
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
        context.console.warn(f"nothing is removed because of its age: {rules.doubt}")
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
    """Remove an image name by name, without force: an image that got another name meanwhile stays."""
    try:
        for name in image.tags:
            # A concurrent `dev` may have moved the name to a new image.
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
    """Return the number of expired images in the embedded registry. Other registries have their own rules."""
    if context.settings.registry:
        return 0
    found = expiry.waiting(context, EMBEDDED_REPOSITORY)
    return len(found[1]) + len(found[2]) if found else 0


def _sweep_registry(context: Context) -> int:
    return expiry.sweep(context, EMBEDDED_REPOSITORY)


# --- Build cache -------------------------------------------------------------------------------------------------


def _cache_is_ours(context: Context) -> bool:
    """Return whether the engine is the embedded one. Other engines share their build cache with other users."""
    return context.engine.host == f"unix://{embedded.socket(context.folders)}"


def _prune_cache(context: Context) -> int:
    """Drop build cache that is unused for ``keep_days``. BuildKit keeps entries that are in use."""
    unused = {"until": f"{context.settings.keep_days * 24}h"}
    # types-docker declares the filters of another request.
    answer = context.engine.client.api.prune_builds(filters=unused, all=True)  # type: ignore[arg-type]
    return int(answer.get("SpaceReclaimed") or 0)


# --- Files -------------------------------------------------------------------------------------------------------


def _old_files(context: Context, images: set[str]) -> Iterator[Path]:
    """Yield files and folders that are older than ``keep_days``."""
    folders = context.folders
    limit = clock.now().timestamp() - context.settings.keep_days * 86400
    # .context-*: build contexts of killed builds.
    old = _traces(context)
    yield from (path for found in (*old, folders.cache.glob(".context-*")) for path in found if _older(path, limit))
    # Named after images: needed while the image exists. The image may be on another engine.
    named = (*folders.verdicts.glob("*.json"), *(folders.cache / "bases").glob("*"))
    yield from (path for path in named if verdict.image_of(path) not in images and _older(path, limit))


def _traces(context: Context) -> list[Iterator[Path]]:
    """Return the files that runs leave: reports, logs and records."""
    folders = context.folders
    return [folders.reports.glob("*"), folders.logs.glob("*.log"), folders.nightlies.glob("*.json")]


def _doubt(context: Context) -> str | None:
    """Return why ages are not reliable, or None if they are."""
    return clock.doubt(when for found in _traces(context) for path in found if (when := _written(path)))


def _written(path: Path) -> dt.datetime | None:
    """Return a file's modification time, or None if the file is gone or the time is out of range."""
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
        log.warning("%s was not removed: %s", path, error)


def _size(path: Path) -> int:
    """Return the bytes below a path, 0 if it is gone."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file())


def _used(context: Context, planned: Pruned | None) -> int:
    """Return the bytes of the engine's layers and of the planned files. Without a plan, skip the slow measurement."""
    if planned is None:
        return 0
    return int(context.engine.client.api.df().get("LayersSize") or 0) + sum(map(_size, planned.files))
