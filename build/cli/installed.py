"""A check for the required Python and packages, before any other import.

It uses only the standard library, in syntax that an older Python can parse.
"""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import build

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHOWN = 3

CHECKOUT = Path(str(build.__file__)).resolve().parents[1]


def require(argv: "Sequence[str]") -> None:
    """End the program with two lines and exit code 2 if Python or a package is missing or too old.

    Args:
        argv: Arguments after the program's name.

    Raises:
        SystemExit: A requirement is not met, or git is missing.
    """
    if not shutil.which("git"):
        # GitPython's import fails without git.
        _refuse(argv, "the program git is not in PATH", "install the distribution's package git")
    lacking = missing(CHECKOUT / "pyproject.toml", sys.path)
    if lacking:
        _refuse(argv, f"{lacking} ({sys.executable})", _advice())


def _advice() -> str:
    pins = shlex.quote(str(CHECKOUT / "requirements.txt"))
    return (
        "`nox -s VERB -- …` and `nox -s install` bring the packages; or, with a Python that is new enough: "
        f"`python3 -m venv .venv && .venv/bin/pip install --require-hashes -r {pins}`"
    )


def _refuse(argv: "Sequence[str]", what: str, hint: str) -> None:
    if "--json" in argv:
        error = {"word": "usage", "what": what, "hint": hint, "exit_code": 2, "log": None}
        sys.stdout.write(json.dumps({"error": error}, indent=2) + "\n")
    sys.stderr.write(f"error[usage]: {what}\ntry: {hint}\n")
    raise SystemExit(2)


def missing(pyproject: Path, path: "Iterable[str]") -> str:
    """Return which lower bounds of a ``pyproject.toml`` are not met; an empty text if all are.

    Args:
        pyproject: The file, with ``requires-python``, and ``dependencies`` as ``name>=version``, one a line.
        path: Folders that packages are imported from.
    """
    text = pyproject.read_text(encoding="utf-8")
    python = re.search(r'^requires-python = ">=([\d.]+)"', text, re.MULTILINE)
    if python and sys.version_info[:3] < _numbers(python.group(1)):
        return f"Python is {sys.version.split()[0]}, and {python.group(1)} or newer is needed"
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    required = re.findall(r'"([\w.-]+)>=([\d.]+)"', listed.group(1) if listed else "")
    found = _versions(path)
    lacking = list(filter(None, (_lack(name, needed, found.get(_normal(name), "")) for name, needed in required)))
    more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    return "; ".join(lacking[:_SHOWN]) + more


def _lack(name: str, needed: str, found: str) -> str:
    if not found:
        return f"the package {name} is not installed"
    if _numbers(found) < _numbers(needed):
        return f"the package {name} is {found}, and {needed} or newer is needed"
    return ""


def _versions(path: "Iterable[str]") -> "dict[str, str]":
    """Return the versions of installed packages by name.

    They are read from folder names (packaging.python.org, "Recording installed projects"): importlib.metadata takes ten
    times as long, at every start.
    """
    found: dict[str, str] = {}
    for folder in map(Path, path):
        for entry in folder.iterdir() if folder.is_dir() else ():
            match = re.match(r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info$", entry.name)
            if match:
                # Python imports the first one on the path.
                found.setdefault(_normal(match.group(1)), match.group(2))
    return found


def _normal(name: str) -> str:
    """Return a name in the specification's normal form ("Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> "tuple[int, ...]":
    """Return a release's numbers without trailing zeros: 3.11.0 is 3.11."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, re.sub(r"(?:\.0+)+$", "", match.group()).split("."))) if match else ()
