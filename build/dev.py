"""The verbs that work on a local vLLM repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build import choice, overlay, publish, trial
from build.git import Repository
from build.overlay import Overlay, Target
from build.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from build.engine import Image
    from build.gate import Pushed
    from build.trial import Options, Trial


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``dev`` is told.

    Attributes:
        path: A vLLM repository.
        ref: A commit-ish of it.
        base: Name of the base; None chooses.
        smoke: Whether to test the image.
        push: Whether to push it, if it passed.
        force: Test again although a verdict is known.
        options: What the smoke suite is told.
    """

    path: Path
    ref: str
    base: str | None
    smoke: bool
    push: bool
    force: bool
    options: Options


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it.

    Attributes:
        image: The overlay.
        overlay: How it was made.
        built: Whether it was built now; otherwise it was there.
        trial: Its smoke run, if there was one.
        pushed: Where it is now, if it was pushed.
    """

    image: Image
    overlay: Overlay
    built: bool
    trial: Trial | None
    pushed: Pushed | None

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        delta = self.overlay.delta
        return {
            "image": self.image.name,
            "id": self.image.id,
            "commit": self.overlay.target.commit.id,
            "version": self.overlay.version,
            "base": self.overlay.base.name,
            "built": self.built,
            "written": len(delta.written),
            "deleted": len(delta.deleted),
            "verdict": "pass" if self.trial else None,
            "pushed": list(self.pushed.names) if self.pushed else [],
            "digest": self.pushed.digest if self.pushed else None,
        }


def dev(context: Context, request: Request) -> Result:
    """Make an overlay of a local ref, test it, push it.

    Raises:
        SourceError: Path or ref cannot be used.
        IncompatibleError: No base fits.
        BuildError: The engine could not build it.
        SmokeError: It is broken; nothing was pushed.
        GateError: What arrived in the registry is not what was tested.
    """
    console = context.console
    source = Repository(request.path)
    try:
        commit = source.commit(request.ref)
        console.note(f"{commit.short} {commit.subject}")
        if source.is_dirty:
            console.note(f"uncommitted work in {request.path} is not in the image")
        if request.push and request.smoke:
            Registry(context.registry).require_reachable()
        target = Target.of(source, commit)
        base, delta = choice.choose(context, target, wanted=request.base)
        made = Overlay(base=base, target=target, delta=delta, expires_after=context.settings.overlay_expires_after)
        image, built = _build(context, made)
    finally:
        source.close()
    tested = trial.run(context, image, request.options, force=request.force) if request.smoke else None
    pushed = publish.push(context, image) if request.push and tested else None
    return Result(image=image, overlay=made, built=built, trial=tested, pushed=pushed)


def _build(context: Context, made: Overlay) -> tuple[Image, bool]:
    tag = f"{context.settings.repository}:local-{made.target.commit.id}"
    if found := overlay.find(context.engine, made):
        context.console.note(f"{tag} is already built")
        context.engine.tag(found.id, tag)
        return context.engine.image(tag), False
    delta = made.delta
    with context.console.step(f"overlay ({len(delta.written)} written, {len(delta.deleted)} deleted)") as progress:
        return overlay.build(context.engine, made, tag=tag, progress=progress), True
