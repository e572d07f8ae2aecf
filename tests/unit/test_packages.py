"""Which packages are installed, from where, and what is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.console import Console
from build.errors import BusyError, EngineError
from build.host import apt as packages
from build.host import process
from build.host.process import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUIET = Console(quiet=True)
ABSENT = "llm-d-dev-no-such-program"

DEB822 = """\
# made by an installer
Types: deb deb-src
# the mirror
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian.gpg
"""


def machine(root: Path, *, os_release: str, **files: str) -> Path:
    """A file system with an os-release and package sources."""
    for name, text in {"etc/os-release": os_release, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "etc/apt").mkdir(parents=True, exist_ok=True)
    return root


BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24.04 LTS"\n'


def test_debian_12_borrows_and_has_apt(tmp_path: Path) -> None:
    here = packages.release(machine(tmp_path, os_release=BOOKWORM))
    assert (here.has_apt, here.borrows, here.name) == (True, True, "Debian GNU/Linux 12 (bookworm)")


@pytest.mark.parametrize(
    ("os_release", "has_apt"),
    [
        ("ID=debian\nVERSION_CODENAME=trixie\n", True),
        (UBUNTU, True),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=bookworm\n', True),
        ("ID=fedora\n", False),
        ("# nothing is known\n", False),
    ],
)
def test_other_releases_use_their_own_packages(tmp_path: Path, os_release: str, *, has_apt: bool) -> None:
    here = packages.release(machine(tmp_path, os_release=os_release))
    assert (here.has_apt, here.borrows) == (has_apt, False)


def test_a_machine_without_os_release_is_of_no_known_distribution(tmp_path: Path) -> None:
    assert not packages.release(tmp_path).has_apt


def test_deb822_sources_are_lent_with_mirror_and_keys() -> None:
    first, second = packages.lend_deb822(DEB822)
    assert first.splitlines()[:5] == [
        "Types: deb",
        "URIs: http://mirror.example/debian",
        "Suites: trixie trixie-updates",
        "Components: main",
        "Signed-By: -----BEGIN PGP PUBLIC KEY BLOCK-----",
    ]
    assert " mQINBF\n" in first
    assert "Suites: trixie-security\n" in second
    assert "Signed-By: /usr/share/keyrings/debian.gpg\n" in second


def test_comments_inside_a_deb822_field_are_no_part_of_it() -> None:
    stanza = DEB822.partition("\n\n")[2].replace("Suites: ", "Suites:\n bookworm\n# bookworm-updates\n ")
    assert "Suites: trixie trixie-security\n" in packages.lend_deb822(stanza)[0]


@pytest.mark.parametrize(
    "change",
    [
        ("Types: deb\n", "Types: deb-src\n"),
        ("Types: deb\n", "Types: deb\nEnabled: no\n"),
        ("Components: main\n", "Components: stable\n"),
        ("bookworm-security", "nodistro"),
    ],
)
def test_deb822_stanzas_that_are_off_or_foreign_are_not_lent(change: tuple[str, str]) -> None:
    stanza = DEB822.partition("\n\n")[2]
    assert packages.lend_deb822(stanza)
    assert packages.lend_deb822(stanza.replace(*change)) == []


def test_one_line_sources_are_lent_with_mirror_and_options() -> None:
    text = """\
deb [arch=amd64 signed-by=/usr/share/debian.gpg] http://mirror.example/debian bookworm main a # x
deb-src http://mirror.example/debian bookworm main
  deb http://mirror.example/security bookworm-security main
# deb http://mirror.example/debian bookworm-updates main
deb http://mirror.example/docker bookworm stable
deb http://mirror.example/debian bookworm-backports main
deb cdrom:[Debian GNU/Linux 12 bookworm]/ bookworm main
"""
    assert packages.lend_one_line(text) == [
        "deb [arch=amd64 signed-by=/usr/share/debian.gpg] http://mirror.example/debian trixie main\n",
        "deb http://mirror.example/security trixie-security main\n",
    ]


def test_apt_gets_the_sources_of_the_machine_and_of_the_lender(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        os_release=BOOKWORM,
        **{
            "etc/apt/sources.list": "deb http://mirror.example/debian bookworm main\n",
            "etc/apt/sources.list.d/security.sources": DEB822.partition("\n\n")[2],
            "etc/apt/sources.list.d/old.list.disabled": "deb http://gone.example/ bookworm main\n",
            "etc/apt/preferences.d/own": "Package: nodejs\nPin: origin x\nPin-Priority: 600\n",
        },
    )
    before = {path: path.read_text() for path in root.glob("**/*") if path.is_file()}
    with packages._private_apt(root, packages.release(root)) as apt:
        options = dict(word.split("=", 1) for word in apt.options if "=" in word)
        parts = Path(options["Dir::Etc::sourceparts"])
        pins = Path(options["Dir::Etc::preferencesparts"])
        assert {path.name for path in parts.iterdir()} == {
            "sources.list",
            "security.sources",
            "lender.list",
            "lender.sources",
        }
        assert (parts / "lender.list").read_text() == "deb http://mirror.example/debian trixie main\n"
        assert "trixie-security" in (parts / "lender.sources").read_text()
        assert {path.name for path in pins.iterdir()} == {"own", "lender.pref"}
        assert str(root) not in " ".join(apt.options)
    assert not parts.exists()
    assert {path: path.read_text() for path in root.glob("**/*") if path.is_file()} == before


def test_a_release_that_borrows_nothing_gets_its_own_sources_only(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        os_release=UBUNTU,
        **{"etc/apt/sources.list": "deb http://mirror.example/ubuntu noble main\n"},
    )
    with packages._private_apt(root, packages.release(root)) as apt:
        options = dict(word.split("=", 1) for word in apt.options if "=" in word)
        assert [path.name for path in Path(options["Dir::Etc::sourceparts"]).iterdir()] == ["sources.list"]


def test_without_a_source_of_the_release_the_error_names_it(tmp_path: Path) -> None:
    root = machine(tmp_path, os_release=BOOKWORM)
    with pytest.raises(EngineError, match="bookworm"), packages._private_apt(root, packages.release(root)):
        pass


def test_only_what_is_missing_is_wanted() -> None:
    assert packages.missing(["docker.io", "iptables"], present={"iptables"}.__contains__) == ("docker.io",)


def test_nothing_missing_installs_nothing() -> None:
    # `sh` is on every machine, so this may not even look at the permission to install.
    assert packages.ensure(["sh"], allowed=False, console=QUIET) == ()


def test_without_permission_the_error_says_what_and_how(tmp_path: Path) -> None:
    root = machine(tmp_path, os_release=BOOKWORM)
    with pytest.raises(EngineError, match=ABSENT) as caught:
        packages.ensure([ABSENT], allowed=False, console=QUIET, root=root)
    assert "--no-install" in caught.value.hint
    assert caught.value.exit_code == 8


def test_another_distribution_is_refused_by_name(tmp_path: Path) -> None:
    root = machine(tmp_path, os_release='ID=fedora\nPRETTY_NAME="Fedora Linux 43"\n')
    with pytest.raises(EngineError, match="Fedora Linux 43"):
        packages.ensure([ABSENT], allowed=True, console=QUIET, root=root)


def test_only_root_installs(tmp_path: Path) -> None:
    here = packages.release(machine(tmp_path, os_release=BOOKWORM))
    packages._check_possible([ABSENT], here, allowed=True, user=0)
    with pytest.raises(EngineError, match="only root"):
        packages._check_possible([ABSENT], here, allowed=True, user=1000)


@pytest.mark.parametrize(("os_release", "allowed"), [(BOOKWORM, True), (BOOKWORM, False), ("ID=fedora\n", True)])
def test_what_helps_instead_is_said(tmp_path: Path, os_release: str, allowed: bool) -> None:  # noqa: FBT001 - a column
    here = packages.release(machine(tmp_path, os_release=os_release))
    with pytest.raises(EngineError) as caught:
        packages._check_possible([ABSENT], here, allowed=allowed, user=1000, otherwise="pull the image")
    assert "pull the image" in caught.value.hint
    assert "DOCKER_HOST" not in caught.value.hint


def test_no_service_starts_while_packages_are_installed(tmp_path: Path) -> None:
    policy = tmp_path / "usr/sbin/policy-rc.d"
    with packages._no_services(tmp_path):
        assert "exit 101" in policy.read_text()
        assert policy.stat().st_mode & 0o777 == 0o755
    assert not policy.exists()


def test_a_policy_of_the_machine_stays(tmp_path: Path) -> None:
    policy = tmp_path / "usr/sbin/policy-rc.d"
    policy.parent.mkdir(parents=True)
    policy.write_text("#!/bin/sh\nexit 101\n")
    with packages._no_services(tmp_path):
        pass
    assert policy.read_text() == "#!/bin/sh\nexit 101\n"


def test_a_policy_that_a_killed_run_left_goes(tmp_path: Path) -> None:
    policy = tmp_path / "usr/sbin/policy-rc.d"
    policy.parent.mkdir(parents=True)
    policy.write_text(packages._REFUSED)
    with packages._no_services(tmp_path):
        pass
    assert not policy.exists()


@pytest.fixture
def wants(tmp_path: Path) -> Path:
    """A folder of links by which units are enabled, on a machine with two packages that have some."""
    folder = tmp_path / "etc/systemd/system/multi-user.target.wants"
    folder.mkdir(parents=True)
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "docker.io.list").write_text("/.\n/usr/lib/systemd/system/docker.service\n/usr/bin/docker\n")
    (info / "containerd:amd64.list").write_text("/.\n/lib/systemd/system/containerd.service\n")
    (info / "nginx.list").write_text("/.\n/lib/systemd/system/nginx.service\n")
    return folder


@contextlib.contextmanager
def installing(monkeypatch: pytest.MonkeyPatch, root: Path, enable: Callable[[], None]) -> Iterator[None]:
    """An installation of docker.io and what it needs, as apt-get tells of it."""
    said = ["Setting up containerd:amd64 (1.7.24~ds1-6) ...", "Setting up docker.io (26.1.5+dfsg1-9+b9) ..."]

    def run(argv: list[str], *, on_line: Callable[[str], None] = print, **_: object) -> Completed:
        if "install" in argv:
            enable()
            for line in said:
                on_line(line)
        return Completed(returncode=0, tail=tuple(said))

    monkeypatch.setattr(process, "run", run)
    with packages._no_services(root) as installed:
        packages._install(packages.Apt(options=()), ["docker.io"], print, installed)
        yield


def test_units_enabled_by_an_installation_are_disabled_again_and_others_stay(
    tmp_path: Path, wants: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator, or another package manager's run before ours, may enable a unit in the same moment."""
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")

    def enable() -> None:
        (wants / "docker.service").symlink_to("/usr/lib/systemd/system/docker.service")
        (wants / "containerd.service").symlink_to("/lib/systemd/system/containerd.service")
        (wants / "nginx.service").symlink_to("/lib/systemd/system/nginx.service")
        (wants / "mine.service").symlink_to("/etc/systemd/system/mine.service")

    with installing(monkeypatch, tmp_path, enable):
        pass
    assert {path.name for path in wants.iterdir()} == {"ssh.service", "nginx.service", "mine.service"}


def test_units_of_a_broken_off_installation_are_disabled_too(
    tmp_path: Path, wants: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enable() -> None:
        (wants / "docker.service").symlink_to("/usr/lib/systemd/system/docker.service")

    with pytest.raises(KeyboardInterrupt), installing(monkeypatch, tmp_path, enable):
        raise KeyboardInterrupt
    assert not list(wants.iterdir())


def test_a_package_manager_at_work_is_reported_as_busy() -> None:
    lines = [
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 77 (apt-get)",
        "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg)",
    ]
    error = packages._failure(["docker.io"], lines)
    assert isinstance(error, BusyError)
    assert "process 77" in error.what


def test_a_failed_installation_ends_with_apts_last_error() -> None:
    error = packages._failure(["docker.io"], ["E: first", "Reading", "E: Unable to locate package docker.io"])
    assert isinstance(error, EngineError)
    assert error.what.endswith("Unable to locate package docker.io")
