"""Requirement lines, read as pip reads them and compared with what a base has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from build.vllm import requirements
from build.vllm.pyproject import Pyproject
from build.vllm.requirements import Installed

INSTALLED = Installed(
    distributions={
        "numpy": "2.3.1",
        "torch": "2.13.0+cpu",
        "typing-extensions": "4.15.0",
        "odd": "not a version",
        "ray": "2.50.0",
    },
    extras={"ray": ("default", "rl-lib")},
    python="3.12.3",
    machine="x86_64",
)


NOTHING = Pyproject.parse("")


def of_tree(**files: str) -> list[str]:
    """Lines of a tree with these `requirements/<name>.txt`."""
    texts = {f"requirements/{name}.txt": text for name, text in files.items()}
    return requirements.of_tree(texts.get, "cpu", NOTHING)


def unmet(*lines: str, python: str = "3.12.3") -> list[str]:
    return list(requirements.unmet(lines, replace(INSTALLED, python=python)))


def test_lines_of_included_files_come_in_order_and_once() -> None:
    cpu, common = "-r common.txt\n\ntorch==2.13.0+cpu\nnumpy\n", "numpy\nfilelock >= 3.20.3  # why\n# all\n"
    assert of_tree(cpu=cpu, common=common) == ["numpy", "filelock >= 3.20.3", "torch==2.13.0+cpu"]


@pytest.mark.parametrize(
    "line",
    ["-r common.txt", "-rcommon.txt", "--requirement common.txt", "--requirement=common.txt", "-r common.txt # x"],
)
def test_every_way_to_include_a_file_counts(line: str) -> None:
    assert of_tree(cpu=line, common="numpy") == ["numpy"]


def test_a_file_above_is_found() -> None:
    files = {"requirements/cpu.txt": "-r ../shared/all.txt", "shared/all.txt": "numpy"}
    assert requirements.of_tree(files.get, "cpu", NOTHING) == ["numpy"]


def test_files_that_include_each_other_end() -> None:
    assert of_tree(cpu="-r common.txt\na", common="-r cpu.txt\nb") == ["b", "a"]


def test_options_of_pip_are_no_requirements() -> None:
    assert of_tree(cpu="--extra-index-url https://x.example/\n-f .\n--pre\na") == ["a"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("numpy >= 2, \\\n  < 3", "numpy >= 2,   < 3"),
        ("\ufeffnumpy", "numpy"),
        ("numpy==2.3.1 --hash=sha256:00 \\\n    --hash=sha256:01", "numpy==2.3.1"),
        ("numpy\r\n", "numpy"),
        ("numpy @ https://example.org/a--b.whl", "numpy @ https://example.org/a--b.whl"),
    ],
)
def test_lines_are_what_pip_makes_of_them(text: str, line: str) -> None:
    assert of_tree(cpu=text) == [line]


@pytest.mark.parametrize("line", ["-c pins.txt", "--constraint=pins.txt", "-e git+https://x.example/y", "-r gone.txt"])
def test_what_asks_for_more_than_versions_can_tell_is_unmet_and_nothing_to_install(line: str) -> None:
    (found,) = of_tree(cpu=line)
    assert list(requirements.unmet([found], INSTALLED)) == [found]
    assert not requirements.can_be_installed(found)


def test_a_flavor_without_a_file_is_told() -> None:
    assert of_tree() == ["-r requirements/cpu.txt"]


def test_dependencies_and_versions_of_python_count_too() -> None:
    text = '[project]\nrequires-python = ">=3.12"\ndependencies = ["numpy"]\n'
    lines = requirements.of_tree({"requirements/cpu.txt": "torch"}.get, "cpu", Pyproject.parse(text))
    assert lines == ["torch", "numpy", "requires-python >=3.12"]
    assert list(requirements.unmet(lines, INSTALLED)) == []
    assert list(requirements.unmet(lines, replace(INSTALLED, python="3.11.9"))) == ["requires-python >=3.12"]
    assert not requirements.can_be_installed("requires-python >=3.12")
    assert requirements.can_be_installed("numpy>=9")


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
        "ray[default,RL_lib]>=2",
        "ray[cgraph]; python_version < '3'",
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
        "ray[cgraph]>=2",
        "ray[default,no_such]",
        "numpy>=2.4",
        "torch==2.13.1",
        "torch==2.13.0+cu130",
        'numpy>=3; python_version >= "3.12"',
        'numpy>=3; sys_platform == "linux"',
        "odd>=1",
        "numpy @ https://example.org/numpy-9.whl",
        "https://example.org/numpy-9.whl",
        "./local",
        "numpy; sys_platform ~= 'linux'",
        "numpy; no_such_variable == '1'",
    ],
)
def test_unmet(line: str) -> None:
    assert unmet(line) == [line]


def test_markers_are_evaluated_for_the_bases_python() -> None:
    line = 'missing; python_full_version >= "3.12.4"'
    assert unmet(line, python="3.12.3") == []
    assert unmet(line, python="3.12.10") == [line]


def test_a_prerelease_that_is_installed_counts() -> None:
    installed = replace(INSTALLED, distributions={"x": "1.0rc1"})
    assert list(requirements.unmet(["x>=1.0a1"], installed)) == []


def test_markers_are_evaluated_for_the_bases_processor() -> None:
    line = "missing; platform_machine == 'aarch64'"
    assert list(requirements.unmet([line], INSTALLED)) == []
    assert list(requirements.unmet([line], replace(INSTALLED, machine="aarch64"))) == [line]


def test_an_extra_is_met_where_all_is_that_it_needs() -> None:
    names = ("a", "b", "c", "loop", "nested")
    installed = replace(INSTALLED, extras={}, distributions=dict.fromkeys(names, "1"))
    provided = {
        "a": ["met", "Too_New", "absent", "elsewhere", "many", "more", "deep", "odd", "empty"],
        "c": ["x", "fine"],
        "nested": ["y"],
        "loop": ["one", "two"],
    }
    requires = {
        "a": [
            "b >= 1 ; extra == 'met'",
            "b >= 2 ; extra == 'Too_New'",
            "nowhere ; extra == 'absent'",
            "nowhere ; extra == 'elsewhere' and sys_platform == 'win32'",
            "b ; extra == 'many' or extra == 'more'",
            'nowhere ; extra == "more"',
            "c[x] ; extra == 'deep'",
            "not a requirement ; extra == 'odd'",
        ],
        "c": ["nested[y] ; extra == 'x'", "b ; extra == 'fine'"],
        "nested": ["nowhere ; extra == 'y'"],
        "loop": ["loop[two] ; extra == 'one'", "loop[one] ; extra == 'two'"],
    }
    assert requirements.met_extras(installed, provided=provided, requires=requires) == {
        "a": ("elsewhere", "empty", "many", "met", "odd"),
        "c": ("fine",),
        "loop": ("one", "two"),
    }


def test_what_an_environment_did_without_is_no_news_however_it_is_written() -> None:
    known = ["torchvision; platform_machine == 'x86_64'", "numpy>=99", "-c pins.txt"]
    lines = ["torchvision == 9 ;platform_machine == 'x86_64'", "numpy >= 99", "-c pins.txt", "numpy>=98", "new"]
    assert requirements.news(lines, INSTALLED, known=known) == ["numpy>=98", "new"]


def test_what_is_met_stays_so_while_something_is_installed() -> None:
    lines = ["numpy[x]>=2", "ray[default]; python_version > '3'", "missing", "-c pins.txt", "requires-python >=3"]
    assert requirements.constraints(lines, INSTALLED) == ('ray; python_version > "3"', "torch==2.13.0+cpu")


def test_an_environment_of_which_only_its_requirements_are_known_is_as_old_as_they_allow() -> None:
    lines = [
        "a",
        "b>=1.5,<2",
        "c==3.*",
        "d[x]>=1",
        "e; sys_platform == 'win32'",
        "-c pins.txt",
        "f @ https://x.example/f",
    ]
    known = requirements.assumed(lines, python="3.12.0", machine="x86_64")
    assert known.distributions == {"a": "0", "b": "1.5", "c": "3", "d": "1"}
    asked = ["a", "a>=0.1", "b >= 1.2", "b>=1.6", "d[x]", "d[y]", "e"]
    assert list(requirements.unmet(asked, known)) == ["a>=0.1", "b>=1.6", "d[y]", "e"]
