"""The page about a run, and the table in the terminal."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from build.engine import labels
from build.host.secrets import redacted
from smoke.diagnosis.cause import Diagnosis
from smoke.results import report, summary
from smoke.results.findings import Check, Findings, Tier
from tests.unit import fakes

if TYPE_CHECKING:
    from smoke.results.findings import Outcome

HOSTILE = "</code><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\x1b[31m&amp;"
LOG = f"""\
(APIServer pid=1) INFO 11-23 20:58:55 [api_utils.py:347] first
(APIServer pid=1) INFO 11-23 20:59:03 [model.py:2152] Using max model len 512
(EngineCore pid=27) INFO 11-23 20:59:09 [core.py:133] Initializing a V1 LLM engine (v0.32.0+cpu) with config: x
{HOSTILE}
(Worker pid=40) INFO 11-23 20:59:19 [default_loader.py:501] Loading weights took 0.01 seconds
(APIServer pid=1) INFO 11-23 20:59:26 [entry.py:140] Starting vLLM server on http://0.0.0.0:8000
"""
IMAGE = replace(
    fakes.IMAGE,
    tags=("llm-d-dev:nightly",),
    labels={labels.KIND: "overlay", labels.COMMIT: "0123", labels.BASE: "sha256:" + "3" * 64, "note": HOSTILE},
    diff_ids=("sha256:" + "2" * 64, "sha256:" + "4" * 64),
    size=3_890_000_000,
    created="2026-11-23T20:00:00Z",
    config={"User": "2000", "Entrypoint": ["vllm", "serve"], "Env": ["SECRET=of-the-image"]},
)
BASE = replace(fakes.IMAGE, id="sha256:" + "3" * 64, tags=("llm-d-dev:base",), labels={labels.KIND: "base"})
CAUSE = Diagnosis(cause="import-error", line=HOSTILE, advice="look", image_at_fault=True, line_number=4)


def found(outcome: Outcome = "passed", *, message: str = "") -> Findings:
    findings = Findings()
    check = Check(name="server/health", contract="It is.", outcome=outcome, seconds=1.25, message=message)
    findings.add(check, Tier(number=3, name="server"))
    findings.figures["healthy_s"] = 36.5
    return findings


def page(
    findings: Findings, *, log: str = LOG, image: dict[str, Any] | None = None, source: report.ImageSource | None = None
) -> str:
    """A page about a run whose API key was x-secret-x."""
    return report.page(
        findings,
        image=image or report.known(IMAGE, base=BASE, sizes=[3_889_000_000, 1_000_000]),
        configuration={"flavor": "cuda", "gpu_names": ["NVIDIA H100"], "driver": None},
        server_log=log,
        log_name="server.log",
        healthy_s=36.5,
        source=source,
        redacted=lambda text: redacted(text.replace("x-secret-x", "[redacted]")),
    )


class Parsed(HTMLParser):
    """A page's elements and texts."""

    VOID = ("meta", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, *tags: str) -> str:
        return " ".join(data for tag, data in self.texts if not tags or tag in tags)


@pytest.fixture
def failed() -> Findings:
    findings = found("failed", message=HOSTILE)
    findings.diagnosis = CAUSE
    return findings


# --- Nothing on it has power -------------------------------------------------------------------------------


def test_nothing_hostile_becomes_an_element(failed: Findings) -> None:
    parsed = Parsed(page(failed))
    assert not {"script", "img", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in parsed.elements}
    assert all(not name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert parsed.text("code").count("<script>alert(1)</script>") >= 3
    assert "{{ 7*7 }}" in parsed.text("code")
    assert "\x1b" not in page(failed)


def test_it_needs_nothing_from_anywhere(failed: Findings) -> None:
    parsed = Parsed(page(failed))
    links = [value for _, attributes in parsed.elements for name in ("href", "src") if (value := attributes.get(name))]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "url(" not in parsed.text("style")
    assert "@import" not in parsed.text("style")


def test_policy_allows_its_own_style_and_nothing_else(failed: Findings) -> None:
    text = page(failed)
    (policy,) = [meta["content"] for meta in Parsed(text).named("meta") if "http-equiv" in meta]
    assert policy is not None
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_secrets_are_on_no_part_of_it(failed: Findings) -> None:
    secrets = {
        "x-secret-x": "of the run",
        "pass&word": "http://me:pass&word@proxy:3128",
        "hf_abcdefghijklmnopqrstuvwxyz012345": "of the hub",
        "of-the-image": "in its environment",
    }
    told = "x-secret-x http://me:pass&word@proxy:3128 hf_abcdefghijklmnopqrstuvwxyz012345"
    failed.diagnosis = Diagnosis(cause="hub", line=told, advice=told, image_at_fault=True, line_number=1)
    failed.add(
        Check(name=f"server/{told}", contract=told, outcome="failed", seconds=1, message=told),
        Tier(number=3, name="server"),
    )
    image = report.known(IMAGE)
    image["labels"] = [("x", told)]
    text = page(failed, log=f"{told}\n", image=image)
    for secret in secrets:
        assert secret not in text
        assert secret.replace("&", "&amp;") not in text
    assert text.count("[redacted]") >= 10


# --- What is on it -----------------------------------------------------------------------------------------


def test_cause_is_marked_and_linked(failed: Findings) -> None:
    parsed = Parsed(page(failed))
    assert "#L4" in {attributes.get("href") for attributes in parsed.named("a")}
    (marked,) = [line for line in parsed.named("li") if line.get("class") == "cause"]
    assert (marked["id"], marked["value"]) == ("L4", "4")
    assert len(parsed.named("mark")) == 1
    assert "← the cause: import-error" in parsed.text("strong")


def test_pass_marks_nothing() -> None:
    parsed = Parsed(page(found()))
    assert not parsed.named("mark")
    assert "PASS" in parsed.text("span")
    assert "Why" not in parsed.text("h2")


def test_every_link_leads_somewhere(failed: Findings) -> None:
    failed.diagnosis = Diagnosis(cause="x", line="line", advice="x", image_at_fault=True, line_number=9000)
    parsed = Parsed(page(failed, log=LOG + "line\n" * 20_000))
    ids = {attributes["id"] for _, attributes in parsed.elements if "id" in attributes}
    assert {f"#{name}" for name in ids} >= {attributes["href"] for attributes in parsed.named("a")}
    assert "L9000" in ids


def test_line_that_is_not_in_the_log_is_not_linked(failed: Findings) -> None:
    failed.diagnosis = Diagnosis(cause="x", line="x", advice="x", image_at_fault=True, line_number=9000)
    assert "9000" not in page(failed)


def test_line_of_another_text_is_not_taken_for_one_of_the_log(failed: Findings) -> None:
    failed.diagnosis = Diagnosis(cause="x", line="said by the engine", advice="x", image_at_fault=True, line_number=4)
    assert not Parsed(page(failed)).named("mark")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "hf_abcdefghijklmnopqrstuvwxyz012345 ImportError: x",
            "hf_abcdefghijklmnopqrstuvwxyz012345 ImportError: x (a.py:1)",
        ),
        ("  50%\r  ImportError: x", "ImportError: x"),
        ("ImportError: " + "x" * 2000, "ImportError: " + "x" * 487),
        ("\x1b[31mImportError\x1b[0m: x", "ImportError: x"),
    ],
)
def test_line_is_known_again(failed: Findings, line: str, told: str) -> None:
    failed.diagnosis = Diagnosis(cause="x", line=told, advice="x", image_at_fault=True, line_number=2)
    assert len(Parsed(page(failed, log=f"first\n{line}\n")).named("mark")) == 1


def test_it_can_be_read_by_everyone(failed: Findings) -> None:
    parsed = Parsed(page(failed))
    assert parsed.named("html")[0]["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert set(headings[1:]) == {2}
    assert all("scope" in header for header in parsed.named("th"))
    assert len(parsed.named("caption")) == len(parsed.named("table"))
    assert all(image.get("aria-label") for image in parsed.named("svg"))
    assert "failed" in parsed.text("span")


def test_failures_are_first_and_the_rest_is_folded(failed: Findings) -> None:
    for outcome in ("passed", "skipped"):
        check = Check(name=f"openai/{outcome}", contract="", outcome=outcome, seconds=1, message="")
        failed.add(check, Tier(number=4, name="openai"))
    text = page(failed)
    folded = text.index("<details>")
    assert text.index('<th scope="row">server/health</th>') < folded
    assert folded < text.index("openai/passed") < text.index("openai/skipped")
    assert Parsed(text).text("summary") == "1 passed 1 skipped"


def test_exception_of_the_failed_request_is_marked_and_its_traceback() -> None:
    findings = found("failed")
    log = f"{LOG}INFO x\nTraceback (most recent call last):\n  File x\nKeyError: 'x'\nINFO y\n"
    number = log.splitlines().index("KeyError: 'x'") + 1
    check = findings.checks["server/health"]
    findings.checks["server/health"] = replace(check, log_line="KeyError: 'x'", log_line_number=number)
    parsed = Parsed(page(findings, log=log))
    marked = [line["value"] for line in parsed.named("li") if line.get("class") == "traceback"]
    assert marked == [str(number - 2), str(number - 1), str(number)]
    assert "← of the request of server/health" in parsed.text("strong")
    assert f"#L{number}" in {attributes.get("href") for attributes in parsed.named("a")}


def test_source_of_the_image() -> None:
    source = report.ImageSource(commit="c" * 40, subject=HOSTILE, base="b" * 40, changed=("b.py",), deleted=("a.py",))
    text = page(found(), source=source)
    assert "a.py (deleted)\nb.py" in Parsed(text).text("code")
    assert HOSTILE.partition("\x1b")[0] in Parsed(text).text("code")
    many = replace(source, changed=tuple(f"f{number}.py" for number in range(1000)))
    assert "and 801 more" in page(found(), source=many)


def test_lineage() -> None:
    text = Parsed(page(found())).text()
    for word in (
        "overlay",
        "0123",
        "3,890.00 MB",
        "llm-d-dev:base",
        "1.00 MB",
        "vllm serve",
        "NVIDIA H100",
        "not known",
    ):
        assert word in text
    assert [layer["of"] for layer in report.known(IMAGE, base=BASE)["layers"]] == ["base", "this image"]


def test_lineage_without_the_base() -> None:
    assert ("known", "not on this engine") in report.known(IMAGE)["base"]
    assert report.known(BASE)["base"] == []


def test_run_that_found_nothing_has_a_page() -> None:
    text = Parsed(page(Findings(), log="")).text()
    for word in ("FAIL", "nothing ran", "It printed nothing.", "No check ran.", "Nothing was measured."):
        assert word in text


def test_log_in_excerpts() -> None:
    lines = "".join(f"line {number}\n" for number in range(1, 10_001))
    parts = report.excerpt(lines, [5000])
    shown = [line.number for part in parts for line in part.lines]
    assert shown == sorted(shown)
    assert {1, 5000, 10_000} <= set(shown)
    assert len(shown) + sum(part.left_out for part in parts) == 10_000
    assert len(shown) < 2500
    assert {line.text for part in parts for line in part.lines if line.number == 5000} == {"line 5000"}


def test_short_log_is_whole() -> None:
    (part,) = report.excerpt("a\nb\n", [])
    assert (part.left_out, [line.text for line in part.lines]) == (0, ["a", "b"])


def test_long_line_is_cut() -> None:
    (part,) = report.excerpt("x" * 10**6, [])
    assert len(part.lines[0].text) == 4000


# --- Start-up ----------------------------------------------------------------------------------------------


def test_phases_of_a_start() -> None:
    phases = report.phases(LOG, healthy_s=36.5)
    assert [(phase.name, phase.at_s) for phase in phases] == [
        ("starts Python, imports", 0.0),
        ("reads its configuration", 5.5),
        ("starts the engine's process", 13.5),
        ("starts the workers", 19.5),
        ("makes the cache, warms up", 29.5),
        ("opens its port", 36.5),
        ("is healthy", 36.5),
    ]
    assert sum(phase.took_s for phase in phases) == 36.5
    assert [phase.line for phase in phases] == [0, 1, 2, 3, 5, 6, 0]


def test_phases_of_a_start_that_failed() -> None:
    phases = report.phases(LOG.partition("(Worker")[0], healthy_s=None)
    assert [phase.at_s for phase in phases] == [0.0, 8.0, 14.0]


@pytest.mark.parametrize("log", ["", "no time\n", "INFO 13-45 99:99:99 x\n"])
def test_log_without_time(log: str) -> None:
    assert report.phases(log, healthy_s=1.0) == []


def test_clock_that_is_set_back() -> None:
    phases = report.phases("INFO 12-31 23:59:59 x\nINFO 01-01 00:00:00 Using max model len\n", healthy_s=None)
    assert all(phase.took_s >= 0 for phase in phases)


# --- The terminal ------------------------------------------------------------------------------------------


def test_table_in_the_terminal() -> None:
    findings = found()
    findings.add(
        Check(name="openai/chat", contract="It chats.", outcome="failed", seconds=2.0, message="[red]no[/] \nmore"),
        Tier(number=4, name="openai"),
    )
    lines = summary.text(findings, IMAGE.short_id, width=100, colour=False).splitlines()
    assert re.search(r"^server +1 passed +1\.2$", lines[1])
    assert re.search(r"^openai +1 failed +2\.0$", lines[2])
    assert re.search(r"^  chat +\[red\]no\[/\] +2\.0$", lines[3])
    assert lines[4] == "FAIL 111111111111: 1 passed, 1 failed"
    assert lines[5] == "check-failed: openai/chat: [red]no[/] "
    assert lines[6] == "try: the image must keep to this: It chats."


def test_reason_is_not_wrapped() -> None:
    findings = found("failed")
    findings.diagnosis = Diagnosis(cause="hub", line="x" * 300, advice="y" * 300, image_at_fault=True)
    assert f"hub: {'x' * 300}\ntry: {'y' * 300}" in summary.text(findings, IMAGE.short_id, width=60, colour=False)


def test_terminal_without_a_check() -> None:
    assert summary.text(Findings(), IMAGE.short_id, width=80, colour=False).startswith(
        "FAIL 111111111111: nothing ran\n"
    )


def test_colour_only_where_it_is_shown() -> None:
    assert "\x1b[" not in summary.text(found(), IMAGE.short_id, width=80, colour=False)
    assert "\x1b[" in summary.text(found(), IMAGE.short_id, width=80, colour=True)


def test_server_without_an_image() -> None:
    text = Parsed(page(found(), image=report.unknown("http://127.0.0.1:8000"))).text()
    assert "http://127.0.0.1:8000" in text
    assert "The image is not known" in text
