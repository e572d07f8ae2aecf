"""The requirements for a verdict to count: current rules, the suite's own model, and every check.

The names are those of the suite's checks, ``<tier>/<check>``. A test compares them with the suite.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from build.engine import labels
from build.gate import verdict
from build.gate.ways import STANDARD

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.image import Image
    from build.gate.verdict import Verdict
    from build.gate.ways import Way

_WAYS = "completions completions-stream chat chat-stream responses responses-stream"
_CHOICES = "completions completions-stream chat chat-stream"
_CHATS = "chat chat-stream responses responses-stream"
_APIS = "completions chat responses"
# Each property of an answer, and the ways to ask in which it is looked at.
_CONTRACT = {
    "usage": _WAYS,
    "text": _WAYS,
    "streamed": "completions-stream chat-stream responses-stream",
    "ends": "completions-stream chat-stream",
    "events": "responses-stream",
    "length": _WAYS,
    "stop": _WAYS,
    "n": _CHOICES,
    "logprobs": _WAYS,
    "prompt_logprobs": "completions chat",
    "echo": _CHOICES,
    "seed": _WAYS,
    "logit_bias": _APIS,
    "letters": _WAYS,
    "conversation": _CHATS,
    "bad_parameter": _WAYS,
    "too_long": _WAYS,
    "unknown_model": _WAYS,
    "prefix_cache": "completions chat",
    "client_gone": _WAYS,
}
# The same, of several things each.
_TABLES = {
    "sampling": ("temperature top_p top_k min_p", _APIS),
    "penalty": ("presence_penalty frequency_penalty repetition_penalty", _APIS),
    "structured_output": ("choice regex json", _WAYS),
    "tools": ("auto required named none", _CHATS),
}
# Of every image.
_ALWAYS = {
    "image": "command history secret_files",
    "server": "health routes calls metrics",
    "openai": "models completion completion_is_right completion_stream chat chat_is_right chat_stream responses"
    " tokens[plain] tokens[spaces] tokens[unicode] tokens[special] key[none] key[wrong] many_at_once counters "
    + " ".join(
        [
            *(f"{name}[{way}]" for name, ways in _CONTRACT.items() for way in ways.split()),
            *(
                f"{name}[{kind}-{way}]"
                for name, (kinds, ways) in _TABLES.items()
                for kind in kinds.split()
                for way in ways.split()
            ),
        ]
    ),
    "numbers": "steady as_base",
    "shutdown": "still_healthy no_traceback no_key_in_log sigterm",
}
# Required of bases, overlays and images derived from them, whatever their labels say.
_OURS = {
    "image": "labels description commit files deletions",
    "binaries": "syntax compiled_files source bytecode torch libraries vllm loading modules",
    "server": "version",
}
# Of these, required of images that this tool built from the start. An adopted one keeps its user and its permissions.
_OPEN = {"image": "user", "binaries": "writable"}
# Code compiled for CUDA may load only where the driver is.
_CPU = {"binaries": "operators"}
_CUDA = {"gpu": "devices torch platform product process"}
# Required of bases, and of overlays that do not leave these checks to a base.
_ANY_USER = {"any_user": "health completion"}

EXPECTATION = "server/expectation"
"""The check of an expectation."""


OPTIONAL = frozenset({EXPECTATION, "gpu/memory", "any_user/dead_engine"})
"""Optional checks: of an expectation, of memory, which MIG devices do not report, of an engine with its own process."""


def every() -> frozenset[str]:
    """Return all checks that some image must have passed."""
    return _names(_ALWAYS, _OURS, _OPEN, _CPU, _CUDA, _ANY_USER)


def _names(*tables: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{tier}/{name}" for table in tables for tier, names in table.items() for name in names.split())


_EXACT = (
    "completion_is_right text stop echo sampling penalty prefix_cache tokens[spaces] tokens[unicode] tokens[special]"
)
EXACT = _names({"numbers": _ALWAYS["numbers"]}) | frozenset(
    name
    for name in _names({"openai": _ALWAYS["openai"]})
    if re.search("chat|responses|conversation", name)
    or {name.removeprefix("openai/"), name.removeprefix("openai/").partition("[")[0]} & {*_EXACT.split()}
)
"""Checks that need the suite's own model: of what it says, of what others are not sure of, and of chats."""


def missing(found: Verdict, image: Image) -> list[str]:
    """Return the checks that an image of this kind and flavor must have passed but did not."""
    asked = found.configuration
    kind, flavors = image.labels.get(labels.KIND), {image.labels.get(labels.FLAVOR), asked.get("flavor")}
    ours = kind in ("base", "overlay") or asked.get("sealed") is True
    tables = [_ALWAYS]
    if ours:
        tables += [_OURS] if "cuda" in flavors else [_OURS, _CPU]
    if "cuda" in flavors:
        tables += [_CUDA]
    if ours and labels.ORIGIN not in image.labels:
        tables += [_OPEN] if kind != "base" and asked.get("base") else [_OPEN, _ANY_USER]
    demanded = _names(*tables) - (frozenset() if asked.get("exact") else EXACT)
    lacking = sorted(demanded - set(found.passed))
    # Counted, because pytest writes some characters of a name differently.
    seen = sum(name.startswith(f"{EXPECTATION}[") for name in found.passed)
    expected = [f"{EXPECTATION}[{one}]" for one in asked.get("expect", ())]
    return lacking if seen >= len(expected) else [*lacking, *expected]


def shortcoming(folder: Path, image: Image, *, rules: str, required: Way = STANDARD) -> str | None:
    """Return why the verdict about an image does not open the gate, as the end of a sentence; None if it does.

    Args:
        folder: Folder of verdicts.
        image: The image.
        rules: Fingerprint of the rules as they are now (:func:`build.gate.fingerprints.rules`).
        required: The way of testing that is asked for.
    """
    found = verdict.recall(folder, image.id, required=required)
    if found is None:
        others = "; ".join(sorted({each.way.text or "the standard one" for each in verdict.about(folder, image.id)}))
        return f"was tested only in other ways than the gate asks for ({others})" if others else "was not tested"
    if not found.ok:
        return f"failed its smoke test: {', '.join(found.failed[:3])}"
    if found.configuration.get("suite") == rules and "exact" not in found.configuration:
        return "was tested with a model that its verdict does not tell"
    return weakness(folder, found, image, rules=rules, required=required)


def weakness(folder: Path, found: Verdict, image: Image, *, rules: str, required: Way = STANDARD) -> str | None:
    """Return why a passing verdict, in any way of testing, no longer counts; None if it does.

    Args:
        folder: Folder of verdicts.
        found: The verdict.
        image: The image.
        rules: Fingerprint of the current rules.
        required: The way of testing that is asked of the base to which it leaves some checks.
    """
    if found.diff_ids != image.diff_ids:
        return "has a verdict that names other layers"
    if found.configuration.get("suite") != rules:
        return "was tested by another version of the smoke suite"
    if lacking := missing(found, image):
        return f"was tested without {len(lacking)} of its checks: {', '.join(lacking[:3])}"
    return _base_weakness(folder, found, rules=rules, required=required)


def _base_weakness(folder: Path, found: Verdict, *, rules: str, required: Way) -> str | None:
    """Return why an overlay's base does not answer for the checks left to it; None if it does."""
    base_id = found.configuration.get("base")
    if not base_id:
        return None
    base = verdict.recall(folder, str(base_id), required=required)
    if base and base.ok and base.configuration.get("suite") == rules and base.configuration.get("exact") is True:
        return None if found.diff_ids[: len(base.diff_ids)] == base.diff_ids else "does not stand on the base it names"
    return "leaves some checks to its base, which has no current pass"
