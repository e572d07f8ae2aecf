"""The nightly base: build, seal, test, promote, push."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build import errors
from build.base import seal, store
from build.config.gpus import AUTO, Selection
from build.engine import ages, content, labels, names
from build.errors import BusyError, LlmdDevError
from build.flavors import cuda
from build.flavors.cpu import Cpu
from build.flavors.cuda_wishes import CudaWishes
from build.gate import ending, publish, smoke_run
from build.gate.smoke_run import SmokeOptions
from build.host import lock
from build.host.retry import patiently
from build.nightly import nightlog, notify, promotion, pruning, record, renaming
from build.nightly.promotion import Promoted
from build.nightly.retention import is_ours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.context import Context
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.flavors.flavor import Flavor
    from build.flavors.recipe import Recipe
    from build.nightly.record import Recorder
    from build.source.repository import Commit

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BaseRequest:
    """The request of a nightly.

    Attributes:
        flavor: ``cpu`` or ``cuda``.
        force: Build and test again although nothing changed.
        push: Whether to push a base that passed.
        wishes: Options of a cuda base.
        gpus: GPUs for the smoke test.
    """

    flavor: str
    force: bool
    push: bool
    wishes: CudaWishes = field(default_factory=CudaWishes)
    gpus: Selection = AUTO


def nightly(context: Context, request: BaseRequest) -> Promoted:
    """Build, test and promote the base of overlays. The old base stays in use until the new one has passed.

    Raises:
        UsageError: The request is not valid.
        EngineError: No engine answers.
        RegistryError: The registry does not answer, or refuses.
        BusyError: Another nightly runs.
        SourceError: The source is not available.
        DiskError: Not enough disk.
        BuildError: The build failed.
        SmokeError: The new base failed; tags and the file with the commit are unchanged.
    """
    with nightlog.written(), _alone(context, request.flavor):
        return _attended(context, request)


def plan(context: Context, request: BaseRequest) -> Recipe:
    """Return how the base would be built.

    Needs no engine. With a full commit id and without preflight, it needs no network either.

    Raises:
        UsageError: The request is not valid.
        SourceError: A part is not available.
    """
    with _flavor(context, request) as flavor:
        return flavor.recipe()


@contextlib.contextmanager
def _alone(context: Context, flavor: str) -> Iterator[None]:
    """Hold the nightlies' lock. If a stuck nightly holds it, send a notification.

    All flavors share the lock: each nightly prunes at its end, and unfinished bases have no name yet.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.held(context.folders.locks, "nightly", doing=f"building a {flavor} base"))
        except BusyError as error:
            log.warning("%s", error.what)
            notify.tell_stuck(context)
            raise
        yield


def _attended(context: Context, request: BaseRequest) -> Promoted:
    """Run unattended, with record, pruning and notification."""
    recording = record.kept(context.folders.nightlies, flavor=request.flavor, console=context.console)
    with contextlib.ExitStack() as told, recording as recorder:
        # After the record is closed.
        told.callback(lambda: notify.tell(context, recorder.record))
        with _pruned(context, recorder):
            return _run(context, request, recorder)


@contextlib.contextmanager
def _pruned(context: Context, recorder: Recorder) -> Iterator[None]:
    """Prune when the block ends, also after a failure: failing nightlies must not fill the disk."""
    try:
        yield
    finally:
        if not isinstance(sys.exception(), KeyboardInterrupt):
            _prune(context, recorder)


def _prune(context: Context, recorder: Recorder) -> None:
    """Prune. An error of it does not fail the nightly."""
    try:
        recorder.update(freed=pruning.carry_out(context).freed)
    except Exception as error:
        if not isinstance(error, LlmdDevError) and not errors.is_the_engines(error):
            raise
        context.console.warn(f"nothing was pruned: {errors.as_ours(error).what}")


def _run(context: Context, request: BaseRequest, recorder: Recorder) -> Promoted:
    # Check engine and registry before the downloads, and hours before the push.
    if request.push:
        context.open_registry().require_reachable()
    context.require_buildkit()
    renaming.rename(context)
    with _flavor(context, request) as flavor:
        commit = flavor.commit()
        recorder.update(commit=commit.id)
        fingerprint = _fingerprint(flavor, commit, context.settings.nightly_expires_after)
        found = None if request.force else _find(context, flavor, fingerprint)
        image = promotion.candidate(context, found or _built(context, flavor, commit, fingerprint))
    recorder.update(image=image.id, bytes=image.size, built=found is None)
    tested = smoke_run.run(context, image, SmokeOptions(gpus=request.gpus), force=request.force)
    if found and tested.report is None:
        context.console.note(
            f"nothing to do: the last good {request.flavor} nightly is of {commit.short} {commit.subject}"
        )
    promoted = promotion.promote_nightly(context, image, commit)
    pushed = publish.push(context, promoted) if request.push else None
    recorder.update(digest=pushed.digest if pushed else None)
    told = ending.ending(context, promoted, pushed=pushed)
    return Promoted(image=promoted, built=found is None, trial=tested, pushed=pushed, ending=told)


@contextlib.contextmanager
def _flavor(context: Context, request: BaseRequest) -> Iterator[Flavor]:
    if request.flavor == "cuda":
        with cuda.opened(context, request.wishes) as flavor:
            yield flavor
        return
    yield Cpu(context=context)


def _fingerprint(flavor: Flavor, commit: Commit, expires_after: str) -> str:
    parts = [flavor.fingerprint(commit), expires_after, f"schema {store.SCHEMA}"]
    parts += seal.recipe_texts()
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _find(context: Context, flavor: Flavor, fingerprint: str) -> Image | None:
    """Find a base with the same fingerprint: preferably a promoted one, then one of this tool, then any.

    A base that is too old for its flavor does not count, because its packages lack updates. An image derived from a
    base does not count either, although it inherits the labels.
    """
    repository = context.settings.repository
    found = sorted(
        filter(content.is_genuine, context.engine.images(kind="base", fingerprint=fingerprint)),
        key=lambda image: (names.promoted(image, repository), is_ours(image, repository)),
        reverse=True,
    )
    current = [image for image in found if not ages.is_older(image, flavor.rebuild_after)]
    if current:
        context.console.note(f"base {current[0].short_id} is already built")
    elif found:
        age = ages.of(found[0])
        context.console.note(f"base {found[0].short_id} is {age}: rebuilding it with today's packages")
    return next(iter(current), None)


def _built(context: Context, flavor: Flavor, commit: Commit, fingerprint: str) -> Image:
    return patiently(lambda: _build(context, flavor, commit, fingerprint), say=context.console.note)


def _build(context: Context, flavor: Flavor, commit: Commit, fingerprint: str) -> Image:
    context.require_disk(_needed(context.engine, flavor), what="the base image")
    raw = context.engine.image(flavor.build(context.engine, commit))
    marks = {
        **flavor.marks(),
        labels.FINGERPRINT: fingerprint,
        labels.QUAY_EXPIRES: context.settings.nightly_expires_after,
        labels.OCI_CREATED: record.now(),
        labels.REPOSITORY: context.settings.repository,
    }
    with flavor.source(commit) as source:
        image_id = seal.seal(
            context.engine,
            raw,
            flavor=flavor.name,
            source=source,
            commit=commit,
            marks=marks,
            console=context.console,
        )
    # The base has its layers; left alone, it would outlive the base.
    context.engine.discard(raw)
    return context.engine.image(image_id)


def _needed(engine: Engine, flavor: Flavor) -> int:
    """Return the bytes that a build needs: a first build's, or twice the newest base (image plus cache or upload)."""
    sizes = [image.size for image in engine.images(kind="base", flavor=flavor.name)]
    return max(flavor.needed_bytes, 2 * next(iter(sizes), 0))
