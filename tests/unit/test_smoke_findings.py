"""From checks to a result, a reason and documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.gate.verdict import Verdict
from smoke.diagnosis.cause import Diagnosis
from smoke.results.findings import EXIT_STATUS, Check, Findings, Tier
from tests.unit import fakes

if TYPE_CHECKING:
    from smoke.results.findings import Outcome

SERVER, OPENAI = Tier(number=3, name="server"), Tier(number=4, name="openai")
IMAGE = replace(fakes.IMAGE, tags=("llm-d-dev:nightly",))
HUB = Diagnosis(cause="hub", line="429", advice="wait", image_at_fault=False)
PARTIAL = Diagnosis(cause="incomplete", line="some", advice="all", image_at_fault=False)


def found(*outcomes: Outcome) -> Findings:
    findings = Findings()
    for number, outcome in enumerate(outcomes):
        findings.add(
            Check(
                name=f"server/{number}",
                contract="The server does it.",
                outcome=outcome,
                seconds=0.1,
                message="it did not\nat all" if outcome == "failed" else "",
            ),
            SERVER,
        )
    return findings


@pytest.mark.parametrize(
    ("outcomes", "result"),
    [
        (["passed", "passed"], "pass"),
        (["passed", "skipped"], "pass"),
        (["passed", "failed"], "fail"),
        (["passed", "inconclusive"], "inconclusive"),
        (["failed", "inconclusive"], "fail"),
        (["skipped", "skipped"], "fail"),
        ([], "fail"),
    ],
)
def test_result(outcomes: list[Outcome], result: str) -> None:
    assert found(*outcomes).result == result


def test_part_of_the_checks_does_not_pass_but_may_fail() -> None:
    findings = found("passed")
    findings.incomplete = PARTIAL
    assert (findings.result, findings.reason) == ("inconclusive", PARTIAL)
    findings = found("passed", "failed")
    findings.incomplete = PARTIAL
    assert findings.result == "fail"


def test_broken_off_run_says_nothing() -> None:
    findings = found("passed", "failed")
    findings.interrupted = True
    assert (findings.result, findings.verdict(IMAGE, {})) == ("inconclusive", None)
    assert findings.reason is not None
    assert findings.reason.cause == "interrupted"


def test_exit_statuses_are_three() -> None:
    assert EXIT_STATUS == {"pass": 0, "fail": 1, "inconclusive": 8}


def test_nothing_ran_is_the_reason() -> None:
    reason = Findings().reason
    assert reason is not None
    assert reason.cause == "nothing-ran"


def test_failed_check_is_the_reason() -> None:
    reason = found("passed", "failed").reason
    assert reason is not None
    assert (reason.cause, reason.line) == ("check-failed", "server/1: it did not")
    assert "The server does it." in reason.advice


def test_diagnosis_is_the_better_reason() -> None:
    findings = found("failed")
    findings.diagnosis = HUB
    assert findings.reason == HUB


def test_pass_has_no_reason() -> None:
    findings = found("passed")
    assert findings.reason is None
    assert findings.report(IMAGE)["cause"] is None


def failed(name: str) -> Findings:
    findings = Findings()
    tier = Tier(number=1, name=name.partition("/")[0])
    findings.add(Check(name=name, contract="It does.", outcome="failed", seconds=0.1, message="it did not"), tier)
    return findings


@pytest.mark.parametrize("name", ["image/files", "binaries/modules", "server/health"])
def test_failed_tier_stops_the_later_ones_only(name: str) -> None:
    findings = failed(name)
    tier = name.partition("/")[0]
    assert findings.reason_to_skip(Tier(number=1, name=tier)) is None
    assert findings.reason_to_skip(OPENAI) == f"not run: the {tier} checks failed"


@pytest.mark.parametrize("name", ["server/metrics", "openai/stop[chat]"])
def test_failed_question_to_the_server_keeps_no_other_tier_from_being_looked_at(name: str) -> None:
    assert failed(name).reason_to_skip(Tier(number=6, name="shutdown")) is None


def test_of_many_failures_the_first_leads_and_the_others_are_counted() -> None:
    reason = found("passed", "failed", "failed", "failed").reason
    assert reason is not None
    assert reason.line == "server/1: it did not (and 2 more)"


def test_nothing_stops_after_a_pass() -> None:
    assert found("passed", "skipped").reason_to_skip(OPENAI) is None


def test_blocked_run_stops_everything() -> None:
    findings = found("passed")
    findings.blocked = "the server died"
    assert findings.reason_to_skip(SERVER) == "not run: the server died"


def test_report() -> None:
    findings = found("passed", "failed")
    findings.figures["healthy_s"] = 1.5
    report = findings.report(IMAGE)
    assert (report["result"], report["image_id"]) == ("fail", IMAGE.id)
    assert report["figures"] == {"healthy_s": 1.5}
    assert report["checks"][0] == {
        "name": "server/0",
        "contract": "The server does it.",
        "outcome": "passed",
        "seconds": 0.1,
        "message": "",
        "log_line": None,
        "log_line_number": None,
    }


def test_verdict_holds_what_was_checked() -> None:
    verdict = found("passed", "failed", "skipped").verdict(IMAGE, {"suite": "x"})
    assert verdict is not None
    assert (verdict.passed, verdict.failed) == (("server/0",), ("server/1",))
    assert Verdict.parse(verdict.statement()) == verdict


def test_inconclusive_run_has_no_verdict() -> None:
    assert found("passed", "inconclusive").verdict(IMAGE, {}) is None


def test_tier_is_in_the_file_name() -> None:
    assert Tier.of(Path("/x/smoke/test_4_openai.py")) == OPENAI
    with pytest.raises(ValueError, match="does not say its tier"):
        Tier.of(Path("test_openai.py"))
