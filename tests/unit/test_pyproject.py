"""What a pyproject.toml says."""

from __future__ import annotations

import configparser

import pytest

from build.vllm import pyproject
from build.vllm.pyproject import Pyproject

TEXT = """\
[build-system]
requires = ["setuptools>=77", "Torch==2.13.0"]

[project]
requires-python = ">=3.10,<3.15"
dependencies = ["numpy"]

[project.scripts]
vllm = "vllm.entrypoints.cli.main:main"
another = "a.b:c"

[project.gui-scripts]
window = "a.b:d"

[project.entry-points."vllm.general_plugins"]
lora = "vllm.plugins.lora:register"
"""


def test_everything_is_read() -> None:
    found = Pyproject.parse(TEXT)
    assert found.build_requires == ("Torch==2.13.0", "setuptools>=77")
    assert found.dependencies == ("numpy",)
    assert "3.12" in found.requires_python
    assert "3.9" not in found.requires_python
    assert found.programs == {"vllm": "vllm.entrypoints.cli.main:main", "another": "a.b:c", "window": "a.b:d"}


def test_entry_points_are_written_as_an_installation_does() -> None:
    text = Pyproject.parse(TEXT).entry_points_text
    found = configparser.ConfigParser()
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(text)
    assert {name: dict(found[name]) for name in found.sections()} == {
        "console_scripts": {"another": "a.b:c", "vllm": "vllm.entrypoints.cli.main:main"},
        "gui_scripts": {"window": "a.b:d"},
        "vllm.general_plugins": {"lora": "vllm.plugins.lora:register"},
    }
    assert pyproject.installed_programs(text) == ["another", "vllm", "window"]


@pytest.mark.parametrize("text", ["", "[project]", "[build-system]", "[tool.x]\ny = 1\n"])
def test_one_that_says_nothing_says_nothing(text: str) -> None:
    found = Pyproject.parse(text)
    assert (found.build_requires, found.dependencies, found.programs, found.entry_points_text) == ((), (), {}, "")
    assert "2.7" in found.requires_python
    assert pyproject.installed_programs("") == []


@pytest.mark.parametrize(
    "text",
    [
        "<<<<<<< HEAD",
        "project = 5",
        "[project]\nscripts = 5",
        '[project]\nscripts = {x = ["a:b"]}',
        "[project]\nentry-points = [1]",
        "[project]\nrequires-python = 'new'",
        "build-system = 3",
        "[build-system]\nrequires = 3",
        "[build-system]\nrequires = [3]",
        '[build-system]\nrequires = ["torch >>"]',
    ],
)
def test_one_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Pyproject.parse(text)


def test_the_torch_pin_is_found_whatever_stands_around_it() -> None:
    pins = [
        pyproject.torch_pins(pyproject.build_requires(lines))
        for lines in (["wheel", "torch == 2.13.0"], ["torchvision"], ["Torch==2.13.0", "setuptools>=77"])
    ]
    assert pins[0] == {"torch==2.13.0"}
    assert pins[1] == set()
    assert len(pins[2]) == 1
