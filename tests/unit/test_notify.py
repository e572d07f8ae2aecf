"""Word to a webhook: when, what, and what becomes of one that is down."""

from __future__ import annotations

import datetime as dt
import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from build.host.files import write_json
from build.nightly import nightlog, notify, record
from build.nightly.record import Record
from tests.unit.fakes import context_of
from tests.unit.loopback import Answer, Asked, serving

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context

SECRET = "T0/B0/hidden-path"  # noqa: S105 - the test's own
ERROR = {"category": "build", "what": "step <3> failed", "hint": "read the log"}


@pytest.fixture(autouse=True)
def log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The end of a night's log."""
    monkeypatch.setattr(nightlog, "PATH", tmp_path / "nightly-build.log")
    lines = [f"line {number}" for number in range(50)]
    nightlog.PATH.write_text("\n".join([*lines, "fetching https://me:word@index.example/"]) + "\n")
    return nightlog.PATH


def context(tmp_path: Path, url: str | None = None, *, file: Path | None = None) -> Context:
    return context_of(tmp_path, notify_url=url, notify_url_file=file)


def nights(where: Context, *verdicts: str) -> Record:
    """Records of one night after the other; returns the last one's."""
    made = Record(started=record.now(), owner="other-host:1:1", flavor="cpu")
    for number, verdict in enumerate(verdicts):
        error = ERROR if verdict == "fail" else None
        # What a run keeps in memory has tuples where what it wrote has lists.
        steps = ({"name": "seal", "within": ("build",), "seconds": 1.0},)
        stamp = f"2026-01-0{number + 1}T02:00:00Z"
        made = replace(made, verdict=verdict, error=error, commit=f"{number:040}", started=stamp, steps=steps)
        write_json(where.folders.nightlies / f"{number}.json", vars(made))
    return made


def test_another_flavors_failure_is_not_this_ones_recovery(tmp_path: Path) -> None:
    got: list[Asked] = []

    def service(asked: Asked) -> Answer:
        got.append(asked)
        return Answer()

    with serving(service) as address:
        where = context(tmp_path, f"http://{address}/{SECRET}")
        failed = nights(where, "pass", "fail")
        passed = replace(failed, flavor="cuda", verdict="pass", error=None, started="2026-01-03T02:00:00Z")
        write_json(where.folders.nightlies / "2.json", vars(passed))
        notify.tell(where, passed)
        assert got == []
        well = replace(passed, flavor="cpu", started="2026-01-04T02:00:00Z")
        write_json(where.folders.nightlies / "3.json", vars(well))
        notify.tell(where, well)
    assert ["nightly (cpu)" in json.loads(asked.body)["text"] for asked in got] == [True]


def told(tmp_path: Path, *verdicts: str) -> list[dict[str, Any]]:
    """What a webhook gets after the last of these nights."""
    got: list[Asked] = []

    def service(asked: Asked) -> Answer:
        got.append(asked)
        return Answer()

    with serving(service) as address:
        where = context(tmp_path, f"http://{address}/{SECRET}")
        notify.tell(where, nights(where, *verdicts))
    assert [asked.path for asked in got] == [f"/{SECRET}"] * len(got)
    return [json.loads(asked.body) for asked in got]


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        (("fail",), "failed"),
        (("pass", "fail"), "failed"),
        (("fail", "fail"), "failed"),
        (("pass",), None),
        (("pass", "pass"), None),
        (("fail", "pass"), "passes again"),
        (("killed", "pass"), "passes again"),
        (("fail", "interrupted", "pass"), "passes again"),
        (("fail", "pass", "interrupted", "pass"), None),
        (("fail", "interrupted"), None),
    ],
)
def test_when_something_is_said(tmp_path: Path, verdicts: tuple[str, ...], word: str | None) -> None:
    messages = told(tmp_path, *verdicts)
    assert len(messages) == (word is not None)
    assert all(list(message) == ["text"] and word in message["text"] for message in messages if word)


def test_a_failure_is_told_with_its_cause_and_the_end_of_the_log(tmp_path: Path) -> None:
    (message,) = told(tmp_path, "fail")
    text = message["text"]
    assert "error[build]: step &lt;3&gt; failed\ntry: read the log" in text
    assert f"commit {0:040}" in text
    assert "line 49" in text
    assert "line 5\n" not in text
    assert "https://[redacted]@index.example/" in text


def test_nobody_is_told_if_nobody_wants_to_know(tmp_path: Path) -> None:
    where = context(tmp_path)
    notify.tell(where, nights(where, "fail"))


def test_the_address_can_stand_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got: list[Asked] = []

    def service(asked: Asked) -> Answer:
        got.append(asked)
        return Answer()

    with serving(service) as address:
        (tmp_path / "hook").write_text(f"http://{address}/{SECRET}\n")
        where = context(tmp_path, file=tmp_path / "hook")
        notify.tell(where, nights(where, "fail"))
    assert [asked.path for asked in got] == [f"/{SECRET}"]
    notify.tell(context(tmp_path, file=tmp_path / "none"), nights(where, "fail"))
    assert "the webhook's address is not readable from" in capsys.readouterr().err


def warned(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str) -> str:
    """The one line that is said about a webhook; it never holds the address."""
    where = context(tmp_path, url)
    notify.tell(where, nights(where, "fail"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    line = said.strip()
    assert line.startswith("warning: notification not sent: ")
    assert "hidden" not in line
    return line


@pytest.mark.parametrize("status", [302, 404, 429, 500])
def test_one_that_refuses_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int) -> None:
    headers = {"Location": "/elsewhere"}
    with serving(lambda _: Answer(status=status, headers=headers)) as address:
        assert str(status) in warned(tmp_path, capsys, f"http://{address}/{SECRET}")


def test_one_that_is_down_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        # Nobody else gets the port, and nothing listens there.
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/{SECRET}"
        assert "ConnectionError" in warned(tmp_path, capsys, address)


def test_one_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert "Timeout" in warned(tmp_path, capsys, f"http://127.0.0.1:{mute.getsockname()[1]}/{SECRET}")


@pytest.mark.parametrize("url", [f"ftp://x/{SECRET}", SECRET, f"http://[/{SECRET}", f"http://\x00/{SECRET}"])
def test_what_is_no_address_is_a_warning_that_does_not_quote_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    warned(tmp_path, capsys, url)


@pytest.mark.parametrize(("hours", "said"), [(19, 0), (21, 1)])
def test_a_nightly_that_is_stuck_is_told_of(tmp_path: Path, hours: int, said: int) -> None:
    got: list[Asked] = []

    def service(asked: Asked) -> Answer:
        got.append(asked)
        return Answer()

    started = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)
    with serving(service) as address:
        where = context(tmp_path, f"http://{address}/{SECRET}")
        stuck = Record(started=started.isoformat(), owner="other-host:1:1", flavor="cpu")
        write_json(where.folders.nightlies / "1.json", vars(stuck))
        notify.tell_stuck(where)
    assert len(got) == said
    assert all(b"is stuck: other-host:1:1 has been running since" in asked.body for asked in got)
