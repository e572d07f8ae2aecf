"""The commit that an image with vLLM claims to hold. Sealing proves it, file by file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from build.base.probe import Found
    from build.engine.image import Image

_NAME = "VLLM_BUILD_COMMIT"
_LABEL = "ai.vllm.build.commit"
"""The variable and the label that vLLM's own images name their commit with (docker/Dockerfile, 0.32.0)."""

_COMMIT = re.compile(r"g?([0-9a-f]{7,40})")
# Added to a release for the hardware that a wheel is built for, such as 0.32.0+cpu and 0.32.0+cu129.
_HARDWARE = re.compile(r"cpu|cu\d+|rocm\d*")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A commit that an image names, or a release.

    Attributes:
        commit: Full or short ID; None for a release.
        release: Version of the release; None for a commit.
        origin: What names it, in words.
    """

    commit: str | None
    release: str | None
    origin: str

    def __str__(self) -> str:
        """Return the claim in words."""
        return f"{self.commit or f'vLLM {self.release}'} ({self.origin})"


def claims(image: Image, found: Found) -> list[Claim]:
    """Return what an image says about its commit, the most precise first. ``unknown`` and the like say nothing.

    Args:
        image: The image.
        found: What it holds.
    """
    variables = dict(word.partition("=")[::2] for word in image.config.get("Env") or ())
    version = Version(found.version)
    said = {
        f"label {_LABEL}": image.labels.get(_LABEL),
        f"variable {_NAME}": variables.get(_NAME),
        "vllm/_version.py": found.commit,
        f"version {found.version}": (version.local or "").partition(".")[0] if version.local else None,
    }
    commits = {origin: matched[1] for origin, text in said.items() if text and (matched := _COMMIT.fullmatch(text))}
    made = [Claim(commit=commit, release=None, origin=origin) for origin, commit in commits.items()]
    if version.local is None or _HARDWARE.fullmatch(version.local):
        release = Claim(commit=None, release=version.public, origin=f"version {found.version}")
        made += [] if version.is_devrelease else [release]
    return made


def contradiction(made: list[Claim]) -> tuple[Claim, Claim] | None:
    """Return two claims that name different commits, or None."""
    named = [claim for claim in made if claim.commit]
    for claim in named[1:]:
        first, other = str(named[0].commit), str(claim.commit)
        if not (first.startswith(other) or other.startswith(first)):
            return named[0], claim
    return None
