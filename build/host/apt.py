"""Installation of the distribution's packages for missing programs.

All packages come from the machine's own package sources. Debian 12 has neither an engine with CDI nor buildx; there,
the packages in ``_BORROWED``, which need no newer libc, come from Debian 13 on the same mirror. apt works on copies of
the sources and preferences, so only the installed packages stay behind.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import BusyError, EngineError, LlmdDevError
from build.host import process, scratch, turn
from build.host.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from build.console import Console

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Folders of a distribution's programs. A user's PATH often lacks those of root's programs."""

# docker/cli, cli-plugins/manager/manager_unix.go, defaultSystemPluginDirs.
_PLUGIN_FOLDERS = (
    "usr/local/lib/docker/cli-plugins",
    "usr/local/libexec/docker/cli-plugins",
    "usr/lib/docker/cli-plugins",
    "usr/libexec/docker/cli-plugins",
)
_PLUGINS = {"docker-buildx": "docker-buildx"}
_PROGRAMS = {"docker.io": "dockerd", "docker-cli": "docker"}
"""Program by package, for packages with another name."""
_CLIENT = "docker-cli"
"""Packages that are part of docker.io in some releases and separate in others."""

_BORROWED = ("docker.io", "docker-cli", "docker-buildx")
_BORROWER = "bookworm"
_LENDER = "trixie"

_LOCK_WAIT_S = 300
# dpkg's message when it configures a package, and the folders of packages' units (systemd.unit(5)).
_SET_UP = re.compile(r"Setting up (?P<package>[a-z0-9][a-z0-9+.-]*)(?::[a-z0-9]+)? \(")
_UNIT = re.compile(r"(?:/usr)?/lib/systemd/system/(?P<unit>[^/]+)")
_REFUSED = "#!/bin/sh\n# llm-d-dev: no service may start while its packages are installed.\nexit 101\n"
"""Exit code 101 forbids invoke-rc.d to start a service (Debian policy, section 9.3.3.1)."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A distribution's release, read from os-release(5).

    Attributes:
        id: Such as ``debian``.
        like: Distributions that it is derived from.
        codename: Such as ``bookworm``; empty without one.
        name: Name to show.
    """

    id: str
    like: tuple[str, ...]
    codename: str
    name: str

    @property
    def has_apt(self) -> bool:
        """Whether the distribution is Debian, Ubuntu, or derived from them."""
        return bool({"debian", "ubuntu"} & {self.id, *self.like})

    @property
    def borrows(self) -> bool:
        """Whether its own Docker Engine is too old, and a later release's can be installed."""
        return self.id == "debian" and self.codename == _BORROWER


def release(root: Path) -> Distribution:
    """Return the release installed below ``root``. Unknown fields are empty.

    Args:
        root: ``/``, or a folder in its place.
    """
    fields: dict[str, str] = {}
    for name in ("etc/os-release", "usr/lib/os-release"):
        with contextlib.suppress(OSError):
            fields = _os_release((root / name).read_text(encoding="utf-8"))
            break
    return Distribution(
        id=fields.get("ID", ""),
        like=tuple(fields.get("ID_LIKE", "").split()),
        codename=fields.get("VERSION_CODENAME", ""),
        name=fields.get("PRETTY_NAME", platform.system()),
    )


def _os_release(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in lines}


def program(name: str) -> str | None:
    """Return a program's path from PATH or the folders of root's programs, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def _has_plugin(name: str) -> bool:
    folders = [Path.home() / ".docker/cli-plugins", *(Path("/") / folder for folder in _PLUGIN_FOLDERS)]
    return any((folder / name).is_file() for folder in folders)


def _present(package: str) -> bool:
    """Return whether a package's program is on this machine, whatever installed it."""
    if plugin := _PLUGINS.get(package):
        return _has_plugin(plugin)
    return program(_PROGRAMS.get(package, package)) is not None


def missing(packages: Sequence[str], *, present: Callable[[str], bool] = _present) -> tuple[str, ...]:
    """Return those of ``packages`` whose program is not on this machine.

    Args:
        packages: Debian's package names.
        present: Tells whether a package's program exists.
    """
    return tuple(package for package in packages if not present(package))


ANOTHER_ENGINE = "set DOCKER_HOST to an engine that runs"


def ensure(
    packages: Sequence[str],
    *,
    allowed: bool,
    console: Console,
    root: Path = Path("/"),
    otherwise: str = ANOTHER_ENGINE,
) -> tuple[str, ...]:
    """Install those of ``packages`` whose program is missing, after a note that names them.

    This starts no service, enables none for the next boot, and removes no installed package.

    Args:
        packages: Debian's package names.
        allowed: Whether the user lets packages be installed.
        console: Console for the note.
        root: The machine's file system.
        otherwise: Alternative to an installation, in words, for hints.

    Returns:
        The installed packages; empty if no program was missing.

    Raises:
        EngineError: A program is missing, and its package may not or cannot be installed.
        BusyError: Another package manager did not end within 5 minutes.
    """
    wanted = missing(packages)
    if not wanted:
        return ()
    here = release(root)
    _check_possible(wanted, here, allowed=allowed, user=os.geteuid(), otherwise=otherwise)
    borrowed = [name for name in wanted if name in _BORROWED] if here.borrows else []
    source = f" ({', '.join(borrowed)} from Debian 13, the rest from {here.name})" if borrowed else ""
    console.note(f"installing with apt-get: {', '.join(wanted)}{source}")
    with (
        # One run at a time: a second one would remove the first one's policy-rc.d.
        turn.taken(root / "run/llm-d-dev", "packages", doing="installing packages", console=console),
        console.step("packages") as report,
        _no_services(root) as installed,
        _private_apt(root, here) as apt,
    ):
        _install(apt, wanted, report, installed)
    if absent := missing(packages):
        raise EngineError(
            f"{', '.join(absent)} installed, but the program is not in an expected folder",
            hint="install Docker Engine 25 or newer with buildx by hand, then run this again",
        )
    return wanted


def _check_possible(
    wanted: Sequence[str], here: Distribution, *, allowed: bool, user: int, otherwise: str = ANOTHER_ENGINE
) -> None:
    names = " ".join(wanted)
    if not allowed:
        raise EngineError(
            f"not installed: {names}; and this tool may not install packages here",
            hint=f"leave out --no-install (LLM_D_DEV_INSTALL=true), or {otherwise}",
        )
    if not here.has_apt:
        raise EngineError(
            f"not installed: {names}; and {here.name} is neither Debian nor Ubuntu",
            hint="install Docker Engine 25 or newer with buildx, start it, then run this again"
            if otherwise == ANOTHER_ENGINE
            else otherwise,
        )
    if user != 0:
        raise EngineError(
            f"not installed: {names}; and only root can install packages",
            hint=f"run this as root, or {otherwise}",
        )


def _install(apt: Apt, wanted: Sequence[str], report: Callable[[str], None], installed: set[str]) -> None:
    # An unreachable source may not matter: only the installation's result counts.
    update = apt.get("update", report=report)
    names = [name for name in wanted if name != _CLIENT or apt.knows(name)]

    def note(line: str) -> None:
        if match := _SET_UP.match(line):
            installed.add(match["package"])
        report(line)

    install = apt.get("install", "--no-install-recommends", "--no-remove", *names, report=note)
    if install.returncode:
        raise _failure(names, [*update.tail, *install.tail])


def _failure(names: Sequence[str], lines: Sequence[str]) -> LlmdDevError:
    """Return the error with apt's own message. The last error ended the run."""
    errors = [line for line in lines if line.startswith("E:")]
    why = errors[-1] if errors else (lines[-1] if lines else "apt-get printed no error")
    if locked := [line for line in errors if "Could not get lock" in line]:
        return BusyError(
            f"another package manager is running: {locked[0]}", hint="wait for it to end, then run this again"
        )
    return EngineError(
        f"apt-get could not install {' '.join(names)}: {why}",
        hint="check the machine's package sources with `apt-get update`; the log has all of apt's output",
    )


@dataclass(frozen=True, kw_only=True)
class Apt:
    """apt with its sources, preferences, lists and downloads in a private folder.

    Attributes:
        options: The ``-o`` options for every command.
    """

    options: tuple[str, ...]

    @classmethod
    def at(cls, folder: Path) -> Apt:
        """Return apt with everything but the installed packages in ``folder``."""
        settings = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": folder / "sources.list.d",
            "Dir::Etc::preferencesparts": folder / "preferences.d",
            "Dir::State::lists": folder / "lists",
            "Dir::Cache::archives": folder / "archives",
            "Dir::Cache::pkgcache": folder / "pkgcache.bin",
            "Dir::Cache::srcpkgcache": folder / "srcpkgcache.bin",
            "Acquire::Retries": 3,
            "Acquire::Languages": "none",
            "APT::Get::Assume-Yes": "true",
            "DPkg::Lock::Timeout": _LOCK_WAIT_S,
            "Dpkg::Use-Pty": "0",
            "Dpkg::Options::": "--force-confold",
        }
        return cls(options=tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}")))

    def get(self, verb: str, *arguments: str, report: Callable[[str], None]) -> process.Completed:
        """Run ``apt-get`` and pass its output to ``report`` too."""
        return process.run(["apt-get", *self.options, verb, *arguments], env=_environment(), on_line=report)

    def knows(self, package: str) -> bool:
        """Return whether one of the sources has the package."""
        return process.run(["apt-cache", *self.options, "show", package]).returncode == 0


def _environment() -> Mapping[str, str]:
    """Return variables that keep package scripts from asking questions or restarting services, and set English."""
    return {
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "",
        "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}",
        "DEBIAN_FRONTEND": "noninteractive",
        "APT_LISTCHANGES_FRONTEND": "none",
        "NEEDRESTART_SUSPEND": "1",
    }


@contextlib.contextmanager
def _private_apt(root: Path, here: Distribution) -> Iterator[Apt]:
    """Yield apt with copies of the machine's sources and preferences, removed when the block ends."""
    with scratch.folder() as name:
        folder = Path(name)
        # apt fetches as its own user, who must be able to read the folder.
        folder.chmod(0o755)
        for part in ("lists/partial", "archives/partial"):
            (folder / part).mkdir(parents=True)
        copy_configuration(root / "etc/apt", folder)
        if here.borrows:
            _add_lender(folder)
        yield Apt.at(folder)


def copy_configuration(etc_apt: Path, folder: Path) -> None:
    """Copy a machine's package sources and preferences.

    Args:
        etc_apt: The machine's ``/etc/apt``.
        folder: Folder that receives ``sources.list.d`` and ``preferences.d``.
    """
    sources, preferences = folder / "sources.list.d", folder / "preferences.d"
    sources.mkdir()
    preferences.mkdir()
    if (main := etc_apt / "sources.list").is_file():
        shutil.copyfile(main, sources / "sources.list")
    for path in [*etc_apt.glob("sources.list.d/*.list"), *etc_apt.glob("sources.list.d/*.sources")]:
        shutil.copyfile(path, sources / path.name)
    for path in etc_apt.glob("preferences.d/*"):
        shutil.copyfile(path, preferences / path.name)


def _add_lender(folder: Path) -> None:
    """Add Debian 13's packages, installable only if borrowed.

    Raises:
        EngineError: The machine has no source of Debian 12, so the mirror is unknown.
    """
    sources = folder / "sources.list.d"
    stanzas = [text for path in sorted(sources.glob("*.sources")) for text in lend_deb822(_read(path))]
    lines = [text for path in sorted(sources.glob("*.list")) for text in lend_one_line(_read(path))]
    if not stanzas and not lines:
        raise EngineError(
            f"no package source of Debian's {_BORROWER} is configured, so its mirror is not known",
            hint=f"add {_BORROWER} to /etc/apt/sources.list, or install Docker Engine 25 or newer by hand",
        )
    write_atomic(sources / "lender.sources", "\n".join(stanzas))
    write_atomic(sources / "lender.list", "".join(lines))
    write_atomic(folder / "preferences.d/lender.pref", preferences())


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def preferences() -> str:
    """Return pins that admit only the borrowed packages from the lender (apt_preferences(5))."""
    return (
        f"Package: *\nPin: release n={_LENDER}*\nPin-Priority: -1\n\n"
        f"Package: {' '.join(_BORROWED)}\nPin: release o=Debian,n={_LENDER}*\nPin-Priority: 990\n"
    )


def lend_deb822(text: str) -> list[str]:
    """Return the lender's stanzas on the mirrors of a ``.sources`` file.

    Args:
        text: Content of the file, in the format of sources.list(5), "DEB822-STYLE FORMAT".

    Returns:
        A copy of each enabled stanza for binary packages of the borrower's main component, with the lender's suites
            in place of the borrower's. Mirror, keys and options stay.
    """
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [lent for stanza in re.split(r"\n[ \t]*\n", text) if (lent := _lend_stanza(stanza))]


def _lend_stanza(stanza: str) -> str | None:
    # A field continues over lines that start with a space. Its name is case-insensitive.
    fields = {
        match[1].lower(): (match[1], match[2].strip())
        for match in re.finditer(r"^([\w-]+):(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE)
    }
    words = {key: value.split() for key, (_, value) in fields.items()}
    suites = _lent_suites(words.get("suites", []))
    disabled = words.get("enabled", ["yes"])[:1] in (["no"], ["false"], ["0"], ["off"])
    if disabled or "deb" not in words.get("types", []) or "main" not in words.get("components", []) or not suites:
        return None
    changed = {"types": "deb", "suites": " ".join(suites), "components": "main"}
    return "".join(f"{name}: {changed.get(key, value)}\n" for key, (name, value) in fields.items())


_ONE_LINE = re.compile(
    r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)"
)


def lend_one_line(text: str) -> list[str]:
    """Return the lender's lines on the mirrors of a ``.list`` file.

    Args:
        text: Content of the file, in the format of sources.list(5), "ONE-LINE-STYLE FORMAT".

    Returns:
        A copy for the lender of each line for binary packages of the borrower's main component.
    """
    lent = []
    for match in filter(None, map(_ONE_LINE.match, text.splitlines())):
        options = f"[{match['options']}] " if match["options"] else ""
        if "main" in match["components"].split():
            lent += [f"deb {options}{match['uri']} {suite} main\n" for suite in _lent_suites([match["suite"]])]
    return lent


def _lent_suites(suites: Sequence[str]) -> list[str]:
    """Turn ``bookworm-security`` into ``trixie-security``. Leave out backports and other releases."""
    kinds = {_BORROWER + kind: _LENDER + kind for kind in ("", "-updates", "-security")}
    return [kinds[suite] for suite in suites if suite in kinds]


@contextlib.contextmanager
def _no_services(root: Path) -> Iterator[set[str]]:
    """Keep packages installed in the block from starting services, now and at the next boot.

    Yields:
        A set to fill with the names of the installed packages. Units that others enable meanwhile stay enabled.
    """
    policy = root / "usr/sbin/policy-rc.d"
    # A killed run may have left its own file.
    ours = not policy.exists() or _read(policy) == _REFUSED
    enabled = _enabled(root)
    installed: set[str] = set()
    if ours:
        write_atomic(policy, _REFUSED, mode=0o755)
    try:
        yield installed
    finally:
        if ours:
            policy.unlink(missing_ok=True)
        units = _units(root, installed)
        for link in _enabled(root) - enabled:
            with contextlib.suppress(FileNotFoundError):  # already removed
                if link.readlink().name in units:
                    link.unlink()


def _enabled(root: Path) -> set[Path]:
    """Return the links that enable systemd units; ``systemctl disable`` removes them and does no more."""
    return {path for path in (root / "etc/systemd/system").glob("**/*") if path.is_symlink()}


def _units(root: Path, packages: Iterable[str]) -> set[str]:
    """Return the names of packages' systemd units, from dpkg's file lists (dpkg(1), ``/var/lib/dpkg/info``)."""
    info = root / "var/lib/dpkg/info"
    # The list of an architecture's package has a colon and the architecture after the name.
    lists = [path for name in packages for path in (info / f"{name}.list", *info.glob(f"{name}:*.list"))]
    files = (line for path in lists if path.is_file() for line in _read(path).splitlines())
    return {match["unit"] for file in files if (match := _UNIT.fullmatch(file))}
