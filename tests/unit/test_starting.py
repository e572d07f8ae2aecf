"""Further arguments and variables of a server under test: which are taken, and where their values show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.cli import main
from build.config import settings, starting
from build.errors import UsageError
from build.gate import demands, fingerprints, smoke_run, verdict, ways
from smoke.server import launch
from smoke.suite import suite_options
from tests.standin.verdicts import passing
from tests.unit.fakes import IMAGE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "word", ["--tensor-parallel-size=2", "--no-enable-prefix-caching", "-O3=x", "--model-impl=auto"]
)
def test_an_argument_of_vllm_is_taken(word: str) -> None:
    assert starting.argument(word) == word


@pytest.mark.parametrize(
    "word",
    [
        *("--host=0.0.0.0", "--port=1", "--api-key=x", "--api_key=x", "--served-model-name=x", "--model=x"),
        *("--serv=x", "--config=x.yaml", "--uds=/x", "2", "", "--a b"),
    ],
)
@pytest.mark.parametrize("verb", ["smoke x", "serve x", "dev .", "build main"])
def test_an_argument_that_leads_requests_elsewhere_is_refused_at_once(
    word: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*verb.split(), f"--serve-arg={word}"]) == 2
    assert capsys.readouterr().err.startswith("error[usage]: ")


def test_what_the_suite_sets_is_reserved() -> None:
    assert {*launch.OWN_VARIABLES, "VLLM_API_KEY"} == starting.RESERVED_VARIABLES
    for name in starting.RESERVED_VARIABLES:
        with pytest.raises(UsageError, match=name):
            starting.variable(f"{name}=1")


@pytest.mark.parametrize("word", ["sesame", "=sesame", "1A=sesame", "VLLM_API_KEY=sesame"])
def test_a_variable_that_is_refused_does_not_show_its_value(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["smoke", "x", "--env", word]) == 2
    assert "sesame" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"), [("SERVE_ARGS", '["--port=1"]'), ("ENV", '["sesame"]'), ("ENV", '["HF_HUB_OFFLINE=sesame"]')]
)
def test_settings_are_judged_alike(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LLM_D_DEV_{name}", value)
    with pytest.raises(UsageError) as caught:
        settings.load({})
    assert "sesame" not in f"{caught.value.what}{caught.value.hint}"


def test_values_reach_the_suite_by_its_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    options = smoke_run.SmokeOptions(env=("A=sesame",), serve_args=("--x=1",))
    assert "sesame" not in repr(options)
    for name, value in smoke_run.carried(options).items():
        monkeypatch.setenv(name, value)
    assert suite_options.starting_with((), ()) == {"serve_args": (), "env": {"A": "sesame"}}


def test_what_is_given_takes_the_place_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_D_DEV_SERVE_ARGS", '["--x=1"]')
    monkeypatch.setenv("LLM_D_DEV_ENV", '["A=1"]')
    assert suite_options.starting_with((), ()) == {"serve_args": ("--x=1",), "env": {"A": "1"}}
    assert suite_options.starting_with(("--y",), ("B=2",)) == {"serve_args": ("--y",), "env": {"B": "2"}}


@pytest.mark.parametrize("started", [{"serve_args": ["--x=1"]}, {"env": list(starting.marks({"A": "1"}))}])
def test_the_gate_asks_for_the_start_that_the_settings_name(
    started: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict.record(tmp_path, passing(IMAGE, **started))
    rules = fingerprints.rules()
    assert "only in other ways" in (demands.shortcoming(tmp_path, IMAGE, rules=rules) or "")
    monkeypatch.setenv(
        f"LLM_D_DEV_{next(iter(started)).upper()}", '["--x=1"]' if "serve_args" in started else '["A=1"]'
    )
    assert demands.shortcoming(tmp_path, IMAGE, rules=rules, required=ways.required(settings.load({}))) is None
