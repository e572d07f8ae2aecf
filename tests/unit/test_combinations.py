"""Every verb's options beside each other: what could not take effect is refused before anything is done."""

from __future__ import annotations

import pytest

from build.cli import combinations, main
from build.cli.verbs import VERBS

OF_TRIALS = {
    "--expect": "--expect /a=b",
    "--gpus": "--gpus auto",
    "--model": "--model org/name",
    "--force": "--force",
    "--numbers": "--numbers changed",
    "--start-timeout": "--start-timeout 9",
    "--serve-arg": "--serve-arg=--x=1",
    "--env": "--env A=b",
    "--checks": "--checks .",
    "--profile": "--profile real",
}
OVERLAYS = ("dev . ", "build main ")
OF_CUDA = {
    "--commit": "--commit main",
    "--remote": "--remote vllm",
    "--llm-d": "--llm-d .",
    "--llm-d-ref": "--llm-d-ref main",
    "--build-arg": "--build-arg A=b",
    "--build-secret": "--build-secret a=b",
    "--compile": "--compile",
    "--no-preflight": "--no-preflight",
    "--builder": "--builder x",
    "--cache-to": "--cache-to local",
}

REFUSED = [
    # Words, what has no effect, beside what.
    *((f"{verb} . {ref} --dirty", "REF", "--dirty") for verb in ("dev", "plan") for ref in ("topic", "HEAD")),
    *((f"{verb}{words} --no-smoke", name, "--no-smoke") for verb in OVERLAYS for name, words in OF_TRIALS.items()),
    *(
        (f"{verb}--registry h.example/n {option}", "--registry", option)
        for verb in OVERLAYS
        for option in ("--no-smoke", "--no-push")
    ),
    *(
        (f"{verb}--registry h.example/n {OF_TRIALS[option]}", "--registry", option)
        for verb in OVERLAYS
        for option in ("--model", "--profile", "--serve-arg", "--env")
    ),
    *((f"{verb}--flavor cpu --base x", "--flavor", "--base") for verb in (*OVERLAYS, "plan . ")),
    ("plan . --base x --base-commit main", "--base", "--base-commit"),
    *((f"nightly --vllm-version 0.32.0 {words}", "--vllm-version", name) for name, words in OF_CUDA.items()),
    ("nightly --vllm-version 0.32.0 --flavor cuda", "--vllm-version", "--flavor"),
    *(
        (f"schedule {action} {words}", words.split()[0], action)
        for action in ("show", "remove")
        for words in ("--at 03:00", "--at 02:00", "--nightly=--no-push")
    ),
]


@pytest.mark.parametrize(("words", "lost", "beside"), REFUSED)
def test_what_has_no_effect_is_refused(words: str, lost: str, beside: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words.split()) == 2
    what, advice = capsys.readouterr().err.splitlines()
    lost = lost.partition("=")[0]
    assert what.startswith(f"error[usage]: {lost} has no effect beside {beside}: ")
    assert advice == f"try: leave out {lost} or {beside}"


def test_every_rule_is_tried() -> None:
    tried = {(words.split()[0], lost.partition("=")[0], beside) for words, lost, beside in REFUSED}
    assert len(tried) >= sum(len(rule.verbs) for rule in combinations.RULES)


@pytest.mark.parametrize(
    "words",
    [
        "dev . --dirty",
        "dev . topic",
        "dev . --no-smoke --no-push",
        "dev . --base auto --flavor cpu",
        "dev . --base x --no-smoke --install-deps --allow-native --with tests",
        "dev . --registry h.example/n",
        "dev . --no-push --expect /a=b --gpus none --model org/x --force --start-timeout 9",
        "build main --no-smoke",
        "plan . --base-commit main --flavor cpu --with tests",
        "plan . --base auto --base-commit main",
        "plan . --dirty --base x",
        "nightly --vllm-version 0.32.0 --flavor cpu --force --no-push --dry-run",
        "nightly --flavor cuda --commit main --compile --no-preflight --cache-to local --no-push",
        "schedule install --at 03:00 --nightly=--no-push",
        "schedule show",
        "smoke x --model org/x --force --expect /a=b --gpus 0 --start-timeout 9",
        "prune --keep-bases 2",
        "status --last 2",
    ],
)
def test_what_has_an_effect_is_not(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for verb in VERBS:
        monkeypatch.setattr(f"build.cli.{verb}.run", lambda _context, _arguments: {})
    assert main.main(words.split()) == 0


@pytest.mark.parametrize("word", ["", "text", "/v1/models", "/v1/models=", "=text", "v1/models=text", "/a b=c"])
@pytest.mark.parametrize("verb", [["dev", "/none"], ["build", "main"], ["smoke", "none"]])
def test_an_expectation_that_is_none_ends_before_anything_else(
    verb: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*verb, "--expect", word]) == 2
    what, _ = capsys.readouterr().err.splitlines()
    assert what.startswith(f"error[usage]: argument --expect: --expect {word!r} is not ROUTE=TEXT")


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--registry", ""],
        ["status", "--state", ""],
        ["status", "--cache", ""],
        ["smoke", ""],
        ["push", ""],
        ["build", ""],
        ["build", "main", "--remote", ""],
        ["dev", ".", "--with", ""],
        ["dev", ".", "--model", ""],
        ["dev", "/none", "--model", "./no-such-folder"],
        ["build", "main", "--model", "/dev"],
        ["nightly", "--commit", ""],
        ["nightly", "--llm-d", ""],
        ["nightly", "--builder", ""],
        ["schedule", "install", "--nightly=--llm-d relative"],
        ["schedule", "install", "--nightly=--build-secret a=relative/file"],
        ["schedule", "install", "--nightly=--dry-run"],
    ],
)
def test_an_empty_or_useless_word_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
