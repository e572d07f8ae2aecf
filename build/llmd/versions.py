"""The version files of an llm-d tree, such as ``docker/common-versions``, for arguments without a default.

They hold shell assignments, ``KEY=value # comment``, which are read and never run. A value may refer to an earlier one.
A line that needs a shell is returned as unread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import SourceError
from build.llmd.references import expand, names_in, unguarded

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)=
    (?:"(?P<double>[^"`\\]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'`\\;&|<>()]*))
    (?:\s+\#.*|\s*)""",
    re.VERBOSE,
)
_ASSIGNS = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=")
_NOTHING = re.compile(r"\s*(?:#.*)?")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One assignment.

    Attributes:
        name: Name before the equals sign.
        value: Value without quotes.
        place: Place as ``file:line``.
    """

    name: str
    value: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A line that only a shell can evaluate.

    Attributes:
        name: Name that it assigns; None if it is not an assignment.
        text: The line.
        place: Place as ``file:line``.
    """

    name: str | None
    text: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Stated:
    """The contents of version files.

    Attributes:
        versions: Assignments, the last of each name.
        unread: Lines that were not understood, unless a later assignment replaces them.
    """

    versions: tuple[Version, ...] = ()
    unread: tuple[Unread, ...] = ()

    def then(self, later: Stated) -> Stated:
        """Merge with a later file, whose assignments override."""
        names = {one.name for one in later.versions} | {one.name for one in later.unread}
        return Stated(
            versions=(*(one for one in self.versions if one.name not in names), *later.versions),
            unread=(*(one for one in self.unread if one.name is None or one.name not in names), *later.unread),
        )


def read(path: Path, *, name: str) -> Stated:
    """Read the assignments of a file. A missing file has none (trees of 2025 lack it).

    Args:
        path: Path of the file.
        name: Name for messages.

    Raises:
        SourceError: The file is not readable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Stated()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}", hint="give another tree with --llm-d PATH") from error
    return parse(text, name=name)


def parse(text: str, *, name: str) -> Stated:
    """Parse the text of a file, like :func:`read`."""
    found: dict[str, Version] = {}
    unread: list[Unread] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if _NOTHING.fullmatch(line):
            continue
        place = f"{name}:{number}"
        match = _LINE.fullmatch(line)
        value = _value(match, {one.name: one.value for one in found.values()}) if match else None
        if match is None or value is None:
            assigned = _ASSIGNS.match(line)
            unread.append(Unread(name=assigned[1] if assigned else None, text=line.strip(), place=place))
            found.pop(assigned[1] if assigned else "", None)
            continue
        unread = [one for one in unread if one.name != match["name"]]
        found[match["name"]] = Version(name=match["name"], value=value, place=place)
    return Stated(versions=tuple(found.values()), unread=tuple(unread))


def _value(match: re.Match[str], known: dict[str, str]) -> str | None:
    """Return the assigned value, or None if it refers to an unknown variable."""
    if match["single"] is not None:
        return match["single"]
    text: str = match["bare"] if match["double"] is None else match["double"]
    if not unguarded(text) <= known.keys():
        return None
    value = expand(text, known)
    return None if "$" in value or names_in(value) else value
