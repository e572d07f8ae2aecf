"""uv for the images' processor, whatever this machine has."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from pypi_simple import DistributionPackage, Link

from build.config.folders import Folders
from build.console import Console
from build.pypi import uv
from build.pypi.index import PackageIndex

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_wheel_is_that_of_the_processor(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")

    def fetch(*_: object, wanted: Any, **__: object) -> Path:  # noqa: ANN401 - as download.fetch has it
        for other in ("x86_64", "aarch64"):
            name = f"uv-1-py3-none-manylinux_2_28_{other}.whl"
            if wanted(DistributionPackage.from_link(Link(text=name, url=f"http://index.invalid/{name}", attrs={}))):
                with zipfile.ZipFile(tmp_path / name, "w") as archive:
                    archive.writestr("uv-1.data/scripts/uv", other)
                return tmp_path / name
        pytest.fail("no wheel is wanted")

    monkeypatch.setattr("build.pypi.download.fetch", fetch)
    folders = Folders(state=tmp_path / "state", cache=tmp_path / "cache")
    for _ in range(2):
        folder = uv.ensure(folders, PackageIndex.parse("", {}), machine=machine, console=Console(quiet=True))
        assert (folder / "uv").read_text() == machine
    other = uv.ensure(folders, PackageIndex.parse("", {}), machine="aarch64", console=Console(quiet=True))
    assert (other == folder) is (machine == "aarch64")
