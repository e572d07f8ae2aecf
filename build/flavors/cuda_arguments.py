"""The build arguments of a cuda base, chosen for its llm-d tree."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import UsageError
from build.llmd import arguments, wheel_rule
from build.llmd.arguments import Given

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from build.flavors.cuda_wishes import CudaWishes
    from build.llmd.arguments import Arguments
    from build.llmd.dockerfile import Dockerfile
    from build.llmd.tree import Tree
    from build.llmd.wheel_rule import WheelRule

NIGHTLY = "the nightly"
"""Origin of the arguments that every nightly sets."""

STAGE = "runtime"
"""The stage that llm-d's CI builds (.github/workflows/build-image.yaml, 2025 and 2026)."""

COMPILED = "VLLM_USE_PRECOMPILED"
WHEEL_COMMIT = "VLLM_PRECOMPILED_WHEEL_COMMIT"
_WHEEL_VARIANT = "VLLM_PRECOMPILED_WHEEL_VARIANT"
_CACHE_BUSTER = "CACHE_BUSTER"
_PLATFORM = "the platform"
_TODAY = "today, as llm-d's CI"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Docker's names of processors, by those of ``uname -m``."""


@dataclass(frozen=True, kw_only=True)
class CudaArguments:
    """The choice of arguments for one llm-d tree.

    Attributes:
        tree: The llm-d tree.
        wishes: Options of the command line.
        asked: Arguments from settings and command line.
    """

    tree: Tree
    wishes: CudaWishes
    asked: Sequence[Given]

    @functools.cached_property
    def file(self) -> Dockerfile:
        """The part of the Dockerfile that the built stage needs."""
        file = self.tree.dockerfile
        return file.of_stage(file.stage(STAGE))

    def choose(self, oid: str, *, wheel: str, architecture: str) -> Arguments:
        """Return all build arguments.

        Args:
            oid: Commit to build.
            wheel: Commit of the wheel with the binaries.
            architecture: Processor of the image.

        Raises:
            SourceError: The Dockerfile does not fit; the message names file and line.
            UsageError: A requested argument is not valid.
        """
        stated = self.tree.stated
        decided = self._decided(oid, wheel)
        chosen = arguments.choose(
            self.file,
            versions=[
                *_today(self.file),
                *_platform(self.file, architecture),
                *(Given(name=one.name, value=one.value, origin=one.place) for one in stated.versions),
            ],
            decided=[Given(name=name, value=value, origin=NIGHTLY) for name, value in decided.items()],
            asked=self.asked,
            unread=stated.unread,
        )
        if self.file.value("VLLM_PREBUILT", chosen.values) == "1":
            raise UsageError(
                "VLLM_PREBUILT=1 installs vLLM without its source, which overlays need",
                hint="give --build-arg VLLM_PREBUILT=0",
            )
        return chosen

    def _decided(self, oid: str, wheel: str) -> dict[str, str]:
        """Return the arguments that every nightly sets and the tree needs."""
        decided = {
            "USE_SCCACHE": "false",
            "VLLM_COMMIT_SHA": oid,
            "VLLM_REPO": self.wishes.remote.address,
            COMPILED: self._mode,
            WHEEL_COMMIT: wheel,
        }
        if WHEEL_COMMIT not in self.file.names and wheel == oid:
            # Trees of 2025 use the wheel of the commit itself.
            del decided[WHEEL_COMMIT]
        return {name: value for name, value in decided.items() if name not in self.written}

    @property
    def _mode(self) -> str:
        return "0" if self.wishes.compile else "1"

    @functools.cached_property
    def written(self) -> Mapping[str, str]:
        """Remarks on arguments that the Dockerfile does not declare, because the tree does the same without them.

        The trees of September 2025 hard-code vLLM's repository and mode.
        """
        ran = "\n".join(text for _, text in self.tree.scripts_of(self.file))
        repository = (self.wishes.remote.address.removesuffix(".git"), "the tree itself clones that repository")
        mode = (f"{COMPILED}={self._mode}", "the tree itself sets it to that")
        same = {
            name: remark for name, (text, remark) in {"VLLM_REPO": repository, COMPILED: mode}.items() if text in ran
        }
        same |= {} if "sccache" in ran.lower() else {"USE_SCCACHE": "the tree does not use sccache"}
        return {name: f"{name}: not declared; {remark}" for name, remark in same.items() if name not in self.file.names}

    def rule(self, chosen: Arguments, *, commit: str, architecture: str) -> WheelRule | None:
        """Return the tree's rule for the wheel of a commit, or None if its script does not show one."""
        environment = {**self.file.environment(chosen.values), COMPILED: "1"}
        texts = self.tree.scripts_of(self.file)
        return wheel_rule.read(texts, environment=environment, commit=commit, machine=architecture)

    def variant(self, chosen: Arguments) -> str | None:
        """Return the wheel's variant for the image's CUDA version, or None if the Dockerfile does not state it."""
        if any(one.name == _WHEEL_VARIANT and one.stage is not None for one in self.file.arguments):
            return self.file.value(_WHEEL_VARIANT, chosen.values) or ""
        major, minor = (self.file.value(f"CUDA_{part}", chosen.values) for part in ("MAJOR", "MINOR"))
        return f"cu{major}{minor}" if major and minor else None

    def remarks(self) -> Iterator[str]:
        """Yield remarks on arguments that the tree makes superfluous, and on lines that were not understood."""
        yield from self.written.values()
        yield from (f"{one.place} was not understood: {one.text}" for one in self.tree.stated.unread)


def lasting(chosen: Arguments) -> list[Given]:
    """Return the arguments that distinguish bases: not the date, and not the engine's platform."""
    return [one for one in chosen.given if one.origin not in (_TODAY, _PLATFORM)]


def _today(file: Dockerfile) -> list[Given]:
    """Return the cache-busting argument of llm-d's CI. Here its value changes once a day."""
    date = dt.datetime.now(tz=dt.UTC).date().isoformat()
    return [Given(name=_CACHE_BUSTER, value=date, origin=_TODAY)] if _CACHE_BUSTER in file.names else []


def _platform(file: Dockerfile, architecture: str) -> list[Given]:
    """Return the platform arguments that the Dockerfile shadows, so that BuildKit does not set them."""
    docker = _ARCHITECTURES.get(architecture, architecture)
    values = {"PLATFORM": f"linux/{docker}", "OS": "linux", "ARCH": docker}
    return [
        Given(name=f"{where}{what}", value=value, origin=_PLATFORM)
        for where in ("BUILD", "TARGET")
        for what, value in values.items()
        if f"{where}{what}" in file.shadowed
    ]
