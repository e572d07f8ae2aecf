"""A shell beside a running server, else in the last image that was tested or served."""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any

from build.engine import labels, servers
from build.errors import EngineError, SourceError, UsageError
from build.gate import reports
from build.host import apt, identity, process

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context
    from build.engine.image import Image

EXAMPLE = "%(prog)s llm-d-dev:nightly"

_SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash; exec sh")
# Exit codes of `docker run` and `docker exec` for their own failures (docker/cli, cli/command/container).
_NOT_RUN = range(125, 128)


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """The image."""
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="name, tag or ID (default: the last)")


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    if arguments.json:
        raise UsageError("--json has no effect beside shell, which is interactive", hint="leave out --json")
    image = context.engine.image(arguments.image) if arguments.image else None
    found = servers.running(context.engine, image)
    words = _beside(str(found[0].name)) if found else _apart(image or _last(context))
    context.console.note(f"in {found[0].name}, which serves now" if found else "in a container of its own, no network")
    client = apt.program("docker")
    if client is None:
        raise EngineError("this machine has no Docker client", hint="install the package docker-cli")
    status = process.interactive([client, *words], env=context.engine.environment)
    if status in _NOT_RUN:
        raise EngineError(f"no shell could be started: exit code {status}", hint="the image may have no /bin/sh")
    return {}


def _terminal() -> list[str]:
    return ["-i", *(["-t"] if sys.stdin.isatty() else [])]


def _beside(container: str) -> list[str]:
    return ["exec", *_terminal(), container, *_SHELL]


def _apart(image: Image) -> list[str]:
    """A container that is swept as any other one if this process is killed."""
    name = f"llm-d-dev-{secrets.token_hex(8)}"
    marks = labels.of_container(name, owner=identity.identity())
    given = [word for pair in marks.items() for word in ("--label", "=".join(pair))]
    limits = ["--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    shell, *words = _SHELL
    return ["run", "--rm", *_terminal(), "--name", name, *given, *limits, "--entrypoint", shell, image.id, *words]


def _last(context: Context) -> Image:
    for report in reports.kept(context.folders.reports):
        if report.read.image_id and (image := context.engine.find_image(report.read.image_id)):
            return image
    raise SourceError("no image was tested here that is still on the engine", hint="name one: `python -m build status`")
