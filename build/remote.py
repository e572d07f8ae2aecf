"""Overlays of a commit on GitHub."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from build import delivery
from build.git import Repository
from build.mirror import Mirror, Remote
from build.overlay import Target

if TYPE_CHECKING:
    from build.context import Context
    from build.delivery import Request, Result


def build(context: Context, *, wanted: str, remote: Remote, request: Request) -> Result:
    """Make an overlay of a commit elsewhere, test it, push it.

    Args:
        context: Settings, console, engine.
        wanted: Full or short id, branch, tag, or ``pull/123``.
        remote: Where it is.
        request: What the overlay is to go through.

    Raises:
        SourceError: The commit cannot be had.
        IncompatibleError: No base fits.
        BuildError: The engine could not build it.
        SmokeError: It is broken; nothing was pushed.
        GateError: What arrived in the registry is not what was tested.
    """
    delivery.require_registry(context, request)
    mirror = Mirror(context.folders.mirror, console=context.console)
    commit = mirror.commit(remote, wanted)
    context.console.note(f"{commit.short} {commit.subject}")
    with contextlib.closing(Repository(mirror.path)) as source:
        target = Target.of(
            source,
            commit,
            tag=commit.id,
            fetch=lambda oids: mirror.fetch_blobs(remote, oids),
        )
        return delivery.deliver(context, target, request)
