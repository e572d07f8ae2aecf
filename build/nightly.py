"""The nightly base: build, seal, test, promote, push."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from build import cuda, labels, lock, publish, seal, trial
from build.folders import REPOSITORY, write_atomic
from build.registry import Registry
from build.trial import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.context import Context
    from build.engine import Image
    from build.flavor import Flavor
    from build.gate import Pushed
    from build.git import Commit
    from build.recipe import Recipe
    from build.trial import Trial

BASE_COMMIT_FILE = REPOSITORY / "base_commit.txt"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``nightly`` is told.

    Attributes:
        flavor: ``cpu`` or ``cuda``.
        force: Build and test again although nothing changed.
        push: Whether to push the base, if it passed.
        wishes: What is asked of a cuda base.
    """

    flavor: str
    force: bool
    push: bool
    wishes: cuda.Wishes = field(default_factory=cuda.Wishes)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it.

    Attributes:
        image: The base, promoted.
        built: Whether it was built now; otherwise it was there.
        trial: Its smoke run.
        pushed: Where it is now, if it was pushed.
    """

    image: Image
    built: bool
    trial: Trial
    pushed: Pushed | None

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "image": self.image.name,
            "id": self.image.id,
            "commit": self.image.labels[labels.COMMIT],
            "version": self.image.labels[labels.VERSION],
            "built": self.built,
            "verdict": "pass",
            "pushed": list(self.pushed.names) if self.pushed else [],
            "digest": self.pushed.digest if self.pushed else None,
        }


def nightly(context: Context, request: Request) -> Result:
    """Make the base that overlays stand on. The old one stays in place until the new one has passed.

    Raises:
        UsageError: It cannot be built as asked for.
        EngineError: No engine answers.
        RegistryError: The registry does not answer, or refuses.
        BusyError: Another nightly runs.
        SourceError: The release cannot be had.
        DiskError: Not enough disk.
        BuildError: The build failed.
        SmokeError: The new base is broken; tags and ``base_commit.txt`` stay.
    """
    # Both must be there before anything is downloaded, and hours before the push.
    engine = context.engine
    if request.push:
        Registry(context.registry).require_reachable()
    context.require_buildkit()
    with (
        lock.held(context.folders.locks, "nightly", doing="building a base"),
        _flavor(context, request) as flavor,
    ):
        commit = flavor.commit()
        fingerprint = _fingerprint(context, flavor, commit)
        found = None if request.force else _find(context, fingerprint)
        image = found or _build(context, flavor, commit, fingerprint)
        # Untagged until it passed; the temporary name keeps `docker image prune` away from it.
        with engine.temporary_tag(image.id):
            tested = trial.run(context, image, Options(), force=request.force)
            if found and tested.report is None:
                context.console.note(f"nothing to do: the last good nightly is of {commit.short} {commit.subject}")
            promoted = _promote(context, image, commit)
        pushed = publish.push(context, promoted) if request.push else None
    return Result(image=promoted, built=found is None, trial=tested, pushed=pushed)


def plan(context: Context, request: Request) -> Recipe:
    """How the base would be built. Needs no engine; with a full commit id and no wheel preflight no network either.

    Raises:
        UsageError: It cannot be built as asked for.
        SourceError: A part cannot be had.
    """
    with _flavor(context, request) as flavor:
        return flavor.recipe()


@contextlib.contextmanager
def _flavor(context: Context, request: Request) -> Iterator[Flavor]:
    if request.flavor == "cuda":
        with cuda.opened(context, request.wishes) as flavor:
            yield flavor
        return
    # What reads the package index takes a while to load.
    from build.cpu import Cpu  # noqa: PLC0415

    yield Cpu(context=context)


def _fingerprint(context: Context, flavor: Flavor, commit: Commit) -> str:
    parts = [flavor.fingerprint(commit), context.settings.nightly_expires_after]
    parts += [path.read_text(encoding="utf-8") for path in (seal.DOCKERFILE, *sorted(seal.INSIDE.glob("*.py")))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _find(context: Context, fingerprint: str) -> Image | None:
    found = context.engine.images(kind="base", fingerprint=fingerprint)
    if found:
        context.console.note(f"base {found[0].short_id} is already built")
    return found[0] if found else None


def _build(context: Context, flavor: Flavor, commit: Commit, fingerprint: str) -> Image:
    context.require_disk(flavor.needed_bytes, what="the base image")
    raw = flavor.build(context.engine, commit)
    marks = {
        **flavor.marks(),
        labels.FINGERPRINT: fingerprint,
        labels.QUAY_EXPIRES: context.settings.nightly_expires_after,
        labels.OCI_CREATED: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with flavor.source(commit) as source:
        image_id = seal.seal(
            context.engine,
            context.engine.image(raw),
            flavor=flavor.name,
            source=source,
            commit=commit,
            marks=marks,
            console=context.console,
        )
    return context.engine.image(image_id)


def _promote(context: Context, image: Image, commit: Commit) -> Image:
    """Point the names at the base: the fixed one first, the file, the moving one last."""
    repository = context.settings.repository
    context.engine.tag(image.id, f"{repository}:nightly-{commit.id}")
    write_atomic(BASE_COMMIT_FILE, f"{commit.id}\n")
    context.engine.tag(image.id, f"{repository}:nightly")
    return context.engine.image(image.id)
