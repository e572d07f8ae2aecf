"""What exists: bases and overlays, their verdicts, where they were pushed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from build import demands, freshness, labels, suite, verdict
from build.git import SHORT_DIGITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from build.context import Context
    from build.engine import Image


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image.

    Attributes:
        image: The image.
        verdict: ``pass``, ``fail``, ``outdated`` (by another version of the suite) or ``untested``.
        digest: Of the manifest in the registry it was last pushed to; None if it was not.
        pushed: Names it has in a registry.
    """

    image: Image
    verdict: str
    digest: str | None
    pushed: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its local names."""
        return tuple(name for name in self.image.tags if name not in self.pushed)

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        marks = self.image.labels
        return {
            "id": self.image.id,
            "names": list(self.names),
            "kind": marks[labels.KIND],
            "flavor": marks.get(labels.FLAVOR),
            "commit": marks.get(labels.COMMIT),
            "version": marks.get(labels.VERSION),
            "base": marks.get(labels.BASE),
            "verdict": self.verdict,
            "digest": self.digest,
            "pushed": list(self.pushed),
            "bytes": self.image.size,
            "created": self.image.created,
        }


def rows(context: Context) -> list[Row]:
    """Bases, then overlays, that have a name in the local repository; of each kind the newest first."""
    rules = suite.rules()
    images = [*context.engine.images(kind="base"), *context.engine.images(kind="overlay")]
    return [_row(context, image, rules) for image in images if image.tags_in(context.settings.repository)]


def _row(context: Context, image: Image, rules: str) -> Row:
    digests = [name.partition("@") for name in image.digests]
    repositories = {repository: digest for repository, _, digest in digests}
    pushed = tuple(name for name in image.tags if name.rpartition(":")[0] in repositories)
    digest = repositories.get(pushed[-1].rpartition(":")[0]) if pushed else None
    return Row(image=image, verdict=_verdict(context, image, rules), digest=digest, pushed=pushed)


def _verdict(context: Context, image: Image, rules: str) -> str:
    folder = context.folders.verdicts
    found = verdict.recall(folder, image.id)
    if found is None:
        return "untested"
    if found.configuration.get("suite") != rules:
        return "outdated"
    if not found.ok:
        return "fail"
    return "untested" if demands.shortcoming(folder, image, rules=rules) else "pass"


_COLOURS = {"pass": "green", "fail": "red", "outdated": "yellow", "untested": "yellow"}


def table(found: Sequence[Row]) -> Table:
    """For a person."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("image", "kind", "commit", "verdict", "age", "size", "pushed digest"):
        shown.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for row in found:
        marks = row.image.labels
        shown.add_row(
            "\n".join(_short(name) for name in row.names),
            f"{marks[labels.KIND]} ({marks.get(labels.FLAVOR, '?')})",
            marks.get(labels.COMMIT, "")[:SHORT_DIGITS],
            f"[{_COLOURS[row.verdict]}]{row.verdict}[/]",
            freshness.age(row.image).removesuffix(" old"),
            f"{row.image.size / 1e9:.2f} GB",
            (row.digest or "not pushed").removeprefix("sha256:")[:SHORT_DIGITS],
        )
    return shown


def _short(name: str) -> str:
    """A name with its commit id cut to what people read."""
    head, dash, tail = name.rpartition("-")
    return f"{head}{dash}{tail[:SHORT_DIGITS]}" if dash and len(tail) > SHORT_DIGITS else name
