"""The classes of paths in the vLLM tree, by the effect of a change on an image with compiled binaries.

Sources: setup.py (compiled and packaged files), pyproject.toml and .gitignore of vLLM 0.31.0, 0.32.0 and 0.33.0.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from enum import StrEnum


class PathClass(StrEnum):
    """The classes, the most severe first."""

    NATIVE = "native"
    DEPENDENCIES = "dependencies"
    METADATA = "metadata"
    PYTHON = "python"


# The first match wins, and `*` also spans folders. Paths without a match are Python or data for run time.
_TABLE: tuple[tuple[str, PathClass], ...] = (
    # Sources of the compiled extensions and their generators.
    ("csrc/*", PathClass.NATIVE),
    ("cmake/*", PathClass.NATIVE),
    ("CMakeLists.txt", PathClass.NATIVE),
    # Files that decide what is compiled, for which architectures, and under which names.
    ("setup.py", PathClass.NATIVE),
    ("requirements/build/*", PathClass.NATIVE),
    ("tools/build_deepgemm_C.py", PathClass.NATIVE),
    # vllm/vllm-rs and vllm/_rust_*.so.
    ("rust/*", PathClass.NATIVE),
    ("rust-toolchain.toml", PathClass.NATIVE),
    ("tools/build_rust.py", PathClass.NATIVE),
    # Installation of the server.
    ("requirements/common.txt", PathClass.DEPENDENCIES),
    ("requirements/cpu.txt", PathClass.DEPENDENCIES),
    ("requirements/cuda.txt", PathClass.DEPENDENCIES),
    # Entry points, package data, and the build's torch pin, which `delta` compares separately.
    ("pyproject.toml", PathClass.METADATA),
    ("MANIFEST.in", PathClass.METADATA),
)

_RUST = ("rust/*", "rust-toolchain.toml", "tools/build_rust.py")

_SOURCE_FOLDERS = frozenset({"csrc", "cmake", "rust"})

# Made by vLLM's build and ignored by its .gitignore (vLLM 0.32.0). A checkout does not change them.
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
    """Return one expression for all patterns, because thousands of paths differ between two releases."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


def made_by_build(path: str) -> bool:
    """Return whether vLLM's build makes a file with this path. Such a path may be tracked nevertheless."""
    return _matches(path, _MADE_BY_BUILD)


def is_native(path: str) -> bool:
    """Return whether a path decides what is compiled, in a base with all compiled parts of vLLM."""
    return next((kind for pattern, kind in _TABLE if _matches(path, (pattern,))), None) is PathClass.NATIVE


def source_folders(top_level: frozenset[str]) -> frozenset[str]:
    """Return the top-level entries that hold only native sources."""
    return top_level & _SOURCE_FOLDERS


def classify(path: str, *, has_rust: bool, tracked: bool) -> PathClass:
    """Return the class of a change to a path.

    Args:
        path: Path relative to the root of the vLLM tree.
        has_rust: Whether the base has binaries compiled from ``rust/``.
        tracked: Whether the base's commit has the path. If not, the build may have made the file, and the target's
            file of that name must not replace it.
    """
    if made_by_build(path) and not tracked:
        return PathClass.NATIVE
    if not has_rust and _matches(path, _RUST):
        return PathClass.PYTHON
    return next((kind for pattern, kind in _TABLE if _matches(path, (pattern,))), PathClass.PYTHON)
