"""A way of testing: what a run was asked for beside its image, and which ways answer for which.

A verdict is about an image and a way. The gate asks for the standard way: the suite's own model, served as the suite
serves it, with no expectation of the user's.

- Each way has a verdict of its own; a run overwrites only that of its own way.
- The newest verdict that answers for the standard way decides. A pass answers for it if its way asks for at least as
  much; a failure only if its way asks for nothing more.
- The failure of another way takes no pass back. Without any verdict that answers, it is why the gate stays closed.
- The settings `serve_args`, `env` and `checks` are part of what the gate asks for.
- GPUs, and whether an image's numbers may change, make a way; the gate takes a pass with any of them.
- A run that was not completed gives no verdict. That is so if the server was still starting when a time shorter than
  the default had passed; one that needs longer than the default has failed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.config import starting
from build.config.own_checks import own_checks
from build.gate import fingerprints

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from build.config.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of testing.

    Attributes:
        model: Digest of the model; None for the suite's own.
        gpus: The GPUs as ``--gpus`` names them.
        profile: ``fast`` or ``real``; None for the device's default.
        serve_args: Further arguments of vLLM, as given.
        env: Further variables of the server, as :func:`build.config.starting.marks` has them.
        expect: ``ROUTE=TEXT`` each.
        checks: Digest of the user's own checks; None without any.
        changed: Whether the image's numbers were allowed to differ from its base's.
    """

    model: str | None = None
    gpus: str | None = None
    profile: str | None = None
    serve_args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    expect: frozenset[str] = frozenset()
    checks: str | None = None
    changed: bool = False

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> Way:
        """The way that a verdict is about.

        Args:
            configuration: What its checks ran with (:attr:`build.gate.verdict.Verdict.configuration`).
        """
        return cls(
            model=None if configuration.get("exact", True) else configuration.get("model") or "unknown",
            gpus=configuration.get("gpus"),
            profile=_chosen_profile(configuration),
            serve_args=tuple(configuration.get("serve_args", ())),
            env=tuple(configuration.get("env", ())),
            expect=frozenset(configuration.get("expect", ())),
            checks=configuration.get("checks"),
            changed=(configuration.get("numbers") or "").startswith("changed"),
        )

    @property
    def mark(self) -> str:
        """What tells the files of an image's verdicts apart: empty for the standard way without a choice of GPUs."""
        if self in (STANDARD, Way(gpus="none"), Way(gpus="all")):
            return ""
        parts = [
            self.model,
            self.gpus,
            self.profile,
            self.serve_args,
            self.env,
            sorted(self.expect),
            self.checks,
            self.changed,
        ]
        return f".{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"

    @property
    def text(self) -> str:
        """What is not standard about it, as its options are given; empty if nothing is."""
        told = [f"--expect {each}" for each in sorted(self.expect)]
        told += [f"--profile {self.profile}"] if self.profile else []
        told += [f"--serve-arg={each}" for each in self.serve_args]
        told += [f"--env {each.partition(':')[0]}" for each in self.env]
        told += ["--checks"] if self.checks else []
        told += ["another model"] if self.model else []
        return ", ".join(told + (["--numbers changed"] if self.changed else []))

    def starts_as(self, other: Way) -> bool:
        """Whether the server is started in the same way, whatever is asked of it."""
        mine, others = ((way.model, way.profile, way.serve_args, way.env) for way in (self, other))
        return mine == others

    def answers(self, required: Way, *, passed: bool) -> bool:
        """Whether a verdict in this way is one in the required way as well.

        Args:
            required: What the gate asks for.
            passed: Whether it is a pass.
        """
        if not self.starts_as(required):
            return False
        if passed:
            return self.expect >= required.expect and required.checks in (None, self.checks)
        return self.expect <= required.expect and self.checks in (None, required.checks)


def _chosen_profile(configuration: Mapping[str, Any]) -> str | None:
    """The profile of a run; None if it is the device's default (``smoke/server/profile.py``)."""
    profile: str | None = configuration.get("profile")
    return None if profile == ("fast" if configuration.get("gpus") == "none" else "real") else profile


STANDARD = Way()
"""What the gate asks for, unless the settings ask for something else."""


def required(settings: Settings) -> Way:
    """What the gate asks for.

    Raises:
        UsageError: The setting ``checks`` names no file or folder.
    """
    path = own_checks(settings.checks)
    own = fingerprints.checks(path) if path else None
    return Way(serve_args=settings.serve_args, env=starting.marks(settings.variables), checks=own)
