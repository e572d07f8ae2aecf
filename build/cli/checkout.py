"""The user's vLLM repository, which `dev` and `plan` read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from build.base.store import NOT_IN_IMAGES
from build.cli import options
from build.engine.names import Stem
from build.errors import SourceError
from build.source.local_source import LocalSource
from build.source.repository import Repository
from build.source.target import Target
from build.source.worktree import snapshot

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from build.cli.options import Defaults
    from build.console import Console
    from build.context import Context

_NAMED = 5


def add_options(parser: argparse.ArgumentParser, defaults: Defaults) -> None:
    """Which repository, and what of it."""
    # argparse fills in what follows a percent sign.
    shown, named = (str(default).replace("%", "%%") for default in (defaults.source.path, defaults.ref))
    parser.add_argument(
        "source",
        metavar="PATH",
        nargs="?",
        type=lambda text: LocalSource(path=options.path(text), origin=None),
        default=defaults.source,
        help="vLLM repository (default: the one around the current folder if it is vLLM, else VLLM_LOCAL_GIT_DIR, "
        f"else ~/vllm; now: {shown})",
    )
    parser.add_argument(
        "ref",
        metavar="REF",
        nargs="?",
        default=defaults.ref,
        help=f"commit-ish (default: VLLM_LOCAL_REF, else HEAD; now: {named})",
    )
    parser.add_argument("--dirty", action="store_true", help="take the working tree as it is instead of REF")


def path_of(context: Context, arguments: argparse.Namespace) -> Path:
    """Path of the repository; a default is said.

    Raises:
        SourceError: It does not exist.
    """
    source: LocalSource = arguments.source
    path = source.require()
    if source.origin:
        context.console.note(f"{path} ({source.origin})")
    return path


@contextlib.contextmanager
def local(
    path: Path, ref: str, *, dirty: bool, carried: frozenset[str], console: Console
) -> Iterator[tuple[Target, Stem]]:
    """What a local ref or working tree is, and the name of its image, while the block runs.

    Args:
        path: A vLLM repository.
        ref: A commit-ish of it.
        dirty: Take the working tree instead.
        carried: Top-level entries of the working tree that are read although images do not hold them.
        console: For what the user should know.

    Raises:
        SourceError: Path or ref cannot be used.
    """
    with contextlib.closing(Repository(path)) as source:
        if dirty:
            with snapshot(source, carried=carried, absent=NOT_IN_IMAGES) as work:
                console.note(f"{work.head.short} {work.head.subject}, with the uncommitted work")
                if work.unfiltered:
                    console.note(f"git's filters are not run, files go in as they lie: {_few(work.unfiltered)}")
                yield _required(Target.of(work.source, work.commit, apart=work.apart)), work.name
            return
        commit = source.commit(ref)
        console.note(f"{commit.short} {commit.subject}")
        target = _required(Target.of(source, commit))
        _mention_uncommitted_work(source, console)
        yield target, Stem.local(commit.id)


def _required(target: Target) -> Target:
    """The same, if it is vLLM's: before an engine is asked for."""
    target.require_vllm()
    return target


def _few(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more


def _mention_uncommitted_work(source: Repository, console: Console) -> None:
    if not source.is_users:
        # Git itself would refuse (git-config(1), safe.directory): only what was asked for is read.
        console.note(f"{source.path} belongs to another user: its working tree is not looked at (--dirty takes it)")
        return
    try:
        if source.is_dirty:
            console.note(f"uncommitted work in {source.path} is not in the image (--dirty takes it)")
    except SourceError as error:
        # It is not asked for; the commit is all the same.
        console.note(error.what)
