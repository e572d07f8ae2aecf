"""GPUs that are made up: CDI specifications that the engine reads, and a stand-in image that takes them for real.

Each made-up GPU is an environment variable, a device node and a mounted file; ``nvidia-smi`` is mounted too, as by
NVIDIA's own specifications, and lists those files. In the image a made-up torch and ``vllm.platforms`` say what CUDA's
would. ``STANDIN_GPU_FAULT`` breaks one.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import textwrap
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docker.errors

from build.base.store import OWN_LAYOUT
from build.engine import labels
from tests.engine import faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docker.models.containers import Container

    from build.engine.client import Engine

FOLDER = "/run/standin-gpus"
"""Where a container has one file for each of its GPUs, named after its UUID."""

_SMI = f"""\
#!{OWN_LAYOUT.python}
import os, sys
from pathlib import Path

fault = os.environ.get("STANDIN_GPU_FAULT")
folder = Path("{FOLDER}")
uuids = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
serving = b"serve" in Path("/proc/1/cmdline").read_bytes().split(b"\\0")
if fault == "another-gpu" and serving:
    uuids.append("GPU-ffffffff-ffff-ffff-ffff-ffffffffffff")
if fault == "no-smi" or not uuids:
    sys.exit("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
used = 9000 if serving and fault != "no-memory" else 500
word = sys.argv[1]
if word.startswith("--query-gpu="):
    for number, uuid in enumerate(uuids):
        print(f"{{number}}, {{uuid}}, Made-up GPU, 580.65.06, {{used}}")
elif word.startswith("--query-compute-apps="):
    shown = [] if fault in ("untold", "unused", "forges") else uuids[:1]
    for uuid in ["GPU-eeeeeeee-eeee-eeee-eeee-eeeeeeeeeeee"] if fault == "other-process" else shown:
        print(f"1, {{uuid}}")
elif word == "-L":
    for number, uuid in enumerate(uuids):
        print(f"GPU {{number}}: Made-up GPU (UUID: {{uuid}})")
else:
    print("CUDA Version : 13.0")
"""

_FORGED = (
    ("holders", {"1": ["/dev/nvidia0"]}),
    ("torch", {"found": {"version": "2", "cuda": "13.0", "available": True, "products": [True]}, "failure": ""}),
    ("platform", {"found": "cuda", "failure": ""}),
)

_TORCH = (
    f"""\
import os
if os.environ.get("STANDIN_GPU_FAULT") == "forges":
{textwrap.indent(faults.forgery("def holders", _FORGED), "    ")}
"""
    """\
from types import SimpleNamespace

fault = os.environ.get("STANDIN_GPU_FAULT")
if fault == "no-torch":
    raise ImportError("libcudart.so.13: cannot open shared object file: No such file or directory")
from . import version
from .version import __version__

cuda = SimpleNamespace(is_available=lambda: fault not in ("cpu-torch", "no-cuda"), device_count=lambda: 1)


class Tensor:
    def __init__(self, rows, width=0, device="cpu"):
        self.rows, self.width, self.device = rows, width, device

    def __mod__(self, other):
        return Tensor([value % other for value in self.rows])

    def __add__(self, other):
        return Tensor([value + other for value in self.rows])

    def reshape(self, height, width):
        return Tensor([self.rows[n * width : (n + 1) * width] for n in range(height)], width)

    def float(self):
        return self

    def to(self, device):
        return Tensor(self.rows, self.width, device)

    def cpu(self):
        return self

    def long(self):
        return self

    def __matmul__(self, other):
        columns = list(zip(*other.rows))
        product = [[sum(map(int.__mul__, row, column)) for column in columns] for row in self.rows]
        if fault == "wrong-product" and self.device.startswith("cuda"):
            product[0][0] += 1
        return Tensor(product, self.width)


def arange(end):
    return Tensor(list(range(end)))


def equal(one, other):
    return one.rows == other.rows
"""
)

_VERSION = """\
import os

if os.environ.get("STANDIN_GPU_FAULT") != "cpu-torch":
    __version__ = "2.13.0+cu130"
    cuda = "13.0"
"""

_PLATFORMS = """\
import os
from types import SimpleNamespace

fault = os.environ.get("STANDIN_GPU_FAULT")
current_platform = globals().get("current_platform") or SimpleNamespace()
current_platform.device_type = "cpu" if fault == "cpu-platform" else "cuda"
"""

# A server that has a GPU open keeps the device node open.
_HOLD = """\
import os
from pathlib import Path

if os.environ.get("STANDIN_GPU_FAULT") not in ("unused", "forges"):
    HELD = [node.open("rb") for node in Path("/dev").glob("nvidia[0-9]")]
"""

PACKAGES = {
    "torch/__init__.py": _TORCH,
    "torch/version.py": _VERSION,
    "standin_gpus.pth": "import standin_gpus\n",
    "standin_gpus.py": _HOLD,
}
"""What an image's site-packages need to take the GPUs for real: text to add to each file."""

FAULTS = {
    "another-gpu": {"devices"},
    "no-smi": {"devices", "process"},
    "cpu-torch": {"torch", "product"},
    "no-torch": {"torch", "product"},
    "no-cuda": {"torch", "product"},
    "wrong-product": {"product"},
    "cpu-platform": {"platform"},
    "other-process": {"process"},
    "unused": {"process"},
    "no-memory": {"memory"},
    "forges": {"torch", "product", "platform", "process"},
}
"""Checks that each fault must fail."""


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """A made-up GPU.

    Attributes:
        uuid: Its name in CDI specifications and for ``--gpus``.
        number: Of its device node ``/dev/nvidia<number>``.
    """

    uuid: str
    number: int


@contextlib.contextmanager
def gpus(engine: Engine, scratch: Path, *, count: int, as_all: bool = False) -> Iterator[Sequence[MadeUp]]:
    """GPUs that the engine can pass while the block runs, under names that are nobody else's.

    Args:
        engine: It reads CDI specifications; those of this machine.
        scratch: A folder that it can mount from.
        count: How many.
        as_all: Whether the last one is also what ``all`` stands for. Other tests on this engine then see it.
    """
    folders = [Path(name) for name in engine.client.info()["CDISpecDirs"]]
    folder = next(path for path in folders if path.is_dir())
    made = [MadeUp(uuid=f"GPU-{uuid.uuid4()}", number=number) for number in range(count)]
    for gpu in made:
        (scratch / gpu.uuid).touch()
    (scratch / "nvidia-smi").write_text(_SMI, encoding="utf-8")
    (scratch / "nvidia-smi").chmod(0o755)
    specification = folder / f"llm-d-dev-test-{uuid.uuid4()}.json"
    devices = [_device(gpu, scratch) for gpu in made]
    if as_all:
        devices.append({**_device(made[-1], scratch), "name": "all"})
    document = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices}
    specification.write_text(json.dumps(document), encoding="utf-8")
    try:
        yield made
    finally:
        specification.unlink()


def _device(gpu: MadeUp, scratch: Path) -> dict[str, object]:
    node = {"path": f"/dev/nvidia{gpu.number}", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 5}
    mount = {"hostPath": str(scratch / gpu.uuid), "containerPath": f"{FOLDER}/{gpu.uuid}", "options": ["ro", "bind"]}
    tool = {"hostPath": str(scratch / "nvidia-smi"), "containerPath": "/usr/bin/nvidia-smi", "options": ["ro", "bind"]}
    edits = {"env": [f"STANDIN_GPU_{gpu.number}={gpu.uuid}"], "deviceNodes": [node], "mounts": [mount, tool]}
    return {"name": gpu.uuid, "containerEdits": edits}


@contextlib.contextmanager
def cuda_standin(engine: Engine, standin: str) -> Iterator[str]:
    """The stand-in as an image of flavor cuda while the block runs; yields its ID."""
    with engine.created(standin) as container:
        site = container_site(engine, standin)
        added = {f"{site}/{name}": text for name, text in PACKAGES.items()}
        added["/opt/vllm-source/vllm/platforms/__init__.py"] = _PLATFORMS
        # What the stand-in's own modules have besides stays there.
        files = {path: _text(container, path) + text for path, text in added.items()}
        assert container.put_archive("/", _tar(files))
        made = container.commit(changes=f"CMD []\nLABEL {labels.FLAVOR}=cuda")
    assert made.id is not None
    try:
        yield made.id
    finally:
        engine.client.api.remove_image(made.id, force=True, noprune=True)


def _text(container: Container, path: str) -> str:
    """A file of a container; empty if it has none."""
    try:
        stream, _ = container.get_archive(path)
    except docker.errors.NotFound:
        return ""
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        file = tar.extractfile(tar.getmembers()[0])
        assert file is not None
        return file.read().decode() + "\n"


def container_site(engine: Engine, image_id: str) -> str:
    """Path of site-packages in an image."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    with engine.created(image_id, entrypoint=[str(OWN_LAYOUT.python)], command=["-c", program]) as container:
        container.start()
        container.wait(timeout=30)
        return container.logs().decode().strip()


def _tar(files: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(text.encode()), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()
