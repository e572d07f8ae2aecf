"""Requirement lines, read as pip reads them and compared with what a base has."""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING

import pytest

from build import requirements

if TYPE_CHECKING:
    from collections.abc import Callable

INSTALLED = {"numpy": "2.3.1", "torch": "2.13.0+cpu", "typing-extensions": "4.15.0", "odd": "not a version"}


def tree(**files: str) -> Callable[[str], str]:
    """Reads `requirements/<name>.txt`."""
    return lambda path: files.get(path.removeprefix("requirements/").removesuffix(".txt"), "")


def unmet(*lines: str, python: str = "3.12.3") -> list[str]:
    return list(requirements.unmet(lines, INSTALLED, python=python))


def test_lines_of_included_files_come_in_order_and_once() -> None:
    read = tree(cpu="-r common.txt\n\ntorch==2.13.0+cpu\nnumpy\n", common="numpy\nfilelock >= 3.20.3  # why\n# all\n")
    assert requirements.of_tree(read, "cpu") == ["numpy", "filelock >= 3.20.3", "torch==2.13.0+cpu"]


@pytest.mark.parametrize(
    "line",
    ["-r common.txt", "-rcommon.txt", "--requirement common.txt", "--requirement=common.txt", "-r common.txt # x"],
)
def test_every_way_to_include_a_file_counts(line: str) -> None:
    assert requirements.of_tree(tree(cpu=line, common="numpy"), "cpu") == ["numpy"]


def test_a_file_above_is_found() -> None:
    files = {"requirements/cpu.txt": "-r ../shared/all.txt", "shared/all.txt": "numpy"}
    assert requirements.of_tree(lambda path: files.get(path, ""), "cpu") == ["numpy"]


def test_files_that_include_each_other_end() -> None:
    assert requirements.of_tree(tree(cpu="-r common.txt\na", common="-r cpu.txt\nb"), "cpu") == ["b", "a"]


def test_options_of_pip_are_no_requirements() -> None:
    assert requirements.of_tree(tree(cpu="--extra-index-url https://x.example/\n-c pins.txt\n-f .\na"), "cpu") == ["a"]


def test_a_flavor_without_a_file_needs_nothing() -> None:
    assert requirements.of_tree(tree(), "xpu") == []


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy>=2,<3",
        "NumPy == 2.3.*",
        "typing_extensions>=4.10",
        "typing.extensions",
        "torch==2.13.0",
        "torch==2.13.0+cpu",
        "numpy[extra]>=2",
        'missing; sys_platform == "win32"',
        'missing; python_version < "3.11"',
        'missing; platform_system == "Darwin" or extra == "audio"',
    ],
)
def test_met(line: str) -> None:
    assert unmet(line) == []


@pytest.mark.parametrize(
    "line",
    [
        "missing",
        "numpy>=2.4",
        "torch==2.13.1",
        "torch==2.13.0+cu130",
        'numpy>=3; python_version >= "3.12"',
        'numpy>=3; sys_platform == "linux"',
        "odd>=1",
        "numpy @ https://example.org/numpy-9.whl",
        "https://example.org/numpy-9.whl",
        "./local",
        "numpy==2.3.1 --hash=sha256:00",
    ],
)
def test_unmet(line: str) -> None:
    assert unmet(line) == [line]


def test_markers_are_evaluated_for_the_bases_python() -> None:
    line = 'missing; python_full_version >= "3.12.4"'
    assert unmet(line, python="3.12.3") == []
    assert unmet(line, python="3.12.10") == [line]


def test_a_prerelease_that_is_installed_counts() -> None:
    assert list(requirements.unmet(["x>=1.0a1"], {"x": "1.0rc1"}, python="3.12.3")) == []


def test_the_torch_pin_is_found_whatever_stands_around_it() -> None:
    one = requirements.build_requires('[build-system]\nrequires = ["wheel", "torch == 2.13.0"]\n')
    other = requirements.build_requires('[build-system]\nrequires = ["Torch==2.13.0", "setuptools>=77"]\n')
    assert requirements.torch_pins(one) == {"torch==2.13.0"}
    assert requirements.torch_pins(requirements.build_requires('[build-system]\nrequires = ["torchvision"]')) == set()
    assert len(requirements.torch_pins(other)) == 1


@pytest.mark.parametrize("text", ["", "not toml", "[project]", '[build-system]\nrequires = ["torch >>"]'])
def test_a_pyproject_that_cannot_be_read_states_no_pin(text: str) -> None:
    assert requirements.build_requires(text) == ()


ENTRY_POINTS = """\
[project.scripts]
vllm = "vllm.entrypoints.cli.main:main"
another = "a.b:c"

[project.entry-points."vllm.general_plugins"]
lora = "vllm.plugins.lora:register"
"""


def test_entry_points_are_written_as_an_installation_does() -> None:
    found = configparser.ConfigParser()
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(requirements.entry_points(ENTRY_POINTS))
    assert {name: dict(found[name]) for name in found.sections()} == {
        "console_scripts": {"another": "a.b:c", "vllm": "vllm.entrypoints.cli.main:main"},
        "vllm.general_plugins": {"lora": "vllm.plugins.lora:register"},
    }
    assert requirements.console_scripts(ENTRY_POINTS) == dict(found["console_scripts"])


@pytest.mark.parametrize("text", ["", "[project]", "not toml"])
def test_without_entry_points_there_is_no_text(text: str) -> None:
    assert requirements.entry_points(text) == ""
    assert requirements.console_scripts(text) == {}
