"""``docker/common-versions`` of an llm-d tree: the versions that its Dockerfiles have no default for.

Assignments for a shell, ``KEY=value # comment``. Only read, never run: what a shell would have to work out is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)=
    (?:"(?P<double>[^"$`\\]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'$`\\;&|<>()]*))
    (?:\s+\#.*|\s*)""",
    re.VERBOSE,
)
_NOTHING = re.compile(r"\s*(?:#.*)?")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One assignment.

    Attributes:
        name: Before the equals sign.
        value: Behind it, without quotes.
        line: Where, from 1.
    """

    name: str
    value: str
    line: int


def read(path: Path, *, name: str) -> tuple[Version, ...]:
    """The assignments of a file, the last of each name; none if there is no file (trees of 2025 have none).

    Args:
        path: The file.
        name: What to call it in messages.

    Raises:
        SourceError: It cannot be read, or a line is no plain assignment; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}", hint="give another tree with --llm-d PATH") from error
    return parse(text, name=name)


def parse(text: str, *, name: str) -> tuple[Version, ...]:
    """As :func:`read`, from the file's text."""
    found: dict[str, Version] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if _NOTHING.fullmatch(line):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise SourceError(
                f"{name}:{number} is no plain KEY=value: {line.strip()}",
                hint="correct it there, or give another tree with --llm-d PATH",
            )
        value = next(part for part in match.group("double", "single", "bare") if part is not None)
        found[match["name"]] = Version(name=match["name"], value=value, line=number)
    return tuple(found.values())
