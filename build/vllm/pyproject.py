"""The pyproject.toml of a vLLM tree: build requirements, dependencies and entry points."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Pyproject:
    """The fields that are used.

    Attributes:
        build_requires: ``build-system.requires``, normalised by ``packaging`` and sorted.
        requires_python: Allowed versions of Python; empty for all.
        dependencies: ``project.dependencies``; empty if setup.py sets them, as in vLLM 0.32.0.
        entry_points: ``module:function`` by name, by group.
    """

    build_requires: tuple[str, ...]
    requires_python: SpecifierSet
    dependencies: tuple[str, ...]
    entry_points: Mapping[str, Mapping[str, str]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text. An empty text has no fields.

        Raises:
            ValueError: The text is not TOML, or a field does not follow the specification.
        """
        document = tomllib.loads(text)
        project = _table(document, "project")
        try:
            return cls(
                build_requires=build_requires(_texts(_table(document, "build-system"), "requires")),
                requires_python=SpecifierSet(str(project.get("requires-python", ""))),
                dependencies=_texts(project, "dependencies"),
                entry_points=_entry_points(project),
            )
        except (InvalidRequirement, InvalidSpecifier) as error:
            raise ValueError(str(error)) from error

    @property
    def programs(self) -> dict[str, str]:
        """The programs that an installation makes. Linux treats ``gui-scripts`` like ``scripts``."""
        return {name: text for group in PROGRAMS for name, text in self.entry_points.get(group, {}).items()}

    @property
    def entry_points_text(self) -> str:
        """The ``entry_points.txt`` that a build backend writes; empty without entry points.

        https://packaging.python.org/en/latest/specifications/entry-points/
        """
        sections = (
            "\n".join((f"[{group}]", *(f"{name} = {target}" for name, target in sorted(entries.items())))) + "\n"
            for group, entries in sorted(self.entry_points.items())
            if entries
        )
        return "\n".join(sections)


PROGRAMS = ("console_scripts", "gui_scripts")
"""Groups of entry points for programs."""


def build_requires(lines: Sequence[str]) -> tuple[str, ...]:
    """Return requirements, normalised by ``packaging`` and sorted.

    Raises:
        InvalidRequirement: A line is not a requirement.
    """
    return tuple(sorted(str(Requirement(line)) for line in lines))


def torch_pins(requires: Sequence[str]) -> frozenset[str]:
    """Return the requirements on torch. Compiled code fits only one torch."""
    return frozenset(text for text in requires if canonicalize_name(Requirement(text).name) == "torch")


def installed_programs(entry_points_text: str) -> list[str]:
    """Return the names of the programs in an ``entry_points.txt`` from :attr:`Pyproject.entry_points_text`."""
    names: list[str] = []
    section = ""
    for line in entry_points_text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif section in PROGRAMS and "=" in line:
            names.append(line.partition("=")[0].strip())
    return names


def _entry_points(project: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """https://packaging.python.org/en/latest/specifications/pyproject-toml/#entry-points."""
    named = _table(project, "entry-points")
    groups = {"console_scripts": _table(project, "scripts"), "gui_scripts": _table(project, "gui-scripts")}
    groups |= {group: _table(named, group) for group in named}
    for group, entries in groups.items():
        for name, target in entries.items():
            if not isinstance(target, str):
                raise ValueError(f"{group}: {name} is not a string")  # noqa: TRY004 - of the file, not of a call
    return dict(groups)


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(f"{key} is not a table")  # noqa: TRY004 - of the file, not of a call
    return found


def _texts(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{key} is not a list of strings")
    return tuple(found)
