"""The nightly's timer: installed, shown, removed, and started as cron starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from build.config.folders import Folders
from build.console import Console
from build.errors import UsageError
from build.nightly.timer import Owner, Schedule, at, install, remove, show

if TYPE_CHECKING:
    from pathlib import Path

# As Debian's (cron 3.0pl1): a table that does not end with a newline is refused.
_CRONTAB = """\
#!/bin/sh
case "$1" in
-l) [ -e "$TABLE" ] || { echo "no crontab for $(id -un)" >&2; exit 1; }; cat "$TABLE" ;;
*) [ ! -s "$1" ] || [ -z "$(tail -c 1 "$1")" ] || { echo "new crontab file is missing newline" >&2; exit 1; }
   cp "$1" "$TABLE" ;;
esac
"""
_SYSTEMCTL = '#!/bin/sh\necho "$*" >>"$CALLS"\n'
_MODULE = """import json, os, pathlib, sys
pathlib.Path(os.environ["HOME"], "ran").write_text(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]))
"""
OTHERS = b'# mine\n\nMAILTO=""\n\t*/5 * * * *   /usr/bin/true   100\\% \xff\n@reboot x # llm-d-dev nightly of another\n'


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine with a crontab, a systemd user manager, and a checkout."""

    folder: Path
    place: Owner

    @property
    def checkout(self) -> Path:
        return self.folder / "it's 100% a check out"

    @property
    def table(self) -> Path:
        return self.folder / "table"

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def install(self, time: str = "02:00") -> Schedule:
        return install(self.place, time=time, options=["--flavor", "a b"])

    def as_cron_does(self, entry: str) -> subprocess.CompletedProcess[str]:
        """Start the entry's command as cron does (crontab(5)): four variables, and up to a % without backslash."""
        command = re.split(r"(?<!\\)%", entry.split(None, 5)[5])[0].replace(r"\%", "%")
        bare = ["env", "-i", "SHELL=/bin/sh", f"HOME={self.folder}", "PATH=/usr/bin:/bin", "LOGNAME=x"]
        return subprocess.run([*bare, "/bin/sh", "-c", command], cwd="/", capture_output=True, text=True, check=False)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Every folder has a space and a % in its name, and a quote."""
    programs = tmp_path / "programs"
    program(programs / "crontab", _CRONTAB)
    program(programs / "systemctl", _SYSTEMCTL)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("TABLE", str(tmp_path / "table"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    checkout = tmp_path / "it's 100% a check out"
    program(checkout / "build/__main__.py", _MODULE)
    (checkout / "build/__init__.py").touch()
    monkeypatch.setattr("build.nightly.timer.REPOSITORY", checkout)
    folders = Folders(state=tmp_path / "it's 100% state", cache=tmp_path / "cache")
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "DOCKER_HOST": "unix:///a b%c"}
    return Machine(folder=tmp_path, place=Owner(folders=folders, environment=environment, console=Console(quiet=False)))


def environment(machine: Machine, **variables: str) -> Machine:
    place = Owner(
        folders=machine.place.folders,
        environment={**machine.place.environment, **variables},
        console=machine.place.console,
    )
    return Machine(folder=machine.folder, place=place)


def test_paths_in_variables_are_those_of_the_folder_in_which_it_was_installed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(machine.folder)
    monkeypatch.setenv("HOME", str(machine.folder))
    given = {
        "LLM_D_DEV_NOTIFY_URL_FILE": "hook",
        "LLM_D_DEV_BUILD_SECRETS": '{"a": "~/b"}',
        "DOCKER_CONFIG": "docker",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }
    machine = environment(machine, **given)
    machine.as_cron_does(machine.install().entry)
    _, _, variables = json.loads((machine.folder / "ran").read_text())
    assert {name: variables[name] for name in given} == {
        "LLM_D_DEV_NOTIFY_URL_FILE": f"{machine.folder}/hook",
        "LLM_D_DEV_BUILD_SECRETS": json.dumps({"a": f"{machine.folder}/b"}),
        "DOCKER_CONFIG": f"{machine.folder}/docker",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }


# --- cron --------------------------------------------------------------------------------------------------------


def test_it_is_installed_shown_and_removed(machine: Machine) -> None:
    assert show(machine.place) is None
    made = machine.install()
    assert show(machine.place) == made
    assert (made.by, made.at) == ("cron", "02:00")
    assert machine.table.read_text() == f"{made.entry}\n"
    assert made.entry.startswith("0 2 * * * ")
    remove(machine.place)
    assert show(machine.place) is None
    assert machine.table.read_bytes() == b""
    assert not made.script.exists()


def test_removing_what_is_not_there_is_no_error(machine: Machine) -> None:
    remove(machine.place)
    assert not machine.table.exists()


def test_twice_is_once_and_a_new_time_replaces_the_old_one(machine: Machine) -> None:
    machine.install()
    once = machine.table.read_bytes()
    machine.install()
    assert machine.table.read_bytes() == once
    machine.install("23:05")
    (line,) = machine.table.read_text().splitlines()
    assert line.startswith("5 23 * * * ")


def test_other_entries_stay_byte_for_byte(machine: Machine) -> None:
    machine.table.write_bytes(OTHERS)
    machine.install()
    machine.install("03:00")
    assert machine.table.read_bytes().startswith(OTHERS)
    remove(machine.place)
    assert machine.table.read_bytes() == OTHERS


def test_another_state_folder_has_a_timer_of_its_own(machine: Machine) -> None:
    folders = Folders(state=machine.folder / "other", cache=machine.folder / "cache")
    other = Owner(folders=folders, environment=machine.place.environment, console=machine.place.console)
    machine.install()
    install(other, time="04:00", options=[])
    remove(machine.place)
    found = show(other)
    assert found is not None
    assert found.at == "04:00"


def test_cron_starts_the_nightly_where_it_belongs_with_what_it_needs(machine: Machine) -> None:
    own = environment(
        machine, LLM_D_DEV_REPOSITORY="mine", LLM_D_DEV_REGISTRY="quay.example/a/b", https_proxy="http://p"
    )
    done = own.as_cron_does(own.install().entry)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    words, folder, variables = json.loads((own.folder / "ran").read_text())
    assert words[1:] == ["nightly", "--flavor", "a b"]
    assert folder == str(own.checkout)
    expected = {
        **own.place.environment,
        "LLM_D_DEV_STATE": str(own.place.folders.state),
        "LLM_D_DEV_CACHE": str(own.place.folders.cache),
    }
    assert {name: variables.get(name) for name in expected} == expected


def test_no_secret_is_kept_and_that_is_said(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    own = environment(
        machine,
        LLM_D_DEV_NOTIFY_URL="https://hooks.example/hidden",
        HTTPS_PROXY="http://me:hidden@proxy.example",
        PIP_INDEX_URL="https://hidden@index.example/simple",
        DOCKER_AUTH_CONFIG="hidden",
        AWS_SECRET_ACCESS_KEY="hidden",  # noqa: S106 - the test's own
    )
    made = own.install()
    assert "hidden" not in made.script.read_text()
    assert made.script.stat().st_mode & 0o777 == 0o700
    said = capsys.readouterr().err
    assert "hidden" not in said
    for name in ("HTTPS_PROXY", "LLM_D_DEV_NOTIFY_URL", "PIP_INDEX_URL"):
        assert f"warning: {name} contains a secret" in said
    assert "set LLM_D_DEV_NOTIFY_URL_FILE instead" in said


def test_a_job_that_fails_says_its_last_words_and_its_status(machine: Machine) -> None:
    program(machine.checkout / "build/__main__.py", "print('what went wrong'); raise SystemExit(6)")
    done = machine.as_cron_does(machine.install().entry)
    assert (done.returncode, done.stdout, done.stderr) == (6, "", "what went wrong\n")


def test_a_crontab_that_may_not_be_used_is_said(machine: Machine) -> None:
    program(machine.folder / "programs/crontab", "#!/bin/sh\necho 'You are not allowed' >&2\nexit 1\n")
    with pytest.raises(UsageError, match="crontab failed: You are not allowed"):
        machine.install()


def test_without_cron_it_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine.folder / "none"))
    with pytest.raises(UsageError, match="crontab is not installed"):
        machine.install()


def in_folder(machine: Machine, name: str) -> Owner:
    """The place of a state folder with this name."""
    folders = Folders(state=machine.folder / name, cache=machine.folder / "cache")
    return Owner(folders=folders, environment=machine.place.environment, console=machine.place.console)


@pytest.mark.parametrize("odd", ["back\\slash", 'quo"te', "a $HOME", "back\\%"])
def test_cron_starts_what_is_in_a_folder_with_an_odd_name(machine: Machine, odd: str) -> None:
    made = install(in_folder(machine, odd), time="02:00", options=[])
    assert machine.as_cron_does(made.entry).returncode == 0
    assert (machine.folder / "ran").exists()


def test_a_path_that_no_table_can_hold_is_refused(machine: Machine) -> None:
    with pytest.raises(UsageError, match="is not valid in a crontab"):
        install(in_folder(machine, "new\nline"), time="02:00", options=[])


@pytest.mark.parametrize("text", ["24:00", "2:00", "02:60", "0200", "02:00:00", "noon"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        at(text)


# --- The systemd timer of earlier versions -----------------------------------------------------------------------


@pytest.fixture
def with_timer(machine: Machine) -> Machine:
    timer = machine.place.timer
    timer.parent.mkdir(parents=True)
    timer.write_text("[Timer]\nOnCalendar=*-*-* 03:30:00\nPersistent=true\n")
    timer.with_suffix(".service").write_text("[Service]\n")
    return machine


def test_a_timer_of_an_earlier_version_is_shown_and_removed(with_timer: Machine) -> None:
    machine = with_timer
    found = show(machine.place)
    assert found is not None
    assert (found.by, found.at) == ("systemd", "03:30")
    remove(machine.place)
    assert f"--user disable --now {machine.place.timer.name}" in machine.calls
    assert show(machine.place) is None
    assert list(machine.place.timer.parent.iterdir()) == []


def test_an_installation_replaces_the_timer_of_an_earlier_version(with_timer: Machine) -> None:
    made = with_timer.install()
    assert made.by == "cron"
    assert show(with_timer.place) == made
    assert f"--user disable --now {with_timer.place.timer.name}" in with_timer.calls
