"""What a change to a path of the vLLM tree means for an image that keeps its compiled binaries.

Read from vLLM 0.31.0, 0.32.0 and 0.33.0: setup.py (what it compiles and packages), pyproject.toml, .gitignore.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from enum import StrEnum


class PathClass(StrEnum):
    """Classes, gravest first."""

    NATIVE = "native"
    DEPENDENCIES = "dependencies"
    METADATA = "metadata"
    PYTHON = "python"


# First match wins; `*` also spans folders. What is not listed is Python or data that is read at run time.
_TABLE: tuple[tuple[str, PathClass], ...] = (
    # Sources of the compiled extensions, their generators included.
    ("csrc/*", PathClass.NATIVE),
    ("cmake/*", PathClass.NATIVE),
    ("CMakeLists.txt", PathClass.NATIVE),
    # Decides what is compiled, for which architectures, and under which names.
    ("setup.py", PathClass.NATIVE),
    ("requirements/build/*", PathClass.NATIVE),
    ("tools/build_deepgemm_C.py", PathClass.NATIVE),
    # vllm/vllm-rs and vllm/_rust_*.so.
    ("rust/*", PathClass.NATIVE),
    ("rust-toolchain.toml", PathClass.NATIVE),
    ("tools/build_rust.py", PathClass.NATIVE),
    # What the server is installed with.
    ("requirements/common.txt", PathClass.DEPENDENCIES),
    ("requirements/cpu.txt", PathClass.DEPENDENCIES),
    ("requirements/cuda.txt", PathClass.DEPENDENCIES),
    # Entry points and package data, and the build's torch pin, which `delta` compares by itself.
    ("pyproject.toml", PathClass.METADATA),
    ("MANIFEST.in", PathClass.METADATA),
)

_RUST = ("rust/*", "rust-toolchain.toml", "tools/build_rust.py")

_SOURCE_FOLDERS = frozenset({"csrc", "cmake", "rust"})

# Made by vLLM's build and ignored by its .gitignore (vLLM 0.32.0). A checkout leaves them as they are.
_MADE_BY_BUILD = (
    "*.so",
    "vllm/vllm-rs",
    "vllm/_version.py",
    "vllm/vllm_flash_attn/*",
    "vllm/third_party/triton_kernels/*",
    "vllm/third_party/flashmla/*",
    "vllm/third_party/deep_gemm/*",
    "vllm/third_party/fmha_sm100/*",
    "vllm/third_party/tml_fa4/*",
)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return _compiled(patterns).match(path) is not None


@functools.cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all: between two releases there are thousands of paths to look at."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


def made_by_build(path: str) -> bool:
    """Whether vLLM's build makes files of this path. Some next to them are tracked all the same."""
    return _matches(path, _MADE_BY_BUILD)


def is_native(path: str) -> bool:
    """Whether a path decides what is compiled, in a base that ships everything that vLLM compiles."""
    return next((kind for pattern, kind in _TABLE if _matches(path, (pattern,))), None) is PathClass.NATIVE


def source_folders(top_level: frozenset[str]) -> frozenset[str]:
    """Those of a tree's top-level entries that hold nothing but what is compiled."""
    return top_level & _SOURCE_FOLDERS


def classify(path: str, *, has_rust: bool, tracked: bool) -> PathClass:
    """What a change to this path means.

    Args:
        path: Relative to the root of the vLLM tree.
        has_rust: Whether the base ships binaries compiled from ``rust/``.
        tracked: Whether the base's commit has the path. If not, a file of the build's must not be replaced by
            one of the same name that the target tracks now.
    """
    if made_by_build(path) and not tracked:
        return PathClass.NATIVE
    if not has_rust and _matches(path, _RUST):
        return PathClass.PYTHON
    return next((kind for pattern, kind in _TABLE if _matches(path, (pattern,))), PathClass.PYTHON)
