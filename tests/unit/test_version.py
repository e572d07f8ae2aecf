"""What an overlay says when it is asked for its version."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.version import Version

from build.vllm import version

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("base", "overlay"),
    [
        ("0.32.0", "0.32.0+g0123456789ab"),
        ("0.32.0+cpu", "0.32.0+cpu.g0123456789ab"),
        ("0.32.1rc1.dev45+gfedcba987.cu130", "0.32.1rc1.dev45+cu130.g0123456789ab"),
        ("0.32.0+g1111111.d20260101.cpu", "0.32.0+d20260101.cpu.g0123456789ab"),
        ("0.32.0.post1+cu130.precompiled", "0.32.0.post1+cu130.precompiled.g0123456789ab"),
        ("1!2.0+gpu", "1!2.0+gpu.g0123456789ab"),
    ],
)
def test_the_bases_public_version_with_the_commit(base: str, overlay: str) -> None:
    assert version.of_overlay(base, COMMIT) == overlay
    assert str(Version(overlay)) == overlay
    assert Version(overlay).public == Version(base).public


def test_an_overlay_of_an_overlay_names_one_commit() -> None:
    once = version.of_overlay("0.32.0+cpu", "f" * 40)
    assert version.of_overlay(once, COMMIT) == "0.32.0+cpu.g0123456789ab"


def test_the_platform_that_vllm_reads_from_its_version_stays() -> None:
    # vllm/platforms/__init__.py, vLLM 0.32.0: "cpu" in the version chooses the CPU.
    assert "cpu" in version.of_overlay("0.32.0+cpu", COMMIT)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("0.32.0+cpu.g0123456789ab", (0, 32, 0, "cpu.g0123456789ab")),
        ("0.32.1rc2.dev45+cu130", (0, 32, 1, "rc2", "dev45", "cu130")),
        ("0.32.0.post1", (0, 32, 0, "post1")),
        ("1!0.32.0a0", ("1!", 0, 32, 0, "a0")),
        ("0.32.0.dev0", (0, 32, 0, "dev0")),
    ],
)
def test_the_module_states_version_fields_and_commit(text: str, fields: tuple[int | str, ...]) -> None:
    values: dict[str, Any] = {}
    exec(version.module(text, COMMIT), values)  # noqa: S102 - as Python does when vllm is imported
    assert values["version"] == values["__version__"] == text
    assert values["version_tuple"] == values["__version_tuple__"] == fields
    assert values["commit_id"] == values["__commit_id__"] == "g0123456789ab"


def test_the_same_commit_gives_the_same_bytes() -> None:
    assert version.module("0.32.0", COMMIT) == version.module("0.32.0", COMMIT)
