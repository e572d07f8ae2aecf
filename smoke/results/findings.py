"""What a run found out: its checks, its result, and the documents made of them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from build.gate.verdict import Verdict
from smoke.diagnosis.cause import Diagnosis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from build.engine.image import Image

Outcome = Literal["passed", "failed", "skipped", "inconclusive"]
Result = Literal["pass", "fail", "inconclusive"]

EXIT_STATUS: Mapping[Result, int] = {"pass": 0, "fail": 1, "inconclusive": 8}
"""How pytest ends."""

_FILE = re.compile(r"test_(?P<tier>\d+)_(?P<name>\w+)\.py")


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A stage of the suite; the file name of its checks says which: ``test_<number>_<name>.py``."""

    number: int
    name: str

    @classmethod
    def of(cls, path: Path) -> Tier:
        """The tier that a file holds the checks of.

        Raises:
            ValueError: The file is not named after one.
        """
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path.name} does not say its tier: test_<number>_<name>.py")
        return cls(number=int(match["tier"]), name=match["name"])


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check and how it came out.

    Attributes:
        name: ``<tier>/<what is checked>``.
        contract: What it demands of the image, one sentence.
        outcome: ``skipped`` if it did not run or does not apply, with the reason in the message;
            ``inconclusive`` if something other than the image was in the way.
        seconds: How long it took, with what had to be started for it.
        message: Why it did not pass, or what is to be said although it did.
        log_line: What the server's log says of it: the exception that its request raised; None if it says nothing.
        log_line_number: Its number in the log, from 1.
    """

    name: str
    contract: str
    outcome: Outcome
    seconds: float
    message: str
    log_line: str | None = None
    log_line_number: int | None = None


# What such a tier asks is one question of many; the others can be asked all the same.
_INDEPENDENT = ("server", "openai", "numbers")
_FIRST_OF_ALL = "server/health"


def _keeps_from_others(check: Check, tier: Tier) -> bool:
    """Whether later tiers could only repeat that a check failed."""
    return tier.name not in _INDEPENDENT or check.name == _FIRST_OF_ALL


@dataclass(kw_only=True)
class Findings:
    """Everything that a run found out so far.

    Attributes:
        checks: In the order in which they ran, by name.
        diagnosis: Why the server failed.
        blocked: Why no further check can run.
        figures: Measurements by name.
        incomplete: Why the checks that ran are not all there are.
        void: Why nothing that was found counts.
        interrupted: Whether the run was broken off; what failed then may have failed of that.
    """

    checks: dict[str, Check] = field(default_factory=dict)
    diagnosis: Diagnosis | None = None
    blocked: str | None = None
    figures: dict[str, float] = field(default_factory=dict)
    incomplete: Diagnosis | None = None
    void: Diagnosis | None = None
    interrupted: bool = False
    _failed_tier: Tier | None = None

    def add(self, check: Check, tier: Tier) -> None:
        """Note how a check came out."""
        self.checks[check.name] = check
        if check.outcome == "failed" and self._failed_tier is None and _keeps_from_others(check, tier):
            self._failed_tier = tier

    def reason_to_skip(self, tier: Tier) -> str | None:
        """Why a check of a tier shall not run, None if it shall."""
        if self.blocked:
            return f"not run: {self.blocked}"
        if self._failed_tier and self._failed_tier.number < tier.number:
            return f"not run: the {self._failed_tier.name} checks failed"
        return None

    def named(self, outcome: Outcome) -> tuple[str, ...]:
        """Names of the checks with an outcome."""
        return tuple(check.name for check in self.checks.values() if check.outcome == outcome)

    @property
    def counts(self) -> str:
        """How many checks came out how, in words; empty if none ran."""
        numbers = {outcome: len(self.named(outcome)) for outcome in get_args(Outcome)}
        return ", ".join(f"{number} {outcome}" for outcome, number in numbers.items() if number)

    @property
    def result(self) -> Result:
        """What is known about the image. Nothing checked is a failure."""
        if self.interrupted or self.void:
            return "inconclusive"
        if self.named("failed"):
            return "fail"
        if self.incomplete or self.named("inconclusive"):
            return "inconclusive"
        return "pass" if self.named("passed") else "fail"

    @property
    def reason(self) -> Diagnosis | None:
        """Why the image did not pass; None if it did."""
        if self.result == "pass":
            return None
        if self.interrupted:
            return _INTERRUPTED
        return self.void or self.diagnosis or self._failed_check() or self.incomplete or _NOTHING_RAN

    def _failed_check(self) -> Diagnosis | None:
        """What the first check that failed says: within a tier those that others build on come first."""
        names = self.named("failed")
        if not names:
            return None
        name = names[0]
        line = self.checks[name].message.partition("\n")[0]
        more = f" (and {len(names) - 1} more)" if names[1:] else ""
        return Diagnosis(
            cause="check-failed",
            line=f"{name}: {line}{more}",
            advice=f"the image must keep to this: {self.checks[name].contract}",
            image_at_fault=True,
        )

    def report(self, image: Image | None, header: Sequence[str] = ()) -> dict[str, Any]:
        """The document ``report.json``.

        Args:
            image: The image; None if the server ran already.
            header: What was tested where, in words.
        """
        reason = self.reason
        return {
            "result": self.result,
            "cause": reason.cause if reason else None,
            "line": reason.line if reason else None,
            "line_number": reason.line_number if reason else None,
            "advice": reason.advice if reason else None,
            "image_id": image.id if image else None,
            "header": list(header),
            "checks": [asdict(check) for check in self.checks.values()],
            "figures": self.figures,
        }

    def verdict(self, image: Image, configuration: Mapping[str, Any]) -> Verdict | None:
        """What the run says about an image, None if it is inconclusive.

        Args:
            image: The image that was started.
            configuration: What the checks ran with.
        """
        if self.result == "inconclusive":
            return None
        return Verdict(
            image_id=image.id,
            diff_ids=image.diff_ids,
            passed=self.named("passed"),
            failed=self.named("failed"),
            configuration=configuration,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )


_INTERRUPTED = Diagnosis(cause="interrupted", line="the run was broken off", advice="test again", image_at_fault=False)
_NOTHING_RAN = Diagnosis(cause="nothing-ran", line="no check ran", advice="run the whole suite", image_at_fault=True)
