"""Overlays of a local vLLM repository."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from build.errors import SourceError
from build.git import Repository
from build.names import Stem
from build.target import Target
from build.worktree import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.console import Console
    from build.context import Context
    from build.delivery import Request, Result


def dev(context: Context, *, path: Path, ref: str, dirty: bool, request: Request) -> Result:
    """Make an overlay of a local ref or working tree, test it, push it.

    Args:
        context: Settings, console, engine.
        path: A vLLM repository; it is only read.
        ref: A commit-ish of it.
        dirty: Take the working tree as it is, on top of what is checked out, instead of the ref.
        request: What the overlay is to go through.

    Raises:
        SourceError: Path or ref cannot be used.
        IncompatibleError: No base fits.
        BuildError: The engine could not build it.
        SmokeError: It is broken; nothing was pushed.
        GateError: What arrived in the registry is not what was tested.
    """
    from build import delivery  # noqa: PLC0415 - what it needs to talk to an engine; a plan may need none

    with local(path, ref, dirty=dirty, console=context.console) as (target, name):
        delivery.require_registry(context, request)
        return delivery.deliver(context, target, request, name=name)


@contextlib.contextmanager
def local(path: Path, ref: str, *, dirty: bool, console: Console) -> Iterator[tuple[Target, Stem]]:
    """What a local ref or working tree is, and the name of its image, while the block runs.

    Raises:
        SourceError: Path or ref cannot be used.
    """
    with contextlib.closing(Repository(path)) as source:
        if dirty:
            with snapshot(source) as work:
                console.note(f"{work.head.short} {work.head.subject}, with the uncommitted work")
                yield Target.of(work.source, work.commit), work.name
            return
        commit = source.commit(ref)
        console.note(f"{commit.short} {commit.subject}")
        _mention_uncommitted_work(source, console)
        yield Target.of(source, commit), Stem.local(commit.id)


def _mention_uncommitted_work(source: Repository, console: Console) -> None:
    try:
        if source.is_dirty:
            console.note(f"uncommitted work in {source.path} is not in the image (--dirty takes it)")
    except SourceError as error:
        # It is not asked for; the commit is all the same.
        console.note(error.what)
