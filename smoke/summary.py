"""The table at the end of a run, in the terminal."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from build.console import HarmlessConsole

if TYPE_CHECKING:
    from smoke.findings import Check, Findings

_COLOURS = {"passed": "green", "failed": "red", "inconclusive": "yellow", "skipped": "dim"}
_RESULTS = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def text(findings: Findings, subject: str, *, width: int, colour: bool) -> str:
    """What is known about what was tested: a row a tier, a row a check that did not pass, and the reason.

    Args:
        findings: What the run found out.
        subject: What was tested, in a word.
        width: Columns of the terminal.
        colour: Whether it shows colours.
    """
    stream = io.StringIO()
    console = HarmlessConsole(
        file=stream,
        width=width,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    if findings.checks:
        console.print(_table(findings))
    counts = findings.counts or "nothing ran"
    console.print(Text(f"{findings.result.upper()} {subject}: {counts}", style=_RESULTS[findings.result]))
    if reason := findings.reason:
        # As one line each, which can be searched for and pasted.
        console.print(Text(f"{reason.cause}: {reason.line}"), soft_wrap=True)
        console.print(Text(f"try: {reason.advice}"), soft_wrap=True)
    return stream.getvalue().rstrip("\n")


def _table(findings: Findings) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("checks", no_wrap=True)
    table.add_column("outcome")
    table.add_column("seconds", justify="right")
    for tier, checks in _by_tier(findings).items():
        outcomes = Counter(check.outcome for check in checks)
        words = Text(", ").join(Text(f"{number} {name}", style=_COLOURS[name]) for name, number in outcomes.items())
        table.add_row(tier, words, f"{sum(check.seconds for check in checks):.1f}")
        for check in checks:
            if check.outcome in ("failed", "inconclusive"):
                shown = Text(check.message.partition("\n")[0] or check.outcome, style=_COLOURS[check.outcome])
                shown.truncate(100, overflow="ellipsis")
                table.add_row(Text(f"  {check.name.partition('/')[2]}"), shown, f"{check.seconds:.1f}")
    return table


def _by_tier(findings: Findings) -> dict[str, list[Check]]:
    tiers: dict[str, list[Check]] = {}
    for check in findings.checks.values():
        tiers.setdefault(check.name.partition("/")[0], []).append(check)
    return tiers
