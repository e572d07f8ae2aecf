"""Each property of an answer, missed in one way to ask at a time: the check of that way says so, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from build.gate import demands
from tests.engine.faults import WAYS
from tests.standin import trial

if TYPE_CHECKING:
    from pathlib import Path

_CHOICES, _APIS, _CHATS, _STREAMS = WAYS[:4], WAYS[::2], WAYS[2:], WAYS[1::2]
_TOGETHER = "many_at_once"
"""The check that asks for completions with all kinds of parameters."""
_PATIENT = ("--answer-timeout", "40")
"""Long enough for a sound answer on a busy machine; what never comes is waited for as long."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault of the stand-in and the checks that find it.

    Attributes:
        fault: Its name.
        ways: The ways to ask that it is tried in, one in each run.
        failed: The checks that must fail, ``{way}`` for the way.
        together: The way in which ``many_at_once`` finds it too; empty if in none.
    """

    fault: str
    ways: tuple[str, ...]
    failed: tuple[str, ...]
    together: str = ""

    def checks(self, way: str) -> set[str]:
        """The checks that must fail if the server has this fault in a way to ask."""
        also = {_TOGETHER} if way and way == self.together else set()
        return {f"openai/{name}" for name in {check.format(way=way) for check in self.failed} | also}


def _row(fault: str, ways: tuple[str, ...], *failed: str, together: str = "") -> Row:
    return Row(fault=fault, ways=ways, failed=failed, together=together)


def _tools(*choices: str) -> tuple[str, ...]:
    return tuple(f"tools[{choice}-{{way}}]" for choice in choices)


ROWS = (
    _row("miscounts", WAYS, "usage[{way}]", "counters"),
    _row("broken-stream", _STREAMS, "text[{way}]", together="completions-stream"),
    _row("stream-in-one-piece", _STREAMS, "streamed[{way}]"),
    _row("no-done", ("completions-stream", "chat-stream"), "ends[{way}]"),
    _row("more-after-usage", ("chat-stream",), "ends[{way}]"),
    _row("numbers-wrongly", ("responses-stream",), "events[{way}]"),
    _row("too-short", WAYS, "length[{way}]"),
    _row("ignores-stop", WAYS, "stop[{way}]", together="completions"),
    _row("ignores-n", _CHOICES, "n[{way}]"),
    _row("positive-logprobs", WAYS, "logprobs[{way}]"),
    _row("logprobs-out-of-order", WAYS, "logprobs[{way}]"),
    _row("logprobs-of-others", WAYS, "logprobs[{way}]"),
    _row("wrong-prompt-logprobs", ("completions", "chat"), "prompt_logprobs[{way}]"),
    _row("ignores-echo", _CHOICES, "echo[{way}]"),
    _row("ignores-seed", WAYS, "seed[{way}]", together="completions"),
    _row("ignores-temperature", _APIS, "sampling[temperature-{way}]", "seed[{way}]", "bad_parameter[{way}]"),
    _row("ignores-top_p", _APIS, "sampling[top_p-{way}]", "bad_parameter[{way}]"),
    _row("ignores-top_k", _APIS, "sampling[top_k-{way}]", together="completions"),
    _row("ignores-presence_penalty", _APIS, "penalty[presence_penalty-{way}]"),
    _row("ignores-min_p", _APIS, "sampling[min_p-{way}]"),
    _row("ignores-frequency_penalty", _APIS, "penalty[frequency_penalty-{way}]"),
    _row("ignores-repetition_penalty", _APIS, "penalty[repetition_penalty-{way}]"),
    _row("ignores-response_format", _CHOICES, "structured_output[json-{way}]"),
    _row("ignores-text", ("responses", "responses-stream"), "structured_output[json-{way}]"),
    _row("breaks-letters", WAYS, "letters[{way}]"),
    _row("cuts-arguments", _CHATS, *_tools("auto", "required", "named")),
    _row("ignores-tool_choice", _CHATS, *_tools("required", "named")),
    _row("drops-a-message", ("chat", "chat-stream"), "conversation[{way}]"),
    _row("ignores-instructions", ("responses", "responses-stream"), "conversation[{way}]"),
    _row("no-400", WAYS, "bad_parameter[{way}]"),
    _row("bare-400", WAYS, "bad_parameter[{way}]"),
    _row("takes-too-long", WAYS, "too_long[{way}]"),
    _row("no-404", WAYS, "unknown_model[{way}]"),
    _row("stale-prefix", ("completions", "chat"), "prefix_cache[{way}]"),
    _row("works-on", WAYS, "client_gone[{way}]"),
)
# What keeps others from being found, each in a run of its own, in the ways that it is tried in.
ALONE = (
    _row(
        "ignores-logit_bias",
        _APIS,
        "logit_bias[{way}]",
        *(f"penalty[{name}_penalty-{{way}}]" for name in ("presence", "frequency", "repetition")),
        together="completions",
    ),
    _row(
        "ignores-structured_outputs",
        _CHATS,
        "structured_output[choice-{way}]",
        "structured_output[regex-{way}]",
        "letters[{way}]",
        "tools[auto-{way}]",
    ),
    _row("counts-wrong,drops-spaces,open-to-delete", ("",), "counters", "tokens[spaces]", "key[none]", "key[wrong]"),
    _row("mixes-up", ("",), _TOGETHER),
    _row("keeps-cancelled", ("",), *(f"client_gone[{way}]" for way in WAYS)),
    *(
        _row(
            fault,
            ("",),
            *(check, f"text[{api}-stream]", f"stop[{api}]", f"stop[{api}-stream]"),
            *(f"sampling[{name}-{api}]" for name in ("temperature", "top_p", "top_k", "min_p")),
            *others,
        )
        for fault, api, check, *others in (
            ("wrong-chat", "chat", "chat_is_right", _TOGETHER),
            ("wrong-response", "responses", "responses"),
        )
    ),
    _row("wavers", ("chat",), "text[{way}]", "chat_is_right"),
)

HARMLESS = "no-seeds-among-many"
"""A fault of vLLM's that no check may run into: a request with a seed is asked while the server does little else."""


def _tried(folder: Path, chosen: list[tuple[Row, str]], *options: str) -> tuple[trial.Outcome, set[str]]:
    """A run on a server with some faults, and the checks that must fail."""
    faults = ",".join(f"{row.fault}@{way}" if way else row.fault for row, way in chosen)
    with trial.serving(folder / "vllm", faults, own=True) as url:
        outcome = trial.run_url(url, folder / "report", *options, VLLM_API_KEY=trial.KEY)
    return outcome, set().union(*(row.checks(way) for row, way in chosen))


@pytest.mark.parametrize("turn", range(len(WAYS)))
def test_property_that_is_missed_in_one_way_to_ask_is_found_there(tmp_path: Path, turn: int) -> None:
    chosen = [(row, row.ways[(number + turn) % len(row.ways)]) for number, row in enumerate(ROWS)]
    outcome, expected = _tried(tmp_path, chosen, *_PATIENT)
    assert outcome.named("failed") == expected, outcome.text
    assert f"(and {len(expected) - 1} more)" in outcome.report["line"]
    assert "shutdown/still_healthy" in outcome.named("passed")


@pytest.mark.parametrize("row", ALONE, ids=lambda row: row.fault)
def test_what_other_checks_build_on_is_found(tmp_path: Path, row: Row) -> None:
    # Six checks, one after the other, wait in vain for the cancelled requests to end.
    options = ("--answer-timeout", "20") if row.fault == "keeps-cancelled" else _PATIENT
    outcome, expected = _tried(tmp_path, [(row, way) for way in row.ways], *options)
    found = outcome.named("failed")
    # An answer that is another one each time is not what others expect either.
    assert found >= expected if row.fault == "wavers" else found == expected, outcome.text


@pytest.mark.parametrize("fault", ["", HARMLESS])
def test_sound_server_passes(tmp_path: Path, fault: str) -> None:
    outcome, _ = _tried(tmp_path, [(_row(fault, ("",)), "")] if fault else [])
    assert outcome.status == 0, outcome.text
    of_api = {name for name in demands.every() if name.startswith("openai/")}
    assert of_api <= outcome.named("passed")
