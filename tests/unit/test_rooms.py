"""Rooms of `build` and `smoke`: which may import which."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from build.config.folders import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A room imports only rooms below it, also for the type checker alone. Modules at the top of `build` are rooms too.
BUILD = {
    "cli": 8,
    "nightly": 7,
    **dict.fromkeys(("flavors", "overlay"), 6),
    **dict.fromkeys(("base", "gate"), 5),
    **dict.fromkeys(("context", "layer", "llmd"), 4),
    **dict.fromkeys(("registry", "source"), 3),
    **dict.fromkeys(("engine", "pypi"), 2),
    **dict.fromkeys(("config", "host"), 1),
    **dict.fromkeys(("console", "errors", "vllm"), 0),
    "harmless": -1,
}
# The tests, conftest and entry points are on top of all of these.
SMOKE = {
    "suite": 4,
    **dict.fromkeys(("image", "results"), 3),
    **dict.fromkeys(("gpu", "server"), 2),
    "diagnosis": 1,
}


def modules(package: str) -> Iterator[Path]:
    return (path for path in (REPOSITORY / package).rglob("*.py") if "inside" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """Dotted names of what a module imports of this project."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module in ("build", "smoke"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def edges(package: str) -> set[tuple[str, str]]:
    """Which room of a package imports which other one."""
    found = set()
    for path in modules(package):
        room = path.relative_to(REPOSITORY / package).with_suffix("").parts[0]
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == package and parts[1] != room:
                found.add((room, parts[1]))
    return found


@pytest.mark.parametrize(("package", "heights"), [("build", BUILD), ("smoke", SMOKE)])
def test_a_room_imports_only_rooms_below(package: str, heights: dict[str, int]) -> None:
    upward = {(room, other) for room, other in edges(package) if room in heights and heights[other] >= heights[room]}
    assert upward == set()


def test_every_room_of_build_is_in_the_table() -> None:
    rooms = {path.relative_to(REPOSITORY / "build").with_suffix("").parts[0] for path in modules("build")}
    assert rooms - {"__init__", "__main__"} == set(BUILD)


def test_build_never_imports_smoke() -> None:
    assert not [path for path in modules("build") for name in imported(path) if name.split(".")[0] == "smoke"]


@pytest.mark.parametrize("package", ["build", "smoke"])
def test_every_room_says_what_it_is(package: str) -> None:
    folders = {path.parent for path in modules(package)}
    silent = [
        folder.name for folder in folders if not ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    ]
    assert silent == []
