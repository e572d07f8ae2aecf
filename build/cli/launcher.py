"""The command ``llm-d-dev`` in the user's own folders, with completion for shells: installation and removal.

Every written file ends in a mark. A file without the mark is never touched.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from build.config.folders import REPOSITORY
from build.errors import UsageError
from build.host import stored
from build.host.files import write_atomic

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from build.console import Console

NAME = "llm-d-dev"

_MARK = f"# Written by `{NAME} install`, removed by `{NAME} uninstall`; checkout: "
_RECORD = f"{NAME}.json"
"""A file in the command's environment: what it was made from, and the files and folders made for it."""

_SCRIPT = """\
#!/bin/sh
python={python}
program={program}
if [ ! -x "$python" ] || [ ! -d "$program" ]; then
    echo "error[usage]: $python or $program is gone" >&2
    echo 'try: `nox -s install` in a checkout of {name}' >&2
    exit 2
fi
exec "$python" "$program" "$@"
"""
_SHELLS = ("bash", "zsh", "fish")
_FOLDERS = ("source", "llm_d", "state", "cache", "model")
"""Attributes of options whose value is a folder."""


@checked(frozen=True, kw_only=True)
class _Installation:
    """The inputs of the command's environment, and the files and folders made for it."""

    requirements: str
    files: tuple[Path, ...]
    folders: tuple[Path, ...]


_FORM = TypeAdapter(_Installation).validate_python


@dataclass(frozen=True, kw_only=True)
class UserFiles:
    """The places of a user's commands and completions.

    Attributes:
        command: The program.
        completions: Completion file of each shell.
    """

    command: Path
    completions: Mapping[str, Path]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> UserFiles:
        """Return the user's own places.

        Sources: bash-completion's README ("FAQ") and fish's documentation ("Where to put completions"). zsh has no user
        folder, so a folder named like the systems' is taken.

        Raises:
            UsageError: The user has no home folder.
        """
        try:
            home = Path.home()
        except RuntimeError as error:
            raise UsageError(f"{error}", hint="set HOME to the folder that holds .local/bin") from error
        data = Path(environment.get("XDG_DATA_HOME") or home / ".local/share")
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        bash = Path(environment.get("BASH_COMPLETION_USER_DIR") or data / "bash-completion")
        return cls(
            command=home / ".local/bin" / NAME,
            completions={
                "bash": bash / "completions" / NAME,
                "zsh": data / "zsh/site-functions" / f"_{NAME}",
                "fish": config / "fish/completions" / f"{NAME}.fish",
            },
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return (self.command, *self.completions.values())


def install(
    place: UserFiles, parser: argparse.ArgumentParser, *, environment: Mapping[str, str], console: Console
) -> dict[str, Any]:
    """Write the command and its completions.

    Args:
        place: Target places.
        parser: Parser to complete.
        environment: Variables in force, for ``PATH``.
        console: Console for instructions.

    Returns:
        The files, for ``--json``.

    Raises:
        UsageError: A file of another origin has one of the names, or a folder is not writable.
    """
    _refuse_foreign(place)
    texts = {place.command: _script(), **{place.completions[shell]: _completion(parser, shell) for shell in _SHELLS}}
    try:
        _write(place, texts)
    except OSError as error:
        raise UsageError(f"the command cannot be installed: {error}", hint="make that folder writable") from error
    _advise(place, environment, console)
    return {"installed": [str(file) for file in texts]}


def _refuse_foreign(place: UserFiles) -> None:
    for file in place.files:
        if os.path.lexists(file) and _checkout(file) is None:
            raise UsageError(f"{file} exists and was not written by {NAME}", hint="move it away, then run this again")


def _write(place: UserFiles, texts: Mapping[Path, str]) -> None:
    earlier = _environment(place)
    before = _recorded(earlier)
    made = [folder for file in texts for folder in _make(file.parent)]
    mark = f"{_MARK}{shlex.quote(str(REPOSITORY))}"
    for file, text in texts.items():
        write_atomic(file, f"{text.rstrip()}\n\n{mark}\n", mode=0o755 if file == place.command else 0o644)
    (earlier / _RECORD).unlink(missing_ok=True)
    _record(Path(sys.prefix), before, files=texts, folders=made)


def uninstall(place: UserFiles, *, console: Console) -> dict[str, Any]:
    """Remove the files that :func:`install` wrote from this checkout. Files of other checkouts stay.

    Args:
        place: The places.
        console: Console for notes on files that stay.

    Returns:
        The removed files, for ``--json``.
    """
    removed = []
    environment = _environment(place)
    recorded = _recorded(environment)
    for file in dict.fromkeys((*place.files, *(recorded.files if recorded else ()))):
        if not os.path.lexists(file):
            continue
        checkout = _checkout(file)
        if checkout is None or (checkout != REPOSITORY and (checkout / "build").is_dir()):
            console.note(f"{file} stays: it belongs to {checkout or 'another origin'}")
            continue
        file.unlink()
        removed.append(str(file))
    if str(place.command) in removed:
        _remove_empty(recorded.folders if recorded else ())
        (environment / _RECORD).unlink(missing_ok=True)
    return {"removed": removed}


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def is_outdated() -> bool:
    """Return whether the command's environment was made from other requirements than the checkout's."""
    recorded = _recorded(Path(sys.prefix))
    return recorded is not None and recorded.requirements != _digest()


def _script() -> str:
    return _SCRIPT.format(python=shlex.quote(sys.executable), program=shlex.quote(str(REPOSITORY / "build")), name=NAME)


def _completion(parser: argparse.ArgumentParser, shell: str) -> str:
    import shtab  # noqa: PLC0415 - only here

    for verb in _verbs(parser):
        for action in verb._actions:  # noqa: SLF001 - argparse has no public list of a parser's options
            if action.dest in _FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return shtab.complete(parser, shell=shell)


def _verbs(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    return next(action.choices.values() for action in parser._actions if action.dest == "verb")  # type: ignore[union-attr] # noqa: SLF001


def _checkout(file: Path) -> Path | None:
    """Return the checkout that wrote a file, or None for a file of another origin."""
    if file.is_symlink() or not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
        _, found, last = text.rpartition(f"\n{_MARK}")
        words = shlex.split(last) if found else []
    except (OSError, ValueError):
        return None
    return Path(words[0]) if len(words) == 1 else None


def _make(folder: Path) -> list[Path]:
    """Make a folder. Return it and the parents that were missing."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _digest() -> str:
    return hashlib.sha256((REPOSITORY / "requirements.txt").read_bytes()).hexdigest()


def _environment(place: UserFiles) -> Path:
    """Return the Python environment of the installed command; this one without such a command."""
    try:
        text = place.command.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    python = re.search(r"^python=(.*)$", text, re.MULTILINE)
    words = _words(python[1]) if python else []
    return Path(words[0]).parent.parent if len(words) == 1 else Path(sys.prefix)


def _words(text: str) -> list[str]:
    """Split a line like a shell. Return nothing for a malformed line."""
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _record(environment: Path, before: _Installation | None, *, files: Iterable[Path], folders: Iterable[Path]) -> None:
    document = {
        "requirements": _digest(),
        "files": sorted(map(str, {*(before.files if before else ()), *files})),
        "folders": sorted(map(str, {*(before.folders if before else ()), *folders})),
    }
    stored.write(environment / _RECORD, document)


def _recorded(environment: Path) -> _Installation | None:
    """Return the record, or None without one."""
    return stored.read(environment / _RECORD, _FORM)


def _advise(place: UserFiles, environment: Mapping[str, str], console: Console) -> None:
    folder = place.command.parent
    places = [Path(one) for one in environment.get("PATH", "").split(os.pathsep) if one]
    earlier = next((one / NAME for one in places if (one / NAME).exists()), place.command)
    if folder not in places:
        console.warn(f'{folder} is not in PATH: add it in your shell\'s profile, `export PATH="{folder}:$PATH"`')
    elif not earlier.samefile(place.command):
        console.warn(f"{earlier} comes first in PATH, so it would start instead")
    if Path(environment.get("SHELL", "")).name == "zsh":
        zsh = place.completions["zsh"].parent
        console.note(f"completion in zsh: add `fpath=({zsh} $fpath)` to ~/.zshrc, before compinit")
