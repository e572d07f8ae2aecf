"""The report of a run on a broken stand-in, in a real browser."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest

from build.console import Console
from build.host import apt
from tests.standin import trial
from tests.standin.image import build_standin, changed

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.standin.trial import Outcome

BROWSER = "chromium-headless-shell"
_TIMEOUT_S = 90

# The stand-in prints secrets that are in no part of the image, and what a browser must not take for its own.
_HOSTILE = """\
import os, sys
print("key", os.environ.get("VLLM_API_KEY"), "hf_" + "abcdefghijklmnopqrstuvwxyz012345", flush=True)
print("proxy http://me:" + "word@proxy:3128", flush=True)
print("<script>document.title='taken over'</script><img src=http://localhost:9/x.png>", flush=True)
print("</code></li></ol><h2>PASS</h2>", flush=True)
"""


@pytest.fixture(scope="session")
def browser() -> str:
    apt.ensure((BROWSER,), allowed=True, console=Console(quiet=False))
    found = apt.program(BROWSER)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def broken(engine: Engine, system: Image, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run on a stand-in whose source has a syntax error, and whose log is hostile."""
    program = _HOSTILE + "os.execvp(sys.argv[1], sys.argv[1:])"
    entrypoint = json.dumps(["/opt/vllm/bin/python", "-c", program])
    changes = [f"ENTRYPOINT {entrypoint}", "ENV STANDIN_FAULT=syntax-error"]
    with changed(engine, build_standin(engine, system.tags[0]), changes) as image_id:
        return trial.run(engine, image_id, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def wrong(engine: Engine, system: Image, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run on a stand-in that serves, raises something while it answers, and answers wrongly."""
    with changed(engine, build_standin(engine, system.tags[0]), ["ENV STANDIN_FAULT=traceback,wrong-text"]) as image_id:
        return trial.run(engine, image_id, tmp_path_factory.mktemp("report"))


def shown(browser: str, page: Path, scratch: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page; what the browser complains of is in its error output."""
    # User namespaces, which its sandbox needs, are not for everybody; what it shows is our own page.
    alone = ["--no-sandbox", "--disable-gpu", f"--user-data-dir={scratch}", "--enable-logging=stderr"]
    return subprocess.run(
        [browser, *alone, *options, f"file://{page}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=_TIMEOUT_S,
        env={"PATH": os.environ["PATH"], "HOME": str(scratch), "LANG": "C.UTF-8"},
    )


def test_browser_shows_the_cause_and_has_nothing_to_complain_of(broken: Outcome, browser: str, tmp_path: Path) -> None:
    assert (broken.status, broken.report["cause"]) == (1, "syntax-error"), broken.text
    number = broken.report["line_number"]
    ran = shown(browser, broken.folder / "report.html", tmp_path, "--dump-dom")
    assert "CONSOLE" not in ran.stderr
    assert f'<li value="{number}" id="L{number}" class="cause"><mark><code>SyntaxError: expected' in ran.stdout
    assert f'<a href="#L{number}">' in ran.stdout


def test_hostile_log_stays_text_in_the_browser(broken: Outcome, browser: str, tmp_path: Path) -> None:
    document = shown(browser, broken.folder / "report.html", tmp_path, "--dump-dom").stdout
    assert "&lt;script&gt;document.title='taken over'&lt;/script&gt;&lt;img src=" in document
    assert "<title>FAIL: " in document
    assert not re.search(r"<(?:script|img|iframe|link)\b", document)
    assert document.count("<h1") == 1
    assert "&lt;h2&gt;PASS&lt;/h2&gt;" in document


def test_policy_would_stop_a_script_that_got_in(broken: Outcome, browser: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    text = (broken.folder / "report.html").read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", "</main><script>document.title='taken over'</script>"), encoding="utf-8")
    ran = shown(browser, page, tmp_path / "browser", "--dump-dom")
    assert "Content Security Policy" in ran.stderr
    assert "<title>FAIL: " in ran.stdout


def test_exception_of_the_request_that_failed_is_marked(wrong: Outcome) -> None:
    failed = next(check for check in wrong.report["checks"] if check["outcome"] == "failed")
    assert failed["log_line"] == "KeyError: 'x'", wrong.text
    page = (wrong.folder / "report.html").read_text(encoding="utf-8")
    number = failed["log_line_number"]
    assert (wrong.folder / "server.log").read_text(encoding="utf-8").split("\n")[number - 1] == "KeyError: 'x'"
    assert f'<li value="{number}" id="L{number}" class="traceback"><mark>' in page


@pytest.mark.parametrize("run", ["broken", "wrong"])
def test_phone_shows_it_without_scrolling_sideways(
    run: str, request: pytest.FixtureRequest, browser: str, tmp_path: Path
) -> None:
    report = request.getfixturevalue(run).folder / "report.html"
    script = """\
    addEventListener("load", () => {
      const page = document.querySelector("iframe").contentDocument;
      for (const folded of page.querySelectorAll("details")) folded.open = true;
      document.title = `${page.documentElement.scrollWidth} of ${page.documentElement.clientWidth}`;
    });"""
    frame = f'<iframe width="360" height="800" style="border:0" src="file://{report}"></iframe>'
    page = tmp_path / "phone.html"
    page.write_text(f"<!doctype html><body>{frame}<script>{script}</script>", encoding="utf-8")
    options = ("--allow-file-access-from-files", "--dump-dom", "--hide-scrollbars")
    seen = shown(browser, page, tmp_path / "browser", *options).stdout
    assert "<title>360 of 360</title>" in seen, seen[:300]


@pytest.mark.parametrize(("scheme", "bright"), [(1, True), (0, False)], ids=["light", "dark"])
def test_page_follows_the_readers_colours(
    broken: Outcome, browser: str, tmp_path: Path, scheme: int, *, bright: bool
) -> None:
    picture = tmp_path / "page.png"
    options = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=900,700", "--hide-scrollbars")
    shown(browser, broken.folder / "report.html", tmp_path / "browser", *options, f"--screenshot={picture}")
    assert (sum(_corner(picture)) > 3 * 128) == bright


def _corner(picture: Path) -> tuple[int, ...]:
    """Red, green and blue of a PNG's first pixel (ISO/IEC 15948)."""
    content = picture.read_bytes()
    data, place = b"", 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        if content[place + 4 : place + 8] == b"IDAT":
            data += content[place + 8 : place + 8 + length]
        place += length + 12
    # After the first row's filter, which can change nothing of its first pixel.
    return tuple(zlib.decompress(data)[1:4])


def test_no_secret_is_in_any_document(broken: Outcome) -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in broken.folder.iterdir()}
    assert set(texts) == {"report.json", "report.html", "verdict.json", "junit.xml", "server.log"}
    assert texts["server.log"].startswith("key [redacted] [redacted]\nproxy http://[redacted]@proxy:3128\n")
    for name, text in {**texts, "the terminal": broken.text}.items():
        assert "hf_abcdef" not in text, name
        assert "me:word@" not in text, name
