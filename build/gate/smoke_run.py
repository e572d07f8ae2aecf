"""A smoke run of one image: runs the suite as a program of its own and stores its verdict."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build import errors
from build.config import starting
from build.config.folders import REPOSITORY
from build.config.gpus import AUTO, Selection
from build.config.settings import ENV_PREFIX
from build.errors import EngineError, SmokeError, UsageError
from build.gate import demands, fingerprints, reports, verdict, ways
from build.host import process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from build.context import Context
    from build.engine.image import Image
    from build.gate.verdict import Verdict
    from build.gate.ways import Way

log = logging.getLogger(__name__)

# Variables that change how Python and pytest work are dropped: the suite alone decides about its checks.
_FOREIGN = ("PYTEST_", "PYTHON")


@dataclass(frozen=True, kw_only=True)
class SmokeOptions:
    """The options of the suite.

    Attributes:
        expect: ``ROUTE=TEXT`` each: the answer to GET ROUTE must contain TEXT.
        gpus: GPUs that the image is given.
        model: Folder of a model, or its name on the hub; None for the one made on the spot.
        serve_args: Further arguments of vLLM; None for those of the settings.
        env: Further variables of the server, ``NAME=VALUE`` each; None for those of the settings.
        profile: ``fast`` or ``real``; None for the device's default.
        checks: The user's own checks; None for those of the settings.
        numbers: Whether the image's numbers are the ``same`` as its base's, or ``changed``.
    """

    expect: tuple[str, ...] = ()
    gpus: Selection = AUTO
    model: Path | None = None
    serve_args: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = field(default=None, repr=False)
    profile: str | None = None
    checks: Path | None = None
    numbers: str = "same"

    @property
    def is_standard(self) -> bool:
        """Whether the server is started as the gate asks for it."""
        return self.model is None and self.profile is None and self.serve_args is None and self.env is None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The result of a smoke run that passed.

    Attributes:
        verdict: The stored verdict.
        report: Folder of report.json, report.html, junit.xml and server.log; None if that was pruned.
        figures: Measurements, such as ``healthy_s``.
    """

    verdict: Verdict
    report: Path | None
    figures: Mapping[str, float]


def known(context: Context, image: Image, options: SmokeOptions) -> Verdict | None:
    """Return a passing verdict that answers the same question, or None."""
    rules, folder, required = fingerprints.rules(), context.folders.verdicts, ways.required(context.settings)
    if options.is_standard and demands.shortcoming(folder, image, rules=rules, required=required):
        return None
    return next(
        (
            found
            for found in verdict.about(folder, image.id)
            if found.ok
            and _answers(found, options, required)
            and not demands.weakness(folder, found, image, rules=rules, required=required)
        ),
        None,
    )


def _answers(found: Verdict, options: SmokeOptions, required: Way) -> bool:
    """Whether a verdict is about the way of testing that is asked for, or one that asks for more."""
    way = found.way
    if options.model is None:
        same = way.model is None
    else:
        # What the hub has under a name is not known here. A copy of the suite's own model is that model.
        same = options.model.is_dir() and found.configuration.get("model") == fingerprints.model(options.model)
    serve_args = required.serve_args if options.serve_args is None else options.serve_args
    env = required.env if options.env is None else starting.marks(starting.variables(options.env))
    same = same and (way.serve_args, way.env) == (serve_args, env)
    same = same and (found.configuration.get("profile") if options.profile else way.profile) == options.profile
    checks = fingerprints.checks(options.checks) if options.checks else required.checks
    same = same and checks in (None, way.checks)
    # What was not chosen may be anything.
    return same and set(options.expect) <= way.expect and (options.gpus.word == "auto" or way.gpus == str(options.gpus))


def run(context: Context, image: Image, options: SmokeOptions, *, force: bool = False) -> Trial:
    """Test an image, unless a verdict exists.

    Args:
        context: Settings, console, engine.
        image: The image, started by its ID.
        options: Options of the suite.
        force: Test again although a verdict exists.

    Returns:
        The passing verdict, now stored.

    Raises:
        SmokeError: The image failed. The failing verdict is stored.
        EngineError: The test could not run for another reason than the image. Nothing is stored.
    """
    name = image.name
    if not force and (found := known(context, image, options)):
        context.console.note(f"{name} is already verified ({len(found.passed)} checks, {found.finished})")
        passed = (each for each in reports.kept(context.folders.reports, image) if each.read.result == "pass")
        before = next(passed, None)
        if before:
            context.console.note(f"report: {before.page}")
        return Trial(verdict=found, report=before.folder if before else None, figures={})
    rules, report = fingerprints.rules(), reports.new(context.folders.reports, image)
    with context.console.step("smoke") as progress:
        done = program(context, _words(context, image, options, report), env=carried(options), on_line=progress)
        document = _read(report, done)
        context.console.note(f"report: {report / reports.PAGE}")
        kept = _keep(context, image, report, rules)
        _judge(name, document, report)
    if kept is None:
        raise EngineError(f"the smoke suite gave no verdict about {name}", hint="the log has its output", see_log=True)
    return Trial(verdict=kept, report=report, figures=document.figures)


def program(
    context: Context, words: Sequence[str | Path], *, env: Mapping[str, str], on_line: process.OnLine
) -> process.Completed:
    """Run a program of `smoke` on this run's engine and folders, without importing it.

    Args:
        context: Engine and folders.
        words: Its module, and its words.
        env: Further variables of its process.
        on_line: Called with each line of what it prints.
    """
    return process.run(
        [sys.executable, "-m", *words],
        env=environment(context) | dict(env),
        cwd=REPOSITORY,
        on_line=on_line,
        without=_FOREIGN,
    )


def environment(context: Context) -> dict[str, str]:
    """Return the suite's environment, which points at this run's engine and folders."""
    folders = {"state": context.folders.state, "cache": context.folders.cache}
    named = {f"{ENV_PREFIX}{name.upper()}": str(path) for name, path in folders.items()}
    return {**context.engine.environment, **named}


def carried(options: SmokeOptions) -> dict[str, str]:
    """Variables of the suite's process that tell it what no argument may show."""
    return {} if options.env is None else {starting.CARRIER: json.dumps(options.env)}


def _words(context: Context, image: Image, options: SmokeOptions, report: Path) -> list[str]:
    words = ["pytest", str(fingerprints.SUITE), *started_words(context, image, options, report)]
    words += ["--numbers", options.numbers]
    words += ["--checks", str(options.checks.absolute())] if options.checks else []
    for expectation in options.expect:
        words += ["--expect", expectation]
    return [*words, "-p", "no:cacheprovider"]


def started_words(context: Context, image: Image, options: SmokeOptions, report: Path) -> list[str]:
    """Return the suite's arguments about the start of an image.

    Args:
        context: Settings.
        image: The image; named by its ID.
        options: GPUs, model and arguments.
        report: Folder of its log.
    """
    words = ["--image", image.id, "--report", str(report)]
    words += ["--gpus", str(options.gpus), "--start-timeout", str(context.settings.start_timeout)]
    words += ["--profile", options.profile] if options.profile else []
    words += [f"--serve-arg={each}" for each in options.serve_args or ()]
    if options.model:
        # The suite runs in another folder than its caller.
        words += ["--model", str(options.model.absolute() if options.model.exists() else options.model)]
    return words


def _read(report: Path, done: process.Completed) -> reports.ReportDocument:
    """Read ``report.json``. Without it, the suite did not reach the image."""
    if document := reports.read(report):
        return document
    words = [line for line in done.tail if line.strip()] or ["it said nothing"]
    worst = ([line for line in words if line.startswith(("ERROR", "E "))] or words[-1:])[0]
    if done.returncode == 4:  # noqa: PLR2004 - pytest's status for a wrong command line
        raise UsageError(f"the smoke suite refused: {worst}", hint="`pytest smoke --help`")
    if full := next((line for line in words if errors.is_full(line)), None):
        raise errors.full(full)
    raise EngineError(f"the smoke suite ended early: {worst}", hint="the log has its output", see_log=True)


def _keep(context: Context, image: Image, report: Path, rules: str) -> Verdict | None:
    """Copy the verdict to the gate's folder. An inconclusive run has no verdict.

    Raises:
        EngineError: The verdict was given by other rules than the current ones, or is about another image.
    """
    found = verdict.read(report / "verdict.json")
    if found is None:
        return None
    if found.configuration.get("suite") != rules or found.image_id != image.id:
        raise EngineError(
            f"{image.name} was not verified: the suite changed while it ran", hint="test again, without editing it"
        )
    verdict.record(context.folders.verdicts, found)
    return found


def _judge(name: str, document: reports.ReportDocument, report: Path) -> None:
    cause, advice = document.cause, document.advice or "read the report"
    if document.result == "inconclusive":
        raise EngineError(f"{name} was not verified ({cause}): {document.line}", hint=advice, report=report)
    if document.result != "pass":
        failed = [check.name for check in document.checks if check.outcome == "failed"]
        why = f"{cause}: {document.line}" if document.line else cause
        raise SmokeError(
            f"{name} failed {', '.join(failed[:3]) or 'to start'} ({why})",
            hint=f"{advice}; report: {report}",
            report=report,
        )
