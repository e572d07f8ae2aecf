"""The requirement lines of a vLLM tree, and the check whether an environment meets them."""

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

# Requirements that a list of versions does not express: constraint files, editable installations.
_ASKS = re.compile(r"(?:-c|--constraint|-e|--editable)[ =]?\s*\S+")
# Options of a requirement affect how it is installed, not what.
_OPTIONS = re.compile(r"\s--?[a-z].*")
_PYTHON = "requires-python"


def file_of(flavor: str) -> str:
    """Return the requirements file of a flavor: vLLM's setup.py reads ``requirements/<device>.txt`` (0.32.0)."""
    return f"requirements/{flavor}.txt"


def of_tree(read: Callable[[str], str | None], flavor: str, pyproject: Pyproject) -> list[str]:
    """Return the run-time requirements of a tree.

    Args:
        read: Returns the text of a file in the tree, or None without such a file.
        flavor: Flavor, which decides the file.
        pyproject: pyproject.toml of the tree.

    Returns:
        Requirement lines, including those of included files, in order and without duplicates. Lines that are not
        requirements but constrain the installation stay as written, such as ``-r`` with a missing file. The allowed
        versions of Python are a line ``requires-python >=3.10``.
    """
    python = (f"{_PYTHON} {pyproject.requires_python}",) if pyproject.requires_python else ()
    return list(dict.fromkeys((*_lines(read, file_of(flavor)), *pyproject.dependencies, *python)))


def _lines(read: Callable[[str], str | None], path: str, seen: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield lines like pip reads them ("Requirements File Format"). A file that includes itself is read once."""
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
    """Return whether a path is a requirements file of vLLM's build."""
    return path.startswith("requirements/build/") and path.endswith((".txt", ".in"))


def without_torch(old: str, new: str) -> bool:
    """Return whether a requirements file changed only by removed lines that name PyTorch.

    vLLM's ``tools/use_existing_torch.py`` (0.32.0) makes such changes. The compiled code then fits the installed torch,
    which is the base's.
    """
    before, after = _asked(old), _asked(new)
    kept = [line for line in before if "torch" not in line.lower()]
    rest = iter(before)
    # A subsequence of the old lines that has all lines without torch.
    return all(line in rest for line in after) and [line for line in after if "torch" not in line.lower()] == kept


def _asked(text: str) -> list[str]:
    """Return the lines of a requirements file without comments and white space."""
    return [line for raw in text.splitlines() if (line := _COMMENT.sub("", raw).strip())]


def normal(line: str) -> str:
    """Return a line normalised by ``packaging``, or unchanged if it is not a requirement."""
    try:
        return str(Requirement(line))
    except InvalidRequirement:
        return line


def name(line: str) -> str | None:
    """Return the normalised name of the required distribution, or None if the line is not a requirement."""
    try:
        return canonicalize_name(Requirement(line).name)
    except InvalidRequirement:
        return None


def can_be_installed(line: str) -> bool:
    """Return whether an installer accepts the line by itself."""
    return not line.startswith(("-", ".")) and name(line) != _PYTHON


def constraints(lines: Iterable[str], installed: Installed) -> tuple[str, ...]:
    """Return constraints for an installation: the requirements that are met, and the torch of the compiled code."""
    met = set(lines) - set(unmet(lines, installed))
    found = {_as_constraint(Requirement(line)) for line in met if name(line) and name(line) != _PYTHON}
    torch = installed.distributions.get("torch")
    return tuple(sorted(found | ({f"torch=={torch}"} if torch else set())))


def _as_constraint(requirement: Requirement) -> str:
    requirement.extras = set()
    return str(requirement)


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The contents of an environment that requirements refer to.

    Attributes:
        distributions: Version of each installed distribution, by normalised name.
        extras: Extras with all their requirements met, normalised, by normalised name.
        python: Version of Python.
        machine: Processor in the form of ``uname -m``.
    """

    distributions: Mapping[str, str]
    extras: Mapping[str, tuple[str, ...]]
    python: str
    machine: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment for markers: the image's, independent of this machine."""
        return {
            "python_version": ".".join(self.python.split(".")[:2]),
            "python_full_version": self.python,
            "platform_machine": self.machine,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
        }

    def meets(self, requirement: Requirement) -> bool:
        """Return whether a requirement is met, including its extras."""
        name = canonicalize_name(requirement.name)
        installed = self.python if name == _PYTHON else self.distributions.get(name)
        if installed is None or requirement.url or not _allows(requirement, installed):
            return False
        return set(map(canonicalize_name, requirement.extras)) <= set(self.extras.get(name, ()))


def met_extras(
    installed: Installed, *, provided: Mapping[str, Sequence[str]], requires: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the extras of installed distributions whose requirements are all met.

    Args:
        installed: Installed distributions, with extras still unknown.
        provided: Extras of each distribution (core metadata specification, Provides-Extra), by normalised name.
        requires: ``Requires-Dist`` lines of each distribution that mention an extra, by normalised name.

    Returns:
        Normalised extras by normalised name, sorted, without distributions that have none.
    """
    needed = {
        name: {extra: _of_extra(extra, requires.get(name, ()), installed) for extra in map(canonicalize_name, extras)}
        for name, extras in provided.items()
    }
    found = {name: tuple(sorted(extras)) for name, extras in needed.items()}
    # An extra may require other extras, so an unmet one can make others unmet in the next round.
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
    """Return the requirements that an extra adds to a distribution."""
    found = [
        Requirement(line) for line in lines if name(line) and extra in set(map(canonicalize_name, _EXTRA.findall(line)))
    ]
    return [one for one in found if one.marker and one.marker.evaluate({**installed.environment, "extra": extra})]


def unmet(lines: Iterable[str], installed: Installed) -> Iterator[str]:
    """Yield the lines that an environment does not meet.

    Args:
        lines: Requirement lines. Lines that are not PEP 508 requirements count as unmet, and so do URL requirements,
            because an installed version does not show its URL.
        installed: Contents of the environment.
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
    """Return the unmet lines, without those that were unmet when the environment was made.

    Args:
        lines: Requirement lines of a commit.
        installed: Contents of the environment.
        known: Lines that were unmet then. If their distribution is not installed, other versions of it do not count
            either.
    """
    known = set(known)
    excused = {normal(line) for line in known}
    absent = {found for line in known if (found := name(line)) and found not in installed.distributions}
    return [line for line in unmet(lines, installed) if normal(line) not in excused and name(line) not in absent]


def assumed(lines: Sequence[str], *, python: str, machine: str) -> Installed:
    """Return the oldest environment that meets requirement lines, for an unknown one.

    Args:
        lines: Requirement lines that it was made from.
        python: Version of Python.
        machine: Processor.
    """
    empty = Installed(distributions={}, extras={}, python=python, machine=machine)
    found = [Requirement(line) for line in lines if name(line) and line in set(unmet([line], empty))]
    return replace(
        empty,
        distributions={canonicalize_name(one.name): _oldest(one) for one in found if not one.url},
        extras={canonicalize_name(one.name): tuple(map(canonicalize_name, one.extras)) for one in found},
    )


def _oldest(requirement: Requirement) -> str:
    """Return the lowest allowed version that a requirement names."""
    bounds = [one.version.removesuffix(".*") for one in requirement.specifier if one.operator in ("==", ">=", "~=")]
    return max(bounds, key=Version, default="0")


def _allows(requirement: Requirement, installed: str) -> bool:
    try:
        return requirement.specifier.contains(installed, prereleases=True)
    except InvalidVersion:
        return False
