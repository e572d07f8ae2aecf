"""The existing images: bases and overlays, their verdicts and registry names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from build.cli import options
from build.engine import ages, labels, names
from build.engine.names import Upload
from build.gate import demands, fingerprints, reports, verdict, ways
from build.nightly import freshness, record, retention
from build.source.repository import SHORT_DIGITS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from build.cli.options import Defaults
    from build.context import Context
    from build.engine.image import Image
    from build.gate.verdict import Verdict

EXAMPLE = ""


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare the number of nightlies."""
    parser.add_argument("--last", metavar="N", type=options.count, default=5, help="nightlies to show (default: 5)")


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    found = rows(context)
    nights = record.recall(context.folders.nightlies, last=arguments.last)
    context.console.result(table(found))
    for row in found:
        if row.report:
            context.console.result(f"report of {row.called[0]}: {row.report}")
    for row in found:
        if names.is_last_good(row.image, context.settings.repository):
            freshness.tell(context, row.image)
    if nights:
        context.console.result("")
        context.console.result(record.table(nights))
    return {"images": [row.document() for row in found], "nightlies": [night.document() for night in nights]}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image.

    Attributes:
        image: The image.
        verdict: ``pass``, ``fail``, ``outdated`` (of another version of the suite) or ``untested``.
        digest: Digest of the manifest in the registry of the last push; None if it was not pushed.
        pushed: Its names in registries.
        failed_with: Options of the ways of testing in which it failed although it passed as the gate requires.
        changed: Whether it passed with other numbers than its base's, on purpose.
        report: Page of its newest report; None without one.
        own: Bytes that an overlay adds to its base; None for a base, or if the base is not on the engine.
    """

    image: Image
    verdict: str
    digest: str | None
    pushed: tuple[str, ...]
    failed_with: tuple[str, ...]
    changed: bool
    own: int | None
    report: Path | None

    @property
    def names(self) -> tuple[str, ...]:
        """The image's local names."""
        return tuple(name for name in self.image.tags if name not in self.pushed)

    @property
    def called(self) -> tuple[str, ...]:
        """Names that other verbs accept: its local names, else its registry names, else its short ID."""
        return self.names or self.pushed or (self.image.short_id,)

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        marks = self.image.labels
        return {
            "id": self.image.id,
            "name": self.called[0],
            "names": list(self.names),
            "kind": marks[labels.KIND],
            "flavor": marks.get(labels.FLAVOR),
            "commit": marks.get(labels.COMMIT),
            "version": marks.get(labels.VERSION),
            "base": marks.get(labels.BASE),
            "verdict": self.verdict,
            "failed_with": list(self.failed_with),
            "numbers_changed": self.changed,
            "digest": self.digest,
            "pushed": list(self.pushed),
            "bytes": self.image.size,
            "layer_bytes": self.own,
            "created": self.image.created,
            "report": str(self.report) if self.report else None,
        }


def rows(context: Context) -> list[Row]:
    """Return the local repository's bases, then its overlays, unnamed ones too, newest first."""
    rules, repository = fingerprints.rules(), context.settings.repository
    images = [*context.engine.images(kind="base"), *context.engine.images(kind="overlay")]
    pages: dict[str | None, Path] = {}
    for report in reports.kept(context.folders.reports):
        pages.setdefault(report.read.image_id, report.page)
    return [
        _row(context, image, rules, pages.get(image.id)) for image in images if retention.is_ours(image, repository)
    ]


def _row(context: Context, image: Image, rules: str, report: Path | None) -> Row:
    required = ways.required(context.settings)
    found = verdict.recall(context.folders.verdicts, image.id, required=required)
    digests = [name.partition("@") for name in image.digests]
    repositories = {repository: digest for repository, _, digest in digests}
    named = [name for name in image.tags if not Upload.parse(name.rpartition(":")[2])]
    pushed = tuple(name for name in named if name.rpartition(":")[0] in repositories)
    digest = repositories.get(pushed[-1].rpartition(":")[0]) if pushed else None
    judged = _verdict(context, found, image, rules)
    failures = (
        verdict.failed_otherwise(context.folders.verdicts, image.id, rules=rules, required=required)
        if judged == "pass"
        else []
    )
    return Row(
        image=image,
        verdict=judged,
        failed_with=tuple(each.way.text for each in failures),
        digest=digest,
        pushed=pushed,
        changed=bool(found and found.ok and found.changes_numbers),
        own=_own(context, image),
        report=report,
    )


def _own(context: Context, image: Image) -> int | None:
    base = image.labels.get(labels.BASE)
    below = context.engine.find_image(base) if base and image.labels[labels.KIND] == "overlay" else None
    # The engine's size includes the layers below.
    return image.size - below.size if below else None


def _verdict(context: Context, found: Verdict | None, image: Image, rules: str) -> str:
    if found is None:
        return "untested"
    if found.configuration.get("suite") != rules:
        return "outdated"
    if not found.ok:
        return "fail"
    why = demands.shortcoming(context.folders.verdicts, image, rules=rules, required=ways.required(context.settings))
    return "untested" if why else "pass"


_COLOURS = {"pass": "green", "fail": "red", "outdated": "yellow", "untested": "yellow"}


def _judged(row: Row) -> str:
    return f"[{_COLOURS[row.verdict]}]{row.verdict}[/]" + (", numbers changed" if row.changed else "")


def table(found: Sequence[Row]) -> Table:
    """Return the table for a person."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("image", "kind", "commit", "verdict", "age", "size", "layer", "pushed digest"):
        shown.add_column(column, no_wrap=True, justify="right" if column in ("size", "layer") else "left")
    for row in found:
        marks = row.image.labels
        shown.add_row(
            escape("\n".join(row.called)),
            escape(f"{marks[labels.KIND]} ({marks.get(labels.FLAVOR, '?')})"),
            escape(marks.get(labels.COMMIT, "")[:SHORT_DIGITS]),
            "\n".join([_judged(row), *(escape(f"failed with {way}") for way in row.failed_with)]),
            ages.of(row.image).removesuffix(" old"),
            f"{row.image.size / 1e9:.2f} GB",
            "" if row.own is None else decimal(row.own),
            escape((row.digest or "not pushed").removeprefix("sha256:")[:SHORT_DIGITS]),
        )
    return shown
