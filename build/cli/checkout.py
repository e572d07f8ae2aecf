"""The user's vLLM repository, the input of `dev` and `plan`."""

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
    """Declare the repository and the ref."""
    # argparse expands percent signs.
    shown, named = (str(default).replace("%", "%%") for default in (defaults.source.path, defaults.ref))
    parser.add_argument(
        "source",
        metavar="PATH",
        nargs="?",
        type=lambda text: LocalSource(path=options.path(text), origin=None),
        default=defaults.source,
        help="vLLM repository (default: the one around the current folder if that is vLLM, else VLLM_LOCAL_GIT_DIR, "
        f"else ~/vllm; now: {shown})",
    )
    parser.add_argument(
        "ref",
        metavar="REF",
        nargs="?",
        default=defaults.ref,
        help=f"commit-ish (default: VLLM_LOCAL_REF, else HEAD; now: {named})",
    )
    parser.add_argument("--dirty", action="store_true", help="take the working tree instead of REF")


def path_of(context: Context, arguments: argparse.Namespace) -> Path:
    """Return the path of the repository. Show a note for a default.

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
    """Yield the target and image name of a local ref or working tree.

    Args:
        path: A vLLM repository.
        ref: Commit-ish in the repository.
        dirty: Whether to take the working tree instead.
        carried: Top-level entries of the working tree to read although images do not hold them.
        console: Console for notes.

    Raises:
        SourceError: Path or ref cannot be used.
    """
    with contextlib.closing(Repository(path)) as source:
        if dirty:
            with snapshot(source, carried=carried, absent=NOT_IN_IMAGES) as work:
                console.note(f"{work.head.short} {work.head.subject}, with the uncommitted work")
                if work.unfiltered:
                    console.note(f"git's filters are not run, files go in unchanged: {_few(work.unfiltered)}")
                yield _required(Target.of(work.source, work.commit, apart=work.apart)), work.name
            return
        commit = source.commit(ref)
        console.note(f"{commit.short} {commit.subject}")
        target = _required(Target.of(source, commit))
        _mention_uncommitted_work(source, console)
        yield target, Stem.local(commit.id)


def _required(target: Target) -> Target:
    """Return the target if it is vLLM's, before an engine is needed."""
    target.require_vllm()
    return target


def _few(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more


def _mention_uncommitted_work(source: Repository, console: Console) -> None:
    if not source.is_users:
        # Git itself would refuse (git-config(1), safe.directory), so only the requested commit is read.
        console.note(f"{source.path} belongs to another user: its working tree is ignored (--dirty takes it)")
        return
    try:
        if source.is_dirty:
            console.note(f"uncommitted work in {source.path} is not in the image (--dirty takes it)")
    except SourceError as error:
        # The working tree was not requested; the commit is usable.
        console.note(error.what)
