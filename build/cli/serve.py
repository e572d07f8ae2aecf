"""Serve a model with an image, set up as in its smoke test, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from build.cli import options, smoke
from build.errors import EngineError, SmokeError, UsageError
from build.gate import reports, smoke_run
from build.host import scratch, stored

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = "%(prog)s llm-d-dev:nightly"


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare the image and its start."""
    options.add_image(parser)
    smoke.add_start_options(parser)


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    if arguments.json:
        raise UsageError("--json has no effect beside serve: it prints the server's log", hint="leave out --json")
    image = context.engine.image(arguments.image)
    asked = smoke_run.SmokeOptions(**smoke.start_of(arguments))
    report = reports.new(context.folders.reports, image)
    try:
        with scratch.folder() as folder:
            words = smoke_run.started_words(context, image, asked, report)
            key = ("--key-file", Path(folder, "key"))
            smoke_run.program(
                context, ["smoke.serve", *words, *key], env=smoke_run.carried(asked), on_line=context.console.result
            )
    except KeyboardInterrupt:
        context.console.note(f"ended; its log: {report / reports.LOG}")
        return {"log": str(report / reports.LOG)}
    raise _failure(image.name, report)


def _failure(name: str, report: Path) -> SmokeError | EngineError:
    """Return the reason why a server ended."""
    said = stored.read(report / "ended.json", TypeAdapter(dict[str, Any]).validate_python)
    if said is None:
        return EngineError(f"{name} could not be served", hint="the log has the reason", see_log=True)
    what, hint = f"{name} does not serve ({said['cause']}: {said['line']})", str(said["advice"])
    if said["image_at_fault"]:
        return SmokeError(what, hint=f"{hint}; log: {report / reports.LOG}")
    return EngineError(what, hint=hint)
