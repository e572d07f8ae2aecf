"""How much of what vLLM does in production a server under test does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FAST, REAL = "fast", "real"
PROFILES = (FAST, REAL)
"""Without compilation and CUDA graphs, or with both and on all GPUs that are given."""

_CPU_OPTIONS = ("--dtype", "float32")
# A small model needs little, and another process may use the GPU too.
_SMALL_BYTES = 2**30
_SMALL_OPTIONS = ("--gpu-memory-utilization", "0.1")
# As --enforce-eager, for what vLLM compiles whatever that says: the first logprobs cost 20 s of compiling.
_FAST_VARIABLES = {"TORCH_COMPILE_DISABLE": "1"}


def default(*, gpu: bool) -> str:
    """The profile that is taken where none is chosen."""
    return REAL if gpu else FAST


def variables(profile: str) -> dict[str, str]:
    """Variables of the server."""
    return _FAST_VARIABLES if profile == FAST else {}


def options(profile: str, *, gpu: bool, units: int, model: Path) -> list[str]:
    """Options of vLLM.

    Args:
        profile: ``fast`` or ``real``.
        gpu: Whether the server gets a GPU.
        units: How many whole GPUs it gets, as far as that is known.
        model: Folder of the model.
    """
    told = [] if profile == REAL else ["--enforce-eager"]
    if not gpu:
        return [*told, *_CPU_OPTIONS]
    if profile == REAL and units > 1 and _divides(model, units):
        told += ["--tensor-parallel-size", str(units)]
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    return [*told, *(_SMALL_OPTIONS if size < _SMALL_BYTES else ())]


def _divides(model: Path, units: int) -> bool:
    """Whether the heads of a model can be shared out (vllm/config/model.py, verify_with_parallel_config)."""
    try:
        heads = json.loads((model / "config.json").read_text(encoding="utf-8"))["num_attention_heads"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return isinstance(heads, int) and heads % units == 0
