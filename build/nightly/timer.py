"""The nightly's timer: an entry in the user's crontab.

The entry starts a script in the state folder that sets the variables that cron's environment lacks. The values stay out
of the crontab, where ``%`` ends a line (crontab(5)).
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.config.folders import REPOSITORY
from build.config.settings import ENV_PREFIX, PRIVATE
from build.errors import UsageError
from build.host import background, process
from build.host.files import write_atomic
from build.host.secrets import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.config.folders import Folders
    from build.console import Console

_MARK = "llm-d-dev nightly"
_CARRIED = re.compile(
    # Single names, not prefixes: DOCKER_AUTH_CONFIG is a password.
    rf"PATH|HOME|LANG|{ENV_PREFIX}\w+|DOCKER_(?:HOST|CONTEXT|CONFIG|CERT_PATH|TLS_VERIFY)"
    r"|PIP_(?:INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|CERT|PROXY|TRUSTED_HOST|CONFIG_FILE)"
    r"|XDG_(?:CONFIG_HOME|RUNTIME_DIR)|SSL_CERT_(?:FILE|DIR)|(?:REQUESTS|CURL)_CA_BUNDLE"
    r"|(?i:(?:https?|all|no)_proxy)"
)
_PATHS = re.compile(
    rf"{ENV_PREFIX}NOTIFY_URL_FILE|DOCKER_(?:CONFIG|CERT_PATH)|PIP_(?:CERT|CONFIG_FILE)|XDG_(?:CONFIG_HOME|RUNTIME_DIR)"
    r"|SSL_CERT_(?:FILE|DIR)|(?:REQUESTS|CURL)_CA_BUNDLE"
)
_SCRIPT = """\
#!/bin/sh
# Written by `python -m build schedule install`: run it again after a change of settings or folders.
{exports}
cd {repository} || exit
{words} >{output} 2>&1 && exit
status=$?
# cron mails the end of the output.
tail -n 20 {output} >&2
exit "$status"
"""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """An installed timer.

    Attributes:
        by: ``cron``, or ``systemd`` for a timer of an earlier version, which the next installation replaces.
        at: Local time, ``HH:MM``.
        entry: Line of the crontab, or file of the timer.
        script: Script that it starts.
    """

    by: str
    at: str
    entry: str
    script: Path

    def document(self) -> dict[str, Any]:
        """Return the document for ``--json``."""
        return {"installed": True, **vars(self)}


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The owner of a timer.

    Attributes:
        folders: Folders of this tool; the state folder identifies the timer.
        environment: Current environment variables.
        console: Console for warnings.
    """

    folders: Folders
    environment: Mapping[str, str]
    console: Console

    @property
    def script(self) -> Path:
        """The script that the timer starts."""
        return self.folders.state / "schedule" / "nightly.sh"

    @property
    def digest(self) -> str:
        """A digest that identifies the state folder."""
        return self.folders.runtime.name

    @property
    def timer(self) -> Path:
        """The file of the systemd user timer that earlier versions installed."""
        home = self.environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(home) / "systemd/user" / f"llm-d-dev-nightly-{self.digest}.timer"


def at(text: str) -> str:
    """Check a time of day, ``HH:MM``.

    Raises:
        ValueError: The text has another form.
    """
    if not re.fullmatch(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError(text)
    return text


def install(place: Owner, *, time: str, options: Sequence[str]) -> Schedule:
    """Start the nightly every day. An earlier timer of this state folder is replaced.

    Args:
        place: Owner of the timer.
        time: Local time, ``HH:MM``.
        options: Options of the nightly.

    Raises:
        UsageError: cron is not installed, or a path contains a newline.
    """
    if "\n" in str(place.script):
        raise UsageError(
            f"{str(place.script)!r} is not valid in a crontab", hint="choose another state folder with --state"
        )
    if shutil.which("crontab") is None:
        raise UsageError("crontab is not installed", hint="install the package cron (or cronie), then run this again")
    _write_script(place, options)
    entry = _install_cron(place, time)
    _remove_systemd(place)
    return Schedule(by="cron", at=time, entry=entry, script=place.script)


def show(place: Owner) -> Schedule | None:
    """Return the timer of this state folder, or None."""
    if place.timer.exists():
        found = re.search(
            r"^OnCalendar=\*-\*-\* (\d\d:\d\d):00$",
            place.timer.read_text(encoding="utf-8", errors="replace"),
            re.MULTILINE,
        )
        return Schedule(by="systemd", at=found[1] if found else "?", entry=str(place.timer), script=place.script)
    ours = [line for line in _crontab() if _is_ours(line, place)]
    if not ours:
        return None
    entry = ours[0].decode(errors="replace").rstrip("\n")
    minute, hour = entry.split()[:2]
    return Schedule(by="cron", at=f"{hour:0>2}:{minute:0>2}", entry=entry, script=place.script)


def remove(place: Owner) -> None:
    """Remove the timer, if there is one."""
    _remove_systemd(place)
    before = _crontab()
    _write_crontab([line for line in before if not _is_ours(line, place)], before)
    shutil.rmtree(place.script.parent, ignore_errors=True)


# --- The script --------------------------------------------------------------------------------------------------


def _write_script(place: Owner, options: Sequence[str]) -> None:
    exports = [f"export {name}={shlex.quote(value)}" for name, value in sorted(_carried(place).items())]
    text = _SCRIPT.format(
        exports="\n".join(exports),
        repository=shlex.quote(str(REPOSITORY)),
        words=shlex.join([sys.executable, "-m", "build", "nightly", *options]),
        output=shlex.quote(str(place.script.with_name("last-output.log"))),
    )
    write_atomic(place.script, text, mode=0o700)


def _carried(place: Owner) -> dict[str, str]:
    """Return the job's environment: the variables that affect a nightly, without secrets."""
    secrets = {ENV_PREFIX + name.upper() for name in PRIVATE}
    found = {name: value for name, value in place.environment.items() if value and _CARRIED.fullmatch(name)}
    for name in sorted(found):
        if name in secrets or redacted(found[name]) != found[name]:
            del found[name]
            advice = f"; set {ENV_PREFIX}NOTIFY_URL_FILE instead" if name.endswith("NOTIFY_URL") else ""
            place.console.warn(f"{name} contains a secret, so the timer does not keep it{advice}")
    # Absolute paths: the timer starts in another folder, with other XDG variables.
    found |= {name: str(Path(value).expanduser().absolute()) for name, value in found.items() if _PATHS.fullmatch(name)}
    found |= _secret_files(found)
    folders = {"STATE": place.folders.state, "CACHE": place.folders.cache}
    return found | {f"{ENV_PREFIX}{name}": str(path) for name, path in folders.items()}


def _secret_files(found: Mapping[str, str]) -> dict[str, str]:
    """Return the variable of the build secrets' files, with absolute paths."""
    name = f"{ENV_PREFIX}BUILD_SECRETS"
    if name not in found:
        return {}
    files: dict[str, str] = json.loads(found[name])
    return {name: json.dumps({key: str(Path(path).expanduser().absolute()) for key, path in files.items()})}


# --- cron --------------------------------------------------------------------------------------------------------


def _install_cron(place: Owner, time: str) -> str:
    hour, _, minute = time.partition(":")
    # crontab(5): an unescaped % ends the command.
    path = shlex.quote(str(place.script)).replace("%", r"\%")
    entry = f"{int(minute)} {int(hour)} * * * /bin/sh {path} # {_MARK} {place.digest}"
    before = _crontab()
    kept = [line for line in before if not _is_ours(line, place)]
    if kept and not kept[-1].endswith(b"\n"):
        kept[-1] += b"\n"
    _write_crontab([*kept, f"{entry}\n".encode()], before)
    if not any(
        Path(words[0]).name in {"cron", "crond"} for pid in background.pids() if (words := background.arguments(pid))
    ):
        place.console.warn("cron is not running: start it, or no nightly will run")
    return entry


def _is_ours(line: bytes, place: Owner) -> bool:
    return line.rstrip().endswith(f"# {_MARK} {place.digest}".encode())


def _crontab() -> list[bytes]:
    """Return the lines of the user's crontab, with line ends."""
    if shutil.which("crontab") is None:
        return []
    try:
        return process.output(["crontab", "-l"], env={"LC_ALL": "C"}).splitlines(keepends=True)
    except subprocess.CalledProcessError as error:
        if b"no crontab for" in error.stderr:
            return []
        raise _refused(error) from error


def _write_crontab(lines: list[bytes], before: list[bytes]) -> None:
    if lines == before:
        return
    with tempfile.NamedTemporaryFile(prefix="llm-d-dev-") as file:
        file.write(b"".join(lines))
        file.flush()
        try:
            process.output(["crontab", file.name])
        except subprocess.CalledProcessError as error:
            raise _refused(error) from error


def _refused(error: subprocess.CalledProcessError) -> UsageError:
    said = error.stderr.decode(errors="replace").strip()
    return UsageError(f"crontab failed: {said}", hint="run `crontab -l` to see whether you may use it")


def _remove_systemd(place: Owner) -> None:
    """Remove the timer of an earlier version, if there is one."""
    if not place.timer.exists():
        return
    process.run(["systemctl", "--user", "disable", "--now", place.timer.name])
    place.timer.unlink()
    place.timer.with_suffix(".service").unlink(missing_ok=True)
    process.run(["systemctl", "--user", "daemon-reload"])
