"""What a run tells the job that it is part of. The summaries are files beside this one, as GitHub would show them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from build.cli import ci, main
from build.console import Console
from build.errors import SmokeError
from build.harmless import inert
from build.host import stored

if TYPE_CHECKING:
    from collections.abc import Sequence

SUMMARIES = Path(__file__).parent / "summaries"
DIGEST = "sha256:" + "d" * 64
FORGED = "::set-output name=digest::forged"
HOSTILE = f"{FORGED}\n{FORGED}\r::error::x ##[error]y `` ``` <b>@all</b> | *x* [y](z)\x1b[2J"
CHECKS = (
    {"name": "server/health", "outcome": "passed", "message": ""},
    {
        "name": "openai/chat",
        "outcome": "failed",
        "message": "the answer is empty",
        "log_line": "KeyError: 'x'",
        "log_line_number": 41,
    },
    {"name": "openai/stream", "outcome": "failed", "message": HOSTILE, "log_line": HOSTILE, "log_line_number": 42},
)
MADE = {
    "image": "llm-d-dev:local-1",
    "commit": "c" * 40,
    "verdict": "pass",
    "pinned": f"host:5000/a/b@{DIGEST}",
    "run": f"docker run --rm --gpus all host:5000/a/b@{DIGEST} Qwen/Qwen3-0.6B",
}


@dataclass(kw_only=True)
class Runner:
    """GitHub's side of a job."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.variables = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_RUN_ID": "7",
        }

    @property
    def job(self) -> ci.Job:
        return ci.Job.of(self.variables, None)

    @property
    def summary(self) -> str:
        return (self.folder / "summary.md").read_text(encoding="utf-8").replace(str(self.folder), "FOLDER")

    @property
    def outputs(self) -> dict[str, str]:
        lines = (self.folder / "output").read_text(encoding="utf-8").splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def report(self, result: str, checks: Sequence[dict[str, Any]]) -> Path:
        document = {
            "result": result,
            "cause": None if result == "pass" else "check-failed",
            "line": None if result == "pass" else "openai/chat: the answer is empty",
            "advice": None,
            "checks": list(checks),
            "figures": {"healthy_s": 36.5, "tokens_per_s": 1234.5},
            "header": [
                "image: 111111111111 (llm-d-dev:local-1), flavor cuda",
                "engine: Docker Engine 26.1 at unix:///x",
            ],
        }
        stored.write(self.folder / "report.json", document)
        return self.folder

    def commands(self, printed: str) -> list[str]:
        """Lines that the runner obeys (actions/runner, src/Runner.Common/ActionCommand.cs)."""
        return [line for line in re.split(r"[\r\n]+", printed) if line.lstrip().startswith("::") or "##[" in line]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(folder=tmp_path)


def test_summary_and_outputs_of_an_image_that_passed(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runner.report("pass", CHECKS[:1])
    runner.job.ended("dev", {**MADE, "report": str(folder)})
    assert runner.summary == (SUMMARIES / "passed.md").read_text(encoding="utf-8")
    assert runner.outputs == {"verdict": "pass", "image": MADE["pinned"], "digest": DIGEST, "report": str(folder)}
    assert capsys.readouterr().err == ""


def test_summary_and_annotations_of_an_image_that_failed(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    error = SmokeError(f"it failed openai/chat ({HOSTILE})", hint="look", report=runner.report("fail", CHECKS))
    runner.job.failed("smoke", error)
    assert runner.summary == (SUMMARIES / "failed.md").read_text(encoding="utf-8")
    assert runner.outputs == {"verdict": "fail", "report": str(runner.folder)}
    printed = capsys.readouterr().err
    obeyed = runner.commands(printed)
    assert obeyed == printed.splitlines()
    assert [line.partition("::error title=")[2].partition("::")[0] for line in obeyed] == [
        "smoke%3A openai/chat",
        "smoke%3A openai/stream",
        "smoke%3A error[smoke]",
    ]
    assert obeyed[0] == "::error title=smoke%3A openai/chat::the answer is empty (line 41 of the log: KeyError: 'x')"


def test_of_many_failures_the_first_are_annotated_and_the_rest_counted(
    runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [{**CHECKS[1], "name": f"openai/{number}"} for number in range(30)]
    runner.job.failed("smoke", SmokeError("it failed", hint="look", report=runner.report("fail", checks)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert "21 more checks failed" in lines[-1]


def test_without_a_job_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ci.Job.of({}, None).ended("dev", MADE)
    ci.Job.of({"GITHUB_ACTIONS": "true"}, None).failed("plan", SmokeError("x", hint="y"))
    assert capsys.readouterr().err.splitlines() == ["::error title=plan%3A error[smoke]::x; try: y"]
    assert not list(tmp_path.iterdir())


def test_summary_is_also_written_to_a_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    for _ in range(2):
        ci.Job.of({}, file).ended("quickstart", {"base": {}, "overlay": {**MADE, "report": None}})
    assert file.read_text(encoding="utf-8").count("## quickstart: ✅ passed") == 1


@pytest.mark.parametrize("text", ["::error::x", "  ::error::x", "\u3000::error::x", "a\n\t::error::x", "a ##[error]x"])
def test_nothing_that_is_printed_is_a_command(runner: Runner, capsys: pytest.CaptureFixture[str], text: str) -> None:
    console = Console(quiet=False, folds=True)
    assert not runner.commands(inert(text))
    for say in (console.note, console.warn, console.result):
        say(text)
    console.fail("smoke", text, text)
    with console.step(text) as progress, console.step("inner"):
        progress(text)
    captured = capsys.readouterr()
    assert not runner.commands(captured.out)
    lines = runner.commands(captured.err)
    assert len(lines) == 2
    assert lines[0].startswith("::group::")
    assert lines[1] == "::endgroup::"


def test_text_of_an_annotation_adds_neither_a_property_nor_a_line() -> None:
    told = ci.command("error", "100%0A::x\n\r\x1b[2J", title="a,file=/x::y")
    assert told == r"::error title=a%2Cfile=/x%3A%3Ay::100%250A::x%0A\r\x1b[2J"


def test_json_is_no_command(runner: Runner) -> None:
    text = main._json({"line": HOSTILE})
    assert not runner.commands(text)
    assert json.loads(text)["line"] == HOSTILE


@pytest.mark.parametrize("text", ["", "`", "```", "a`b``c", "x\n\ny", "<b>"])
def test_code_span_holds_any_text(text: str) -> None:
    found = ci.code(text)
    fence = re.match("`+", found)
    assert fence
    inside = found.removeprefix(fence[0]).removesuffix(fence[0])
    assert fence[0] not in re.findall("`+", inside)
    assert "\n" not in found
