"""The one place that makes text of images, repositories, registries and servers harmless for a terminal.

A terminal obeys control characters: they move the cursor, set the clipboard (OSC 52), and make it type answers to
questions. Controls of writing direction show words in another order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Of Unicode's categories Cc, Cs, Zl, Zp, and of Cf what has no shape or turns the writing around (UAX #9, section 2).
# A tab and the end of a line are left.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_COLOUR = r"\x1b\[[0-9;]*m"
_OBEYED_BUT_COLOURS = re.compile(f"{_COLOUR}|\r\n|{_OBEYED.pattern}")
_COMMAND = re.compile(r"(?<!\S)::|##\[")
_KEPT = re.compile(f"{_COLOUR}|\r\n")


def harmless(text: str) -> str:
    r"""Return a text with control characters written out, as in ``\x1b[2J``."""
    return _OBEYED.sub(_written, text)


def coloured(text: str) -> str:
    """Return a harmless text that keeps its colours."""
    return _OBEYED_BUT_COLOURS.sub(lambda found: found[0] if _KEPT.fullmatch(found[0]) else _written(found), text)


def inert(text: str) -> str:
    """Return a text without anything that a runner of GitHub Actions takes for a command.

    The runner looks for ``::`` at the beginning of a line, spaces left out, and for ``##[`` anywhere
    (actions/runner, src/Runner.Common/ActionCommand.cs).
    """
    return _COMMAND.sub(lambda found: ": :" if found[0] == "::" else "## [", text)


def is_in_actions(environment: Mapping[str, str]) -> bool:
    """Return whether GitHub Actions runs a process with these variables and reads its output."""
    return environment.get("GITHUB_ACTIONS") == "true"


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
