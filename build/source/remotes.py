"""The remote repositories of vLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

REMOTES: Mapping[str, str] = {
    "vllm": "https://github.com/vllm-project/vllm.git",
    "njhill": "https://github.com/njhill/vllm.git",
    "tms": "https://github.com/tlrmchlsmth/vllm.git",
    "nm": "https://github.com/neuralmagic/vllm.git",
}
"""Git remotes in every image, in the order in which git asks them for missing objects."""
