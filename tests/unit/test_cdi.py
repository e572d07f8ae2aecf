"""Which engines know an NVIDIA GPU as a CDI device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from build.engine import cdi

if TYPE_CHECKING:
    from pathlib import Path

# As `nvidia-ctk cdi generate` writes it.
TOOLKIT = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: all
kind: nvidia.com/gpu
"""


def document(kind: str = "nvidia.com/gpu", *devices: str) -> str:
    return json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": [{"name": name} for name in devices]})


def known(folder: Path, version: str = "1.45", *, is_here: bool = True, **info: Any) -> bool:  # noqa: ANN401 - as the engine has it
    return cdi.has_gpus({"CDISpecDirs": [str(folder), "/nonexistent"], **info}, api_version=version, is_here=is_here)


@pytest.mark.parametrize(
    ("name", "text", "has"),
    [
        ("nvidia.yaml", TOOLKIT, True),
        ("nvidia.yaml", TOOLKIT.replace("nvidia.com/gpu", '"nvidia.com/gpu"  # ours'), True),
        ("nvidia.json", document("nvidia.com/gpu", "0", "all"), True),
        ("nvidia.yaml", document("nvidia.com/gpu", "0"), True),
        ("nvidia.json", document("nvidia.com/gpu"), False),
        ("nvidia.yaml", "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []\n", False),
        ("nvidia.yaml", "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n", False),
        ("amd.json", document("amd.com/gpu", "0"), False),
        ("net.yaml", TOOLKIT.replace("nvidia.com/gpu", "nvidia.com/gpu-net"), False),
        ("nvidia.yaml", "# kind: nvidia.com/gpu\n" + TOOLKIT.replace("nvidia.com/gpu", "x.com/y"), False),
        ("nvidia.json", "{", False),
        ("nvidia.json", "[]", False),
        ("nvidia.json.off", document("nvidia.com/gpu", "0"), False),
    ],
)
def test_an_engine_of_before_28_2_knows_what_its_specifications_list(
    tmp_path: Path, name: str, text: str, *, has: bool
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert known(tmp_path) is has


def test_an_engine_that_could_read_specifications_and_finds_none_knows_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "nvidia.json").write_bytes(b"\xff")
    (tmp_path / "other.json").mkdir()
    assert not known(tmp_path)
    assert not known(tmp_path, CDISpecDirs=None)


def test_the_specifications_of_another_machine_are_not_this_ones(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").write_text(TOOLKIT, encoding="utf-8")
    assert not known(tmp_path, is_here=False)


@pytest.mark.parametrize("version", ["1.50", "1.52", "2.0"])
@pytest.mark.parametrize("is_here", [True, False])
@pytest.mark.parametrize(
    ("ids", "has"),
    [
        ([("cdi", "nvidia.com/gpu=0"), ("cdi", "nvidia.com/gpu=all")], True),
        ([("cdi", "vendor.com/nic=nvidia.com/gpu"), ("cdi", "amd.com/gpu=0")], False),
        ([("other", "nvidia.com/gpu=0")], False),
        (None, False),
    ],
)
def test_an_engine_since_28_2_is_believed(
    tmp_path: Path, version: str, ids: list[tuple[str, str]] | None, *, is_here: bool, has: bool
) -> None:
    (tmp_path / "nvidia.yaml").write_text(TOOLKIT, encoding="utf-8")
    told = {} if ids is None else {"DiscoveredDevices": [{"Source": source, "ID": name} for source, name in ids]}
    assert known(tmp_path, version, is_here=is_here, **told) is has
