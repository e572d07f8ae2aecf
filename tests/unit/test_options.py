"""The command line, as words become options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.cli import main, options
from build.cli.options import Defaults
from build.cli.verbs import VERBS
from build.config.settings import Settings
from build.errors import UsageError
from build.source.local_source import LocalSource

if TYPE_CHECKING:
    import argparse

VLLM = LocalSource(path=Path("/home/me/vllm"), origin="the default")


def parse(*words: str) -> argparse.Namespace:
    return options.parse(words, Defaults(source=VLLM, ref="HEAD"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(verb, "--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"usage: python -m build {verb}" in shown
    assert "--json" in shown
    assert "exit codes: 0 done" in shown


def test_help_lists_the_verbs_that_do_something(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    assert re.findall(r"^    (\w+)", capsys.readouterr().out, re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("no-such-verb",),
        ("smoke",),
        ("push",),
        ("build",),
        ("engine",),
        ("engine", "sideways"),
        ("dev", "--no-such-option"),
        ("dev", "a", "b", "c"),
        ("nightly", "--flavor", "tpu"),
        ("smoke", "x", "--gpus", "some"),
        ("dev", "--gpus", "0,0"),
        ("smoke", "x", "--start-timeout", "soon"),
    ],
)
def test_words_that_are_off_are_one_line_and_point_at_the_help(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    what, advice = shown.err.splitlines()
    assert what.startswith("error[usage]: ")
    assert re.fullmatch(r"try: `python -m build( \w+)? --help`", advice)


def test_gpus_are_named_or_not() -> None:
    assert str(parse("smoke", "x").gpus) == "auto"
    assert parse("dev", "--gpus", "0,1").gpus.names == ("0", "1")


def test_dev_works_on_the_default_repository() -> None:
    made = parse("dev")
    assert (made.source, made.ref, made.base, made.smoke, made.push) == (VLLM, "HEAD", "auto", True, True)


def test_dev_is_told_what_to_do() -> None:
    made = parse("dev", "/v", "topic", "--base", "b", "--no-push", "--expect", "/a=b", "--expect", "/c=d")
    assert (made.source.path, made.ref, made.base) == (Path("/v"), "topic", "b")
    assert (made.smoke, made.push, made.expect) == (True, False, ["/a=b", "/c=d"])


def test_nothing_dangerous_or_partial_is_a_default() -> None:
    made = parse("dev")
    assert {made.allow_native, made.install_deps, made.dirty, made.force} == {False}


@pytest.mark.parametrize("verb", ["status", "dev", "nightly", "quickstart"])
def test_settings_on_the_command_line_are_settings(verb: str) -> None:
    assert set(options.SETTING_OPTIONS) <= set(Settings.model_fields)
    made = vars(parse(verb, "--no-install", "--state", "/s", "--cache", "/c", "--registry", "h.example/n"))
    given = {name: made[name] for name in options.SETTING_OPTIONS if made.get(name) is not None}
    assert given == {"install": False, "state": Path("/s"), "cache": Path("/c"), "registry": "h.example/n"}


def test_settings_that_are_not_named_are_left_open() -> None:
    made = vars(parse("nightly"))
    assert {made.get(name) for name in options.SETTING_OPTIONS} == {None}


def test_what_a_scheduled_nightly_is_started_with_is_checked_now() -> None:
    parsed = parse("schedule", "install", "--nightly=--no-push --force")
    assert parsed.nightly == ["--no-push", "--force"]
    with pytest.raises(UsageError, match="--flavour"):
        parse("schedule", "install", "--nightly=--flavour x")


@pytest.mark.parametrize(
    "words", [("nightly",), ("build", "main"), ("dev",), ("plan",), ("schedule", "install")], ids=lambda words: words[0]
)
@pytest.mark.parametrize("flavor", ["auto", "cuda", "cpu"])
def test_every_verb_with_a_flavor_takes_it_as_the_setting(words: tuple[str, ...], flavor: str) -> None:
    assert parse(*words, "--flavor", flavor).flavor == flavor
    assert parse(*words).flavor is None
    assert "flavor" in options.SETTING_OPTIONS
