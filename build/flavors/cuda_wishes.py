"""The options of a cuda base."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build.errors import UsageError
from build.llmd import arguments
from build.llmd.arguments import Given
from build.source.mirror import Remote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Set by their own options, because this tool uses the values too.
_OPTIONS = {"VLLM_COMMIT_SHA": "--commit", "VLLM_REPO": "--remote", "VLLM_USE_PRECOMPILED": "--compile"}

# The user name in an ssh:// address is not a secret.
_CREDENTIALS = re.compile(r"https?://[^\s/]+@")


@dataclass(frozen=True, kw_only=True)
class CudaWishes:
    """The options of a cuda base from the command line.

    Attributes:
        commit: vLLM commit; None for the newest of main.
        remote: Remote of vLLM.
        llm_d: llm-d tree; None for the submodule.
        llm_d_ref: Commit of the llm-d tree; None for its present state.
        build_args: Build arguments, each ``NAME=VALUE``.
        compile: Compile vLLM instead of taking a wheel's binaries.
        preflight: Whether to look for the wheel first.
    """

    commit: str | None = None
    remote: Remote = field(default_factory=lambda: Remote.named("vllm"))
    llm_d: Path | None = None
    llm_d_ref: str | None = None
    build_args: Sequence[str] = ()
    compile: bool = False
    preflight: bool = True

    def asked(self, set_up: Mapping[str, str]) -> list[Given]:
        """Return the build arguments of settings and command line, the latter last.

        Args:
            set_up: The setting ``build_args``.

        Raises:
            UsageError: An argument has its own option, or would leave a password in the image.
        """
        asked = [Given(name=name, value=value, origin="setting build_args") for name, value in set_up.items()]
        asked += arguments.parse(self.build_args)
        for one in asked:
            if one.name in _OPTIONS:
                raise UsageError(
                    f"{one.name} ({one.origin}) is set by {_OPTIONS[one.name]}", hint=f"use {_OPTIONS[one.name]}"
                )
            _require_no_credentials(f"{one.name} ({one.origin})", one.value)
        _require_no_credentials("--remote", self.remote.address)
        return asked


def _require_no_credentials(name: str, value: str) -> None:
    """Refuse an argument that would leave a password in the image.

    Raises:
        UsageError: The value is an address with credentials.
    """
    if _CREDENTIALS.search(value):
        raise UsageError(
            f"{name} is an address with a password or token, which would stay in the image's history",
            hint="remove it from the address; pass secrets with --build-secret",
        )
