"""Conflicts between options: an option without effect is refused, or its loss would go unnoticed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

_OVERLAYS = ("build", "dev")
_OF_TRIALS = ("expect", "gpus", "model", "numbers", "force", "start_timeout", "serve_args", "env", "checks", "profile")
OF_CUDA = {
    "commit": "--commit",
    "remote": "--remote",
    "llm_d": "--llm-d",
    "llm_d_ref": "--llm-d-ref",
    "compile": "--compile",
    "builder": "--builder",
    "cache_to": "--cache-to",
    "build_args": "--build-arg",
    "build_secrets": "--build-secret",
    "preflight": "--no-preflight",
}
"""Options of the cuda flavor by attribute, in the order of messages."""


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Two options, one of which makes the other ineffective.

    Attributes:
        verbs: Verbs with both options.
        lost: The ineffective option.
        beside: The option that makes it ineffective.
        why: The reason, in words.
        when: Whether the given values conflict. Default: all values do.
    """

    verbs: tuple[str, ...]
    lost: str
    beside: str
    why: str
    when: Callable[[argparse.Namespace], bool] = lambda _: True


RULES = (
    Conflict(
        verbs=("dev", "plan"),
        lost="ref",
        beside="dirty",
        why="the working tree is taken, on the checked-out commit",
    ),
    *(Conflict(verbs=_OVERLAYS, lost=name, beside="smoke", why="no test runs") for name in _OF_TRIALS),
    *(
        Conflict(verbs=_OVERLAYS, lost="registry", beside=name, why="nothing is pushed")
        for name in ("smoke", "push", "model", "profile", "serve_args", "env")
    ),
    Conflict(
        verbs=(*_OVERLAYS, "plan"),
        lost="flavor",
        beside="base",
        why="the named base decides the flavor",
        when=lambda given: "auto" not in (given.base, given.flavor),
    ),
    Conflict(
        verbs=("plan",),
        lost="base",
        beside="base_commit",
        why="the plan is made for a base that would be built from the commit",
        when=lambda given: given.base != "auto",
    ),
    *(
        Conflict(verbs=("nightly",), lost="vllm_version", beside=name, why="only cpu bases are built from a release")
        for name in OF_CUDA
    ),
    Conflict(
        verbs=("nightly",),
        lost="vllm_version",
        beside="flavor",
        why="only cpu bases are built from a release",
        when=lambda given: given.flavor == "cuda",
    ),
    *(
        Conflict(
            verbs=("schedule",),
            lost=name,
            beside="action",
            why="only install writes a timer",
            when=lambda given: given.action != "install",
        )
        for name in ("at", "nightly")
    ),
)


def refuse(verb: str, given: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Refuse options without effect.

    Args:
        verb: The verb.
        given: Given options in the user's spelling, by attribute of ``arguments``.
        arguments: The values, defaults included.

    Raises:
        UsageError: Two options conflict.
    """
    for rule in RULES:
        if verb in rule.verbs and {rule.lost, rule.beside} <= given.keys() and rule.when(arguments):
            lost, beside = given[rule.lost], given[rule.beside]
            raise UsageError(f"{lost} has no effect beside {beside}: {rule.why}", hint=f"leave out {lost} or {beside}")
