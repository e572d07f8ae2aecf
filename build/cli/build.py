"""Overlays of remote commits: on GitHub, or a release on the package index."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from build.cli import deliver, options
from build.cli.deliver import Delivery
from build.engine.names import Stem
from build.errors import SourceError
from build.source import releases
from build.source.mirror import Mirror, Remote
from build.source.remotes import REMOTES
from build.source.repository import Repository
from build.source.target import Target

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from build.cli.deliver import Delivered
    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s pull/12345"

PACKAGE_INDEX = "pypi"
"""Name of the package index among the remotes. It has releases, and is reachable from machines without GitHub."""


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare the commit and the options of its overlay."""
    parser.add_argument(
        "commit", metavar="COMMIT", type=options.word, help="full or short ID, branch, tag or pull/NUMBER; or a release"
    )
    parser.add_argument(
        "--remote",
        metavar="NAME",
        type=options.word,
        default="vllm",
        help=f"{', '.join(REMOTES)}, a repository's address, or {PACKAGE_INDEX}: then COMMIT is a release "
        "(default: vllm)",
    )
    deliver.add_options(parser)


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    made = build(context, wanted=arguments.commit, remote=arguments.remote, request=Delivery.of(arguments))
    return context.console.show(made.document())


def build(context: Context, *, wanted: str, remote: str, request: Delivery) -> Delivered:
    """Make an overlay of a remote commit, test it, push it.

    Args:
        context: Settings, console, engine.
        wanted: Full or short ID, branch, tag, or ``pull/123``; for the package index, a release.
        remote: Name of a remote, a repository's address, or :data:`PACKAGE_INDEX`.
        request: Steps and options of the overlay.

    Raises:
        SourceError: The commit cannot be fetched.
        IncompatibleError: No base fits.
        BuildError: The engine could not build the overlay.
        SmokeError: The overlay is broken. Nothing was pushed.
        GateError: The image in the registry is not the tested image.
    """
    target = _release(context, wanted) if remote == PACKAGE_INDEX else _commit(context, wanted, Remote.named(remote))
    deliver.require_registry(context, request)
    with target as found:
        context.console.note(f"{found.commit.short} {found.commit.subject}")
        return deliver.deliver(context, found, request, name=Stem.of_commit(found.commit.id))


@contextlib.contextmanager
def _commit(context: Context, wanted: str, remote: Remote) -> Iterator[Target]:
    mirror = Mirror(context.folders.mirror, console=context.console)
    commit = mirror.commit(remote, wanted)
    with contextlib.closing(Repository(mirror.path)) as source:
        yield Target.of(source, commit, fetch=lambda oids: mirror.fetch_blobs(remote, oids), published=True)


@contextlib.contextmanager
def _release(context: Context, wanted: str) -> Iterator[Target]:
    try:
        version = str(Version(wanted))
    except InvalidVersion as error:
        raise SourceError(
            f"{wanted!r} is not a release of the package index", hint="give one such as 0.32.0, or another --remote"
        ) from error
    commit = releases.ensure(context.folders, context.index, version, console=context.console)
    with contextlib.closing(Repository(context.folders.releases)) as source:
        yield Target.of(source, commit)
