"""A smoke run of one image: starts the suite as a program of its own and keeps its verdict."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from build import errors
from build.config.folders import REPOSITORY
from build.config.gpus import AUTO, Selection
from build.config.settings import ENV_PREFIX
from build.errors import EngineError, SmokeError, UsageError
from build.gate import demands, fingerprints, verdict
from build.host import process, stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from build.context import Context
    from build.engine.client import Image
    from build.gate.verdict import Verdict

log = logging.getLogger(__name__)

# What changes how Python and pytest work: not the caller's, but the suite decides which checks there are.
_FOREIGN = ("PYTEST_", "PYTHON")


@dataclass(frozen=True, kw_only=True)
class SmokeOptions:
    """What the suite is told.

    Attributes:
        expect: ``ROUTE=TEXT`` each: the answer to GET ROUTE must contain TEXT.
        gpus: GPUs that the image is given.
        model: Folder of a model, or its name on the hub; None for the one made on the spot.
        numbers: Whether the image's numbers are the ``same`` as its base's, or ``changed``.
    """

    expect: tuple[str, ...] = ()
    gpus: Selection = AUTO
    model: Path | None = None
    numbers: str = "same"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a smoke run ended, if it passed.

    Attributes:
        verdict: The verdict, as it is kept.
        report: Folder of report.json, junit.xml and server.log; None for a verdict that was known already.
        figures: Measured while it ran, such as ``healthy_s``.
    """

    verdict: Verdict
    report: Path | None
    figures: Mapping[str, float]


def known(context: Context, image: Image, options: SmokeOptions) -> Verdict | None:
    """A passing verdict that answers the same question, or None."""
    rules, folder = fingerprints.rules(), context.folders.verdicts
    if options.model is None:
        found = None if demands.shortcoming(folder, image, rules=rules) else verdict.recall(folder, image.id)
    else:
        found = _known_with(folder, image, options.model, rules)
    if found is None:
        return None
    asked = found.configuration
    same = set(options.expect) <= set(asked.get("expect", ()))
    # What was not chosen may be anything.
    return found if same and (options.gpus.word == "auto" or asked.get("gpus") == str(options.gpus)) else None


def _known_with(folder: Path, image: Image, model: Path, rules: str) -> Verdict | None:
    """A passing verdict with the model in a folder. What the hub has under a name is not known here."""
    if not model.is_dir():
        return None
    digest = fingerprints.model(model)
    # A copy of the suite's own model is that model.
    others = (verdict.recall(folder, image.id, model=digest), verdict.recall(folder, image.id))
    return next(
        (
            found
            for found in others
            if found
            and found.ok
            and found.configuration.get("model") == digest
            and not demands.weakness(folder, found, image, rules=rules)
        ),
        None,
    )


def run(context: Context, image: Image, options: SmokeOptions, *, force: bool = False) -> Trial:
    """Test an image, unless a verdict is known.

    Args:
        context: Settings, console, engine.
        image: The image; started by its ID.
        options: What to check.
        force: Test again although a verdict is known.

    Returns:
        The passing verdict, kept from now on.

    Raises:
        SmokeError: The image failed; the verdict that says so is kept.
        EngineError: Something else than the image kept it from being tested; nothing is kept.
    """
    name = image.name
    if not force and (found := known(context, image, options)):
        context.console.note(f"{name} is already verified ({len(found.passed)} checks, {found.finished})")
        return Trial(verdict=found, report=None, figures={})
    rules, report = fingerprints.rules(), _report(context, image)
    with context.console.step("smoke") as progress:
        done = process.run(
            _argv(context, image, options, report),
            env=_environment(context),
            cwd=REPOSITORY,
            on_line=progress,
            without=_FOREIGN,
        )
        document = _read(report, done)
        kept = _keep(context, image, report, rules)
        _judge(name, document, report)
    if kept is None:
        raise EngineError(f"the smoke suite gave no verdict about {name}", hint="the log has its output", see_log=True)
    return Trial(verdict=kept, report=report, figures=document.figures)


def _report(context: Context, image: Image) -> Path:
    """A new folder for a run: two may start in the same second."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{image.short_id}-{secrets.token_hex(4)}"
    folder = context.folders.reports / name
    folder.mkdir(parents=True)
    return folder


def _environment(context: Context) -> dict[str, str]:
    """Variables of the suite's process: it uses this run's engine and folders."""
    folders = {"state": context.folders.state, "cache": context.folders.cache}
    named = {f"{ENV_PREFIX}{name.upper()}": str(path) for name, path in folders.items()}
    return {**context.engine.environment, **named}


def _argv(context: Context, image: Image, options: SmokeOptions, report: Path) -> list[str]:
    argv = [sys.executable, "-m", "pytest", str(fingerprints.SUITE), "--image", image.id, "--report", str(report)]
    argv += ["--gpus", str(options.gpus), "--start-timeout", str(context.settings.start_timeout)]
    argv += ["--numbers", options.numbers]
    if options.model:
        # The suite runs elsewhere than its caller.
        argv += ["--model", str(options.model.absolute() if options.model.exists() else options.model)]
    for expectation in options.expect:
        argv += ["--expect", expectation]
    return [*argv, "-p", "no:cacheprovider"]


@checked(frozen=True, kw_only=True)
class _Check:
    """One check of a report."""

    name: str
    outcome: str


@checked(frozen=True, kw_only=True)
class _Report:
    """What is read of ``report.json``."""

    result: str
    cause: str | None
    line: str | None
    advice: str | None
    checks: tuple[_Check, ...]
    figures: dict[str, float]


_REPORT = TypeAdapter(_Report).validate_python


def _read(report: Path, done: process.Completed) -> _Report:
    """``report.json``; without one the suite did not get as far as the image."""
    if document := stored.read(report / "report.json", _REPORT):
        return document
    words = [line for line in done.tail if line.strip()] or ["it said nothing"]
    worst = ([line for line in words if line.startswith(("ERROR", "E "))] or words[-1:])[0]
    if done.returncode == 4:  # noqa: PLR2004 - pytest's status for a wrong command line
        raise UsageError(f"the smoke suite refused: {worst}", hint="`pytest smoke --help`")
    if full := next((line for line in words if errors.is_full(line)), None):
        raise errors.full(full)
    raise EngineError(f"the smoke suite broke off: {worst}", hint="the log has its output", see_log=True)


def _keep(context: Context, image: Image, report: Path, rules: str) -> Verdict | None:
    """Copy the verdict to where the gate looks for it. An inconclusive run has none.

    Raises:
        EngineError: It was given by other rules than those of today, or is about another image.
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


def _judge(name: str, document: _Report, report: Path) -> None:
    cause, advice = document.cause, document.advice or "read the report"
    if document.result == "inconclusive":
        raise EngineError(f"{name} was not verified ({cause}): {document.line}", hint=advice)
    if document.result != "pass":
        failed = [check.name for check in document.checks if check.outcome == "failed"]
        why = f"{cause}: {document.line}" if document.line else cause
        raise SmokeError(
            f"{name} failed {', '.join(failed[:3]) or 'to start'} ({why})",
            hint=f"{advice}; report: {report}",
        )
