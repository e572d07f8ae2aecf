"""Requirement lines of a vLLM tree, and whether an environment meets them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from packaging.utils import NormalizedName

    from build.vllm.pyproject import Pyproject

_COMMENT = re.compile(r"(?:^|\s)#.*")
_CONTINUED = re.compile(r"\\\n")
_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")
_INCLUDE = re.compile(r"(?:-r|--requirement)[ =]?\s*(\S+)")

# What asks for something that a list of versions cannot tell: files of constraints, editable installations.
_ASKS = re.compile(r"(?:-c|--constraint|-e|--editable)[ =]?\s*\S+")
# Options of one requirement say how it is installed, not what is.
_OPTIONS = re.compile(r"\s--?[a-z].*")
_PYTHON = "requires-python"


def file_of(flavor: str) -> str:
    """The file that decides what a flavor needs: setup.py of vLLM 0.32.0 reads ``requirements/<device>.txt``."""
    return f"requirements/{flavor}.txt"


def of_tree(read: Callable[[str], str | None], flavor: str, pyproject: Pyproject) -> list[str]:
    """What a tree asks for at run time.

    Args:
        read: Gives the text of a file of the tree; None where there is none.
        flavor: Decides the file.
        pyproject: The tree's.

    Returns:
        Requirement lines, those of included files too, in order, each once. What is no requirement and asks for
        something all the same, as a file that is not there, is among them as it stands; the versions of Python that
        are allowed are a line ``requires-python >=3.10``.
    """
    python = (f"{_PYTHON} {pyproject.requires_python}",) if pyproject.requires_python else ()
    return list(dict.fromkeys((*_lines(read, file_of(flavor)), *pyproject.dependencies, *python)))


def _lines(read: Callable[[str], str | None], path: str, seen: tuple[str, ...] = ()) -> Iterator[str]:
    """Lines as pip reads them ("Requirements File Format"); a file that includes itself is read once."""
    text = read(path)
    if text is None:
        yield f"-r {path}"
        return
    for raw in _CONTINUED.sub("", text.removeprefix("\ufeff").replace("\r\n", "\n")).splitlines():
        line = _COMMENT.sub("", raw).strip()
        if match := _INCLUDE.fullmatch(line):
            included = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[1]))
            if included not in (*seen, path):
                yield from _lines(read, included, (*seen, path))
        elif _ASKS.fullmatch(line):
            yield line
        elif line and not line.startswith("-"):
            yield _OPTIONS.sub("", line)


def is_for_build(path: str) -> bool:
    """Whether it is a file of requirements of vLLM's build."""
    return path.startswith("requirements/build/") and path.endswith((".txt", ".in"))


def without_torch(old: str, new: str) -> bool:
    """Whether a file of requirements asks for the same as before, less what has to do with PyTorch.

    That is what vLLM's ``tools/use_existing_torch.py`` (0.32.0) makes of it: lines are only removed, and each of them
    names torch. What then is compiled fits the torch that is there, which is the base's.
    """
    before, after = _asked(old), _asked(new)
    kept = [line for line in before if "torch" not in line.lower()]
    rest = iter(before)
    # A part of the old lines, in their order, that lacks none of the others.
    return all(line in rest for line in after) and [line for line in after if "torch" not in line.lower()] == kept


def _asked(text: str) -> list[str]:
    """Lines of a file of requirements without comments and white space."""
    return [line for raw in text.splitlines() if (line := _COMMENT.sub("", raw).strip())]


def normal(line: str) -> str:
    """A line in the one way in which ``packaging`` writes it; as it stands if it is no requirement."""
    try:
        return str(Requirement(line))
    except InvalidRequirement:
        return line


def name(line: str) -> str | None:
    """Normalised name of what a line requires; None if it is no requirement."""
    try:
        return canonicalize_name(Requirement(line).name)
    except InvalidRequirement:
        return None


def can_be_installed(line: str) -> bool:
    """Whether a line can be handed to an installer by itself."""
    return not line.startswith(("-", ".")) and name(line) != _PYTHON


def constraints(lines: Iterable[str], installed: Installed) -> tuple[str, ...]:
    """What has to stay true while something is installed: what is met, and the torch that code is compiled for."""
    met = set(lines) - set(unmet(lines, installed))
    found = {_as_constraint(Requirement(line)) for line in met if name(line) and name(line) != _PYTHON}
    torch = installed.distributions.get("torch")
    return tuple(sorted(found | ({f"torch=={torch}"} if torch else set())))


def _as_constraint(requirement: Requirement) -> str:
    requirement.extras = set()
    return str(requirement)


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What an environment has, as far as requirements ask for it.

    Attributes:
        distributions: Version of each installed distribution, by normalised name.
        extras: Extras of them whose own requirements are met, normalised, by normalised name.
        python: Version of its Python.
        machine: Its processor, as ``uname -m`` has it.
    """

    distributions: Mapping[str, str]
    extras: Mapping[str, tuple[str, ...]]
    python: str
    machine: str

    @property
    def environment(self) -> dict[str, str]:
        """What markers are evaluated for: the image's environment, whatever this tool runs on."""
        return {
            "python_version": ".".join(self.python.split(".")[:2]),
            "python_full_version": self.python,
            "platform_machine": self.machine,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
        }

    def meets(self, requirement: Requirement) -> bool:
        """Whether what a requirement names is installed, with its extras."""
        name = canonicalize_name(requirement.name)
        installed = self.python if name == _PYTHON else self.distributions.get(name)
        if installed is None or requirement.url or not _allows(requirement, installed):
            return False
        return set(map(canonicalize_name, requirement.extras)) <= set(self.extras.get(name, ()))


def met_extras(
    installed: Installed, *, provided: Mapping[str, Sequence[str]], requires: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Extras of installed distributions whose requirements are all met.

    Args:
        installed: What is installed, of which extras are not known yet.
        provided: Extras of each distribution (core metadata specification, Provides-Extra), by normalised name.
        requires: ``Requires-Dist`` lines of each distribution that mention an extra, by normalised name.

    Returns:
        Normalised extras by normalised name, sorted; distributions without any left out.
    """
    needed = {
        name: {extra: _of_extra(extra, requires.get(name, ()), installed) for extra in map(canonicalize_name, extras)}
        for name, extras in provided.items()
    }
    found = {name: tuple(sorted(extras)) for name, extras in needed.items()}
    # An extra may ask for other extras: what is not met in one round can make others unmet in the next.
    while True:
        known = replace(installed, extras=found)
        kept = {
            name: tuple(extra for extra in extras if all(map(known.meets, needed[name][extra])))
            for name, extras in found.items()
        }
        if kept == found:
            return {name: extras for name, extras in found.items() if extras}
        found = kept


def _of_extra(extra: NormalizedName, lines: Sequence[str], installed: Installed) -> list[Requirement]:
    """What an extra adds to a distribution's requirements."""
    found = [
        Requirement(line) for line in lines if name(line) and extra in set(map(canonicalize_name, _EXTRA.findall(line)))
    ]
    return [one for one in found if one.marker and one.marker.evaluate({**installed.environment, "extra": extra})]


def unmet(lines: Iterable[str], installed: Installed) -> Iterator[str]:
    """Lines that an environment does not meet.

    Args:
        lines: Requirement lines; one that is no PEP 508 requirement counts as unmet, and so does one that
            names an address, because no version tells whether that is what is installed.
        installed: The environment.
    """
    for line in lines:
        try:
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate(installed.environment)
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            yield line
            continue
        if applies and not installed.meets(requirement):
            yield line


def news(lines: Iterable[str], installed: Installed, *, known: Iterable[str]) -> list[str]:
    """Unmet lines, less those that an environment did without when it was made.

    Args:
        lines: What a commit requires.
        installed: The environment.
        known: Lines that it did not meet then. Whatever it has none of, it can do without in another version too.
    """
    known = set(known)
    excused = {normal(line) for line in known}
    absent = {found for line in known if (found := name(line)) and found not in installed.distributions}
    return [line for line in unmet(lines, installed) if normal(line) not in excused and name(line) not in absent]


def assumed(lines: Sequence[str], *, python: str, machine: str) -> Installed:
    """The oldest environment that meets requirement lines: one of which nothing else is known.

    Args:
        lines: What it was made from.
        python: Its Python.
        machine: Its processor.
    """
    empty = Installed(distributions={}, extras={}, python=python, machine=machine)
    found = [Requirement(line) for line in lines if name(line) and line in set(unmet([line], empty))]
    return replace(
        empty,
        distributions={canonicalize_name(one.name): _oldest(one) for one in found if not one.url},
        extras={canonicalize_name(one.name): tuple(map(canonicalize_name, one.extras)) for one in found},
    )


def _oldest(requirement: Requirement) -> str:
    """The least version that a requirement names as allowed."""
    bounds = [one.version.removesuffix(".*") for one in requirement.specifier if one.operator in ("==", ">=", "~=")]
    return max(bounds, key=Version, default="0")


def _allows(requirement: Requirement, installed: str) -> bool:
    try:
        return requirement.specifier.contains(installed, prereleases=True)
    except InvalidVersion:
        return False
