"""Which wheel a tree's script takes, in the ways in which such scripts are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.llmd import wheel_rule

if TYPE_CHECKING:
    from build.llmd.wheel_rule import WheelRule

COMMIT = "a" * 40
ENVIRONMENT = {
    "VLLM_COMMIT_SHA": COMMIT,
    "VLLM_PRECOMPILED_WHEEL_COMMIT": COMMIT,
    "CUDA_MAJOR": "13",
    "CUDA_MINOR": "0",
}
CASES = """
case "$(uname -m)" in
  x86_64) TAG="manylinux_2_31_x86_64" ;;
  amd64) TAG="manylinux_2_31_x86_64" ;;
  aarch64) TAG="manylinux2014_aarch64" ;;
esac
"""
PAGE = 'PAGE=$(curl -sf "https://wheels.vllm.ai/${VLLM_PRECOMPILED_WHEEL_COMMIT}/vllm/" || echo "")\n'


def read(text: str, machine: str = "x86_64", **environment: str) -> WheelRule | None:
    return wheel_rule.read([("script", text)], environment=ENVIRONMENT | environment, commit=COMMIT, machine=machine)


def told(text: str, machine: str = "x86_64", **environment: str) -> tuple[str, str, tuple[str, ...] | None]:
    rule = read(text, machine, **environment)
    assert rule
    return rule.index, rule.variant, rule.tags


def test_one_tag_a_processor_on_the_page_of_the_default_variant() -> None:
    assert told(CASES + PAGE) == ("https://wheels.vllm.ai", "", ("manylinux_2_31_x86_64",))
    assert told(CASES + PAGE, "aarch64") == ("https://wheels.vllm.ai", "", ("manylinux2014_aarch64",))
    assert told(CASES + PAGE, "ppc64le")[2] == ()


@pytest.mark.parametrize(
    ("before", "variant"),
    [
        ('V="${V:-cu${CUDA_MAJOR}${CUDA_MINOR}}"', "cu130"),
        (': "${V:=cu${CUDA_MAJOR}${CUDA_MINOR}}"', "cu130"),
        ("export V=cu129", "cu129"),
        ("V='cu128'", "cu128"),
    ],
)
def test_the_variant_is_worked_out_as_a_shell_does(before: str, variant: str) -> None:
    text = f'{before}\ncurl "https://w.example/${{VLLM_COMMIT_SHA}}/${{V}}/vllm/" | grep "manylinux_2_28_$(uname -m)"\n'
    assert told(text) == ("https://w.example", variant, ("manylinux_2_28_x86_64",))


def test_what_the_step_is_given_counts_before_the_scripts_default() -> None:
    text = ': "${V:=cu130}"\ncurl "https://w.example/${VLLM_COMMIT_SHA}/${V}/vllm/" | grep manylinux_2_28_x86_64\n'
    assert told(text, V="cu129")[1] == "cu129"


def test_an_address_in_parts_and_a_pattern_as_tag() -> None:
    text = 'BASE=https://w.example\nURL="${BASE}/${VLLM_COMMIT_SHA}"\nARCH=$(uname -m)\n'
    text += 'curl "${URL}/vllm/" | grep -oE "vllm-.*manylinux_[0-9_]+_${ARCH}.whl"\n'
    assert told(text) == ("https://w.example", "", ("manylinux_[0-9_]+_x86_64",))


def test_pip_takes_any_tag() -> None:
    text = (
        'URL=$(pip install --no-index --find-links "https://w.example/${VLLM_COMMIT_SHA}/vllm/" vllm \\\n --report -)'
    )
    assert told(text) == ("https://w.example", "", None)


def test_a_commit_that_git_resolves_is_still_that_commit() -> None:
    resolved = 'VLLM_PRECOMPILED_WHEEL_COMMIT=$(git rev-parse "${VLLM_PRECOMPILED_WHEEL_COMMIT}")\n'
    assert told(CASES + resolved + PAGE)[1] == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "python3 find_wheel.py",
        PAGE + 'TAG="$(manylinux-tag)"\n',
        CASES + 'V=$(python3 variant.py)\ncurl "https://w.example/${VLLM_COMMIT_SHA}/${V}/vllm/"\n',
        CASES + 'URL="https://w.example/${SOMETHING_ELSE}/vllm/"\n',
        f'# curl "https://w.example/{COMMIT}/vllm/"\n',
        'URL="https://w.example/${VLLM_COMMIT_SHA}/vllm-1.0.0.dev-cp38-abi3-manylinux1_x86_64.whl"\n',
    ],
)
def test_what_is_not_understood_is_no_rule(text: str) -> None:
    assert read(text) is None
