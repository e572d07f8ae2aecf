"""Two weeks of nights with nobody looking: some fail, and in the end disk and base are as they should be."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from build.engine import labels
from tests.engine import nights
from tests.engine.nights import PAYLOAD_BYTES
from tests.unit.loopback import Answer, Asked, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.nights import Nights

GOOD, AGAIN = "a new commit", "the commit of the night before"
BUILD, BROKEN, REGISTRY = "the build fails", "the base is broken", "the registry is down"
FORTNIGHT = (
    *(GOOD, GOOD, BUILD, AGAIN, BROKEN, GOOD, REGISTRY),
    *(GOOD, BUILD, BROKEN, BUILD, GOOD, AGAIN, GOOD),
)
"""What each night finds."""
EXIT_CODES = {BUILD: 5, BROKEN: 6, REGISTRY: 7}
KEPT = 2
SECRET = "hidden-path"  # noqa: S105 - the test's own

# As Debian's, of one user.
_CRONTAB = """\
#!/bin/sh
case "$1" in
-l) [ -e "$TABLE" ] || { echo "no crontab for me" >&2; exit 1; }; cat "$TABLE" ;;
*) cp "$1" "$TABLE" ;;
esac
"""


@dataclass(frozen=True, kw_only=True)
class Morning:
    """What there is after a night.

    Attributes:
        commit: What the night was about.
        exit_code: How it ended.
        good: Commit of the base that overlays use.
        promised: What ``base_commit-cpu.txt`` says.
        images: How many images these nights have.
        bytes: What they add to what they all stand on.
    """

    commit: str
    exit_code: int
    good: str | None
    promised: str | None
    images: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Fortnight:
    """Fourteen mornings, where that was, and what the webhook was told."""

    own: Nights
    mornings: list[Morning] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def hear(self, asked: Asked) -> Answer:
        """The webhook."""
        self.messages.append(json.loads(asked.body)["text"])
        return Answer()

    def live(self, happens: str, base: Image) -> None:
        """One night."""
        own, number = self.own, len(self.mornings)
        commit = self.mornings[-1].commit if happens == AGAIN else own.commit(f"{number}", broken=happens == BROKEN)
        faults = {BUILD: {"STANDIN_BUILD_FAILS": "ld gave up"}, REGISTRY: {"LLM_D_DEV_REGISTRY": "127.0.0.1:1/x"}}
        ran = own("nightly", "--json", **faults.get(happens, {}))
        assert SECRET not in ran.stdout + ran.stderr
        images = own.engine.images(repository=own.repository)
        good = own.local("nightly-cpu")
        self.mornings.append(
            Morning(
                commit=commit,
                exit_code=ran.returncode,
                good=own.engine.image(good).labels[labels.COMMIT] if good else None,
                promised=own.base_commit,
                images=len(images),
                bytes=sum(image.size - base.size for image in images),
            )
        )


@pytest.fixture(scope="module")
def fortnight(
    engine: Engine, registry_address: str, base: Image, vllm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fortnight]:
    """All of them, one after the other."""
    own = nights.make(engine, registry_address, vllm, tmp_path_factory.mktemp("nights"), "nights")
    own.cli.environment["LLM_D_DEV_KEEP_BASES"] = str(KEPT)
    lived = Fortnight(own=own)
    with serving(lived.hear) as address:
        own.cli.environment["LLM_D_DEV_NOTIFY_URL"] = f"http://{address}/{SECRET}"
        for happens in FORTNIGHT:
            lived.live(happens, base)
        yield lived


def test_each_night_ends_as_what_happens_says(fortnight: Fortnight) -> None:
    assert [one.exit_code for one in fortnight.mornings] == [EXIT_CODES.get(happens, 0) for happens in FORTNIGHT]


def test_the_good_base_is_always_that_of_the_last_good_night(fortnight: Fortnight) -> None:
    expected = None
    for morning in fortnight.mornings:
        expected = morning.commit if morning.exit_code == 0 else expected
        assert (morning.good, morning.promised) == (expected, expected)
    own = fortnight.own
    assert own.served("nightly-cpu") == own.served(f"nightly-{expected}-cpu") == own.local("nightly-cpu")


def test_disk_use_is_flat(fortnight: Fortnight) -> None:
    # The good ones, and perhaps one that did not pass.
    assert max(one.images for one in fortnight.mornings) <= KEPT + 1
    assert fortnight.mornings[-1].images == KEPT
    # In two layers each: as copied, and with the permissions of a base.
    assert fortnight.mornings[-1].bytes < 2.5 * KEPT * PAYLOAD_BYTES
    assert max(one.bytes for one in fortnight.mornings) < 2.5 * (KEPT + 1) * PAYLOAD_BYTES


def test_every_night_has_a_record(fortnight: Fortnight) -> None:
    found = fortnight.own("status", "--last", "14", "--json").json["nightlies"]
    found.reverse()
    for record, morning in zip(found, fortnight.mornings, strict=True):
        assert record["verdict"] == ("fail" if morning.exit_code else "pass")
        assert record["commit"] in (morning.commit, None)
        assert bool(record["error"]) == bool(morning.exit_code)
        assert record["seconds"] >= 0
    full = found[0]
    assert {"seal", "smoke", "push", "prune"} <= {step["name"] for step in full["steps"]}
    assert (full["built"], full["image"][:7]) == (True, "sha256:")
    assert full["bytes"] > PAYLOAD_BYTES
    assert sum(record["freed"] for record in found) > PAYLOAD_BYTES


def test_the_webhook_hears_of_failures_and_recoveries_and_of_nothing_else(fortnight: Fortnight) -> None:
    expected, bad = [], False
    for morning in fortnight.mornings:
        if morning.exit_code or bad:
            expected.append("failed" if morning.exit_code else "passes again")
        bad = bool(morning.exit_code)
    assert len(fortnight.messages) == len(expected)
    assert all(word in message for word, message in zip(expected, fortnight.messages, strict=True))
    assert "error[build]: ld gave up" in fortnight.messages[0]


def test_the_log_tells_all_nights_and_no_secret_is_anywhere(fortnight: Fortnight) -> None:
    own = fortnight.own
    log = (own.cli.checkout / "nightly-build.log").read_text(encoding="utf-8")
    assert log.count(" nightly: a cpu base\n") == len(FORTNIGHT)
    for path in (own.cli.checkout, own.cli.folders.state):
        found = [file for file in path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
        # The test itself is not in that checkout.
        assert found == []


def test_a_failure_shows_in_what_uses_the_base(fortnight: Fortnight) -> None:
    own = fortnight.own
    ran = own("dev", str(own.vllm), "--no-smoke")
    assert ran.returncode == 0, ran.stderr
    assert " old): " in ran.stderr


def test_cron_starts_the_next_night(fortnight: Fortnight, tmp_path: Path) -> None:
    own = fortnight.own
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "crontab").write_text(_CRONTAB, encoding="utf-8")
    (programs / "crontab").chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}", "TABLE": str(tmp_path / "table")}
    installed = own("schedule", "install", "--json", **path)
    assert installed.returncode == 0, installed.stderr
    # crontab(5): the sixth field, % unescaped, and an environment of four variables.
    command = installed.json["entry"].split(None, 5)[5].replace(r"\%", "%")
    bare = ["env", "-i", "SHELL=/bin/sh", f"HOME={os.environ['HOME']}", "PATH=/usr/bin:/bin", "LOGNAME=x"]
    done = subprocess.run([*bare, "/bin/sh", "-c", command], cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (last,) = own("status", "--last", "1", "--json").json["nightlies"]
    assert (last["verdict"], last["built"], last["commit"]) == ("pass", False, fortnight.mornings[-1].commit)
