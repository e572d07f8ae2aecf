"""The output of a run for a CI job: a summary, annotations, outputs.

GitHub Actions: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands. All texts may come
from an image, a repository or a server: they are escaped so that none acts as a command, an output or Markdown.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.gate import reports
from build.harmless import harmless, is_in_actions
from build.host.files import write_atomic
from build.host.secrets import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from build.errors import LlmdDevError
    from build.gate.reports import CheckRow, ReportDocument

_WORDS = {"pass": "✅ passed", "fail": "❌ failed", "inconclusive": "⚠️ not verified"}
_TEXT_LIMIT = 500
# GitHub shows at most ten annotations per step.
_ANNOTATIONS = 9
_LISTED = 50


@dataclass(frozen=True, kw_only=True)
class Job:
    """The outputs of a CI job.

    Attributes:
        summary: File for a summary in Markdown; None without one.
        appends: Whether other steps write to the same file.
        outputs: File for the step's outputs; None without one.
        annotates: Whether annotations are shown.
        run_url: Address of the page with the run's artifacts.
    """

    summary: Path | None = None
    appends: bool = False
    outputs: Path | None = None
    annotates: bool = False
    run_url: str | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], summary: Path | None) -> Job:
        """Return the job of a run.

        Args:
            environment: Variables of this process.
            summary: File named on the command line.
        """
        if not is_in_actions(environment):
            return cls(summary=summary)
        shown, outputs = environment.get("GITHUB_STEP_SUMMARY"), environment.get("GITHUB_OUTPUT")
        server, repository, number = (
            environment.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
        )
        return cls(
            summary=summary or (Path(shown) if shown else None),
            appends=summary is None,
            outputs=Path(outputs) if outputs else None,
            annotates=True,
            run_url=f"{server}/{repository}/actions/runs/{number}#artifacts" if number else None,
        )

    def ended(self, verb: str, document: Mapping[str, Any]) -> None:
        """Report the end of a verb. A verb without an image reports nothing.

        Raises:
            OSError: A file cannot be written.
        """
        about = document.get("overlay")
        about = about if isinstance(about, dict) else document
        if "pinned" in about:
            folder = about.get("report")
            self._tell(Ending.of(verb, about, folder=Path(folder) if folder else None))

    def failed(self, verb: str, error: LlmdDevError) -> None:
        """Report the failure of a verb.

        Raises:
            OSError: A file cannot be written.
        """
        self._tell(Ending.of(verb, {}, folder=error.report, error=error))

    def _tell(self, ending: Ending) -> None:
        if self.annotates:
            sys.stderr.write("".join(f"{line}\n" for line in ending.annotations()))
            sys.stderr.flush()
        if self.outputs:
            with self.outputs.open("a", encoding="utf-8") as file:
                file.writelines(f"{name}={_one_line(value)}\n" for name, value in ending.outputs().items())
        if self.summary and self.appends:
            with self.summary.open("a", encoding="utf-8") as file:
                file.write(ending.markdown(self.run_url))
        elif self.summary:
            write_atomic(self.summary, ending.markdown(self.run_url))


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The end of a verb.

    Attributes:
        verb: The verb.
        verdict: ``pass``, ``fail`` or ``inconclusive``; None without a test.
        about: Document of the verb; empty if it failed.
        report: Report of its smoke test; None without one.
        folder: Folder of that report.
        error: The failure.
    """

    verb: str
    verdict: str | None
    about: Mapping[str, Any] = field(default_factory=dict)
    report: ReportDocument | None = None
    folder: Path | None = None
    error: LlmdDevError | None = None

    @classmethod
    def of(
        cls, verb: str, about: Mapping[str, Any], *, folder: Path | None, error: LlmdDevError | None = None
    ) -> Ending:
        """Combine a verb's document or error with the report of its smoke test."""
        report = reports.read(folder) if folder else None
        verdict = report.result if report and error else about.get("verdict")
        return cls(verb=verb, verdict=verdict, about=about, report=report, folder=folder, error=error)

    @property
    def _failed(self) -> Sequence[CheckRow]:
        checks = self.report.checks if self.report else ()
        return [check for check in checks if check.outcome in ("failed", "inconclusive")]

    def outputs(self) -> dict[str, str]:
        """Return the outputs of the step."""
        pinned = str(self.about.get("pinned") or "")
        told = {
            "verdict": self.verdict or "none",
            "image": pinned,
            "digest": pinned.partition("@")[2],
            "report": str(self.folder or ""),
        }
        return {name: value for name, value in told.items() if value}

    def annotations(self) -> Iterator[str]:
        """Yield workflow commands: one for each failed check, or for the error."""
        if self.error is None:
            return
        for check in self._failed[:_ANNOTATIONS]:
            said = f" (line {check.log_line_number} of the log: {check.log_line})" if check.log_line_number else ""
            yield command("error", _short(check.message + said), title=f"{self.verb}: {check.name}")
        more = f"; {len(self._failed) - _ANNOTATIONS} more checks failed" if len(self._failed) > _ANNOTATIONS else ""
        text = f"{_short(self.error.what)}{more}; try: {_short(self.error.hint)}"
        yield command("error", text, title=f"{self.verb}: error[{self.error.word}]")

    def markdown(self, run_url: str | None) -> str:
        """The summary."""
        return "\n".join([*self._lines(run_url), "", ""])

    def _lines(self, run_url: str | None) -> Iterator[str]:
        word = _WORDS.get(self.verdict or "", "❌ failed" if self.error else "done, not tested")
        yield f"## {self.verb}: {word}"
        yield ""
        if self.error:
            yield f"**error[{self.error.word}]** {code(self.error.what)}  "
            yield f"try: {code(self.error.hint)}"
            yield ""
        yield from (f"- {code(line)}" for line in (self.report.header if self.report else ()))
        told = ("image", "commit", "version", "base", "pinned", "run")
        yield from (f"- {name}: {code(str(self.about[name]))}" for name in told if self.about.get(name))
        yield from self._checks()
        yield from self._figures()
        if self.folder:
            where = f", in the [artifacts of this run]({run_url}) if the workflow keeps it" if run_url else ""
            yield ""
            yield f"Report: {code(str(self.folder / reports.PAGE))}{where}"

    def _checks(self) -> Iterator[str]:
        if self.report is None:
            return
        yield ""
        counts = [(name, [check for check in self.report.checks if check.outcome == name]) for name in _OUTCOMES]
        yield "Checks: " + (", ".join(f"{len(found)} {name}" for name, found in counts if found) or "none ran")
        for check in self._failed[:_LISTED]:
            yield f"- **{check.outcome}** {code(check.name)}: {code(check.message)}"
            if check.log_line_number:
                yield f"  - line {check.log_line_number} of the server's log: {code(check.log_line or '')}"
        if len(self._failed) > _LISTED:
            yield f"- and {len(self._failed) - _LISTED} more"
        if self.error and self.report.line_number:
            where = f"line {self.report.line_number} of the server's log"
            yield f"- {code(self.report.cause or '')}, {where}: {code(self.report.line or '')}"

    def _figures(self) -> Iterator[str]:
        if self.report is None or not self.report.figures:
            return
        yield from ("", "| figure | value |", "|---|--:|")
        yield from (
            f"| {re.sub('[^a-z0-9_]', '', name)} | {value:,} |" for name, value in sorted(self.report.figures.items())
        )


_OUTCOMES = ("passed", "failed", "inconclusive", "skipped")


def command(name: str, text: str, **properties: str) -> str:
    """Return a workflow command with escaped text and properties (actions/toolkit, packages/core/src/command.ts)."""
    told = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{name} {told}::{_data(text)}"


def _data(text: str) -> str:
    return harmless(redacted(text)).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def code(text: str) -> str:
    """Return a text as a Markdown code span, which the text cannot end (CommonMark 0.31, section 6.1)."""
    text = _short(text) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _short(text: str) -> str:
    found = _one_line(text)
    return found if len(found) <= _TEXT_LIMIT else f"{found[:_TEXT_LIMIT]}…"


def _one_line(text: str) -> str:
    return " ".join(harmless(redacted(text)).split())
