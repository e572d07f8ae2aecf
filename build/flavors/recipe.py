"""The build to come, as ``nightly --dry-run`` shows it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build.engine import names
from build.registry import local
from build.registry.repository_name import EMBEDDED_REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.context import Context
    from build.llmd.arguments import Arguments


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The description of one build to come.

    Attributes:
        flavor: ``cpu`` or ``cuda``.
        commit: Full id of the vLLM commit; None if only a download tells.
        origin: Origin of the commit in words.
        parts: Other parts by name: the llm-d tree, or the release.
        wheel: Facts about the wheel with the binaries; None to compile.
        arguments: Build arguments.
        secrets: Ids of the BuildKit secrets.
        labels: Labels known in advance.
        tags: Local names, then the registry's; moving tags last.
        command: Command line of the build.
        stage: Stage of the Dockerfile to build.
        remarks: Remarks for the reader, one sentence each.
    """

    flavor: str
    commit: str | None
    origin: str
    parts: Mapping[str, str]
    wheel: Mapping[str, Any] | None
    arguments: Arguments
    secrets: Sequence[str]
    labels: Mapping[str, str]
    tags: Sequence[str]
    command: Sequence[str]
    stage: str
    remarks: Sequence[str]

    def document(self) -> dict[str, Any]:
        """Return the document for ``--json``."""
        return {
            "flavor": self.flavor,
            "commit": self.commit,
            "commit_from": self.origin,
            "parts": dict(self.parts),
            "wheel": self.wheel and dict(self.wheel),
            "arguments": [one.document() for one in self.arguments.given],
            "defaults": [one.document() for one in self.arguments.defaults],
            "left_out": [one.document() for one in self.arguments.left_out],
            "unset": [one.document() for one in self.arguments.unset],
            "stage": self.stage,
            "remarks": list(self.remarks),
            "secrets": list(self.secrets),
            "labels": dict(self.labels),
            "tags": list(self.tags),
            "command": list(self.command),
        }

    def lines(self) -> list[str]:
        """Return the lines for a terminal."""
        wheel = ", ".join(f"{name} {value}" for name, value in (self.wheel or {}).items() if value is not None)
        arguments = self.arguments
        rows = [(one, one.value) for one in (*arguments.given, *arguments.defaults)]
        rows += [(one, "left out: for another Dockerfile") for one in arguments.left_out]
        rows += [(one, "without a value") for one in arguments.unset]
        width = max(len(one.name) for one, _ in rows)
        return [
            f"flavor: {self.flavor}",
            f"commit: {self.commit or 'known after the download'} ({self.origin})",
            *(f"{name}: {value}" for name, value in self.parts.items()),
            f"stage: {self.stage}",
            f"wheel: {wheel or 'none, vLLM is compiled'}",
            "arguments:",
            *(f"  {one.name:<{width}} {value}  ({one.origin})" for one, value in rows),
            f"secrets: {', '.join(self.secrets) or 'none'}",
            "labels:",
            *(f"  {name}={value}" for name, value in self.labels.items()),
            f"tags: {', '.join(self.tags)}",
            f"command: {shlex.join(self.command)}",
            *(f"remark: {remark}" for remark in self.remarks),
        ]


def tags(commit: str | None, flavor: str, context: Context) -> tuple[str, ...]:
    """Return the names of a base that passes: local ones, then the registry's, which is not contacted."""
    registry = context.settings.registry
    if registry is None:
        embedded = local.last_address(context.folders) or "127.0.0.1"
        registry = f"{embedded}/{EMBEDDED_REPOSITORY}"
    places = (context.settings.repository, registry)
    tags = (names.nightly(flavor, commit or "COMMIT"), names.nightly(flavor))
    return tuple(f"{place}:{tag}" for place in places for tag in tags)
