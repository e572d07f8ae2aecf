"""Requirement lines of a vLLM tree, and whether a base meets them."""

from __future__ import annotations

import posixpath
import re
import tomllib
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


_COMMENT = re.compile(r"(?:^|\s)#.*")
_INCLUDE = re.compile(r"(?:-r|--requirement)[ =]?\s*(\S+)")


def of_tree(read: Callable[[str], str], flavor: str) -> list[str]:
    """What a tree needs at run time.

    Args:
        read: Gives the text of a file of the tree; empty where there is none.
        flavor: Decides the file: setup.py of vLLM 0.32.0 reads ``requirements/<device>.txt``.

    Returns:
        Requirement lines, those of included files too, in order, each once.
    """
    return list(dict.fromkeys(_lines(read, f"requirements/{flavor}.txt")))


def _lines(read: Callable[[str], str], path: str, seen: tuple[str, ...] = ()) -> Iterator[str]:
    """Lines as pip reads them ("Requirements File Format"); a file that includes itself is read once."""
    for raw in read(path).splitlines():
        line = _COMMENT.sub("", raw).strip()
        if match := _INCLUDE.fullmatch(line):
            included = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[1]))
            if included not in (*seen, path):
                yield from _lines(read, included, (*seen, path))
        elif line and not line.startswith("-"):
            yield line


def entry_points(pyproject: str) -> str:
    """``entry_points.txt`` as a build backend writes it from a pyproject.toml; empty if there are none.

    https://packaging.python.org/en/latest/specifications/entry-points/ and .../pyproject-toml/#entry-points
    """
    try:
        project = tomllib.loads(pyproject).get("project", {})
    except tomllib.TOMLDecodeError:
        return ""
    groups = {
        "console_scripts": project.get("scripts", {}),
        "gui_scripts": project.get("gui-scripts", {}),
        **project.get("entry-points", {}),
    }
    sections = (
        "\n".join((f"[{group}]", *(f"{name} = {target}" for name, target in sorted(entries.items())))) + "\n"
        for group, entries in sorted(groups.items())
        if entries
    )
    return "\n".join(sections)


def console_scripts(pyproject: str) -> dict[str, str]:
    """Programs that a pyproject.toml declares: ``module:function`` by name."""
    try:
        scripts: dict[str, str] = tomllib.loads(pyproject).get("project", {}).get("scripts", {})
    except tomllib.TOMLDecodeError:
        return {}
    return scripts


def build_requires(pyproject: str) -> tuple[str, ...]:
    """``build-system.requires`` of a pyproject.toml; empty if it cannot be read."""
    try:
        requires: Sequence[str] = tomllib.loads(pyproject)["build-system"]["requires"]
        return tuple(sorted(str(Requirement(text)) for text in requires))
    except (tomllib.TOMLDecodeError, KeyError, InvalidRequirement):
        return ()


def torch_pins(build_requires: Sequence[str]) -> frozenset[str]:
    """The requirement on torch: compiled code fits one torch only."""
    return frozenset(text for text in build_requires if canonicalize_name(Requirement(text).name) == "torch")


def unmet(lines: Sequence[str], distributions: Mapping[str, str], *, python: str) -> Iterator[str]:
    """Lines that the installed distributions do not meet.

    Args:
        lines: Requirement lines; one that is no PEP 508 requirement counts as unmet, and so does one that
            names an address, because no version tells whether that is what is installed.
        distributions: Version by normalised name.
        python: The version that markers are evaluated for.
    """
    environment = {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python}
    # Linux on the machine that images run on, whatever this tool runs on.
    environment |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            yield line
            continue
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        installed = distributions.get(canonicalize_name(requirement.name))
        if installed is None or requirement.url or not _allows(requirement, installed):
            yield line


def _allows(requirement: Requirement, installed: str) -> bool:
    try:
        return requirement.specifier.contains(installed, prereleases=True)
    except InvalidVersion:
        return False
