"""What a changed path means for an image that keeps its binaries."""

from __future__ import annotations

import pytest

from build.vllm import paths
from build.vllm.paths import PathClass


def classify(path: str, *, has_rust: bool = True, tracked: bool = True) -> PathClass:
    return paths.classify(path, has_rust=has_rust, tracked=tracked)


@pytest.mark.parametrize(
    "path",
    [
        "csrc/attention/paged_attention_v1.cu",
        "csrc/quantization/generate_kernels.py",
        "cmake/external_projects/flashmla.cmake",
        "CMakeLists.txt",
        "setup.py",
        "requirements/build/cuda.txt",
        "tools/build_deepgemm_C.py",
        "rust/src/lib.rs",
        "rust-toolchain.toml",
        "tools/build_rust.py",
    ],
)
def test_what_decides_the_binaries_is_native(path: str) -> None:
    assert classify(path) is PathClass.NATIVE


@pytest.mark.parametrize("path", ["rust/src/lib.rs", "rust-toolchain.toml", "tools/build_rust.py"])
def test_rust_counts_only_where_the_base_ships_what_is_made_of_it(path: str) -> None:
    assert classify(path, has_rust=False) is PathClass.PYTHON


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("requirements/common.txt", PathClass.DEPENDENCIES),
        ("requirements/cpu.txt", PathClass.DEPENDENCIES),
        ("requirements/cuda.txt", PathClass.DEPENDENCIES),
        ("requirements/test.txt", PathClass.PYTHON),
        ("requirements/kv_connectors.txt", PathClass.PYTHON),
        ("pyproject.toml", PathClass.METADATA),
        ("MANIFEST.in", PathClass.METADATA),
    ],
)
def test_requirements_and_metadata(path: str, kind: PathClass) -> None:
    assert classify(path) is kind


@pytest.mark.parametrize(
    "path",
    [
        "vllm/_custom_ops.py",
        "vllm/csrc/x.py",
        "vllm/setup.py",
        "docs/CMakeLists.txt",
        "examples/rust/x",
        "tools/check.sh",
        "csrc.md",
        "README.md",
        "vllm/model_executor/layers/fused_moe/configs/E=8,device=H100.json",
    ],
)
def test_everything_else_is_read_at_run_time(path: str) -> None:
    assert classify(path) is PathClass.PYTHON


# What vLLM 0.32.0's build makes and its .gitignore leaves out.
_MADE = (
    "vllm/_C.abi3.so",
    "vllm/vllm-rs",
    "vllm/_version.py",
    "vllm/vllm_flash_attn/layers/rotary.py",
    "vllm/third_party/triton_kernels/matmul.py",
    "vllm/third_party/flashmla/flash_mla_interface.py",
    "vllm/third_party/deep_gemm/__init__.py",
    "vllm/third_party/fmha_sm100/x.py",
    "vllm/third_party/tml_fa4/x.py",
)


@pytest.mark.parametrize("path", _MADE)
def test_a_file_of_the_builds_may_not_be_replaced_by_one_that_is_tracked_now(path: str) -> None:
    assert paths.made_by_build(path)
    assert classify(path, tracked=False) is PathClass.NATIVE


@pytest.mark.parametrize("path", ["vllm/vllm_flash_attn/__init__.py", "vllm/vllm_flash_attn/flash_attn_interface.py"])
def test_tracked_files_among_them_are_python(path: str) -> None:
    assert classify(path, tracked=True) is PathClass.PYTHON


@pytest.mark.parametrize("path", ["vllm/vllm-rs.py", "vllm/version.py", "vllm/third_party/pynvml.py", "vllm/_C.so.py"])
def test_their_neighbours_are_not_the_builds(path: str) -> None:
    assert not paths.made_by_build(path)


def test_names_with_odd_characters_are_matched_like_others() -> None:
    assert classify("csrc/two\nlines\udcff.cu") is PathClass.NATIVE
    assert classify("vllm/[a].py") is PathClass.PYTHON
