"""What ``nvidia-smi`` says of GPUs and their driver, on this machine or inside a container."""

from __future__ import annotations

import csv
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import docker.errors

from build.engine import confinement
from build.engine.confinement import Limits
from build.engine.executed import EndlessError, execute
from build.host import process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from docker.models.containers import Container
    from docker.types import DeviceRequest

    from build.engine.client import Engine
    from build.engine.image import Image

    Ask = Callable[[Sequence[str]], str]
    """Runs a command where the GPUs are looked at and returns its standard output; OSError if it fails."""

# A driver that hangs must not hang the run.
_PATIENCE_S = 30
# Of `nvidia-smi -q` of many GPUs.
_OUTPUT_LIMIT = 4 << 20
_FIELDS = ("index", "uuid", "name", "driver_version", "memory.used")
_CUDA = re.compile(r"CUDA (?:UMD )?Version *: *(\d+\.\d+)")
_BRAND = re.compile(r"^ *Product Brand *: *(.+?) *$", re.MULTILINE)
# `nvidia-smi -L`, of a GPU and of the MIG devices below it.
_LISTED = re.compile(r"^(?P<mig> *MIG .*Device +(?P<index>\d+)|GPU \d+): .*?\(UUID: (?P<uuid>[\w/-]+)\)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU.

    Attributes:
        index: Its number.
        uuid: ``GPU-…``.
        name: Its product name.
        used_mib: Memory in use, in MiB; None where that is not told.
        migs: UUIDs of the MIG devices that it is divided into, by number; it cannot be used as a whole then.
    """

    index: int
    uuid: str
    name: str
    used_mib: int | None
    migs: tuple[str, ...]

    @property
    def units(self) -> tuple[str, ...]:
        """UUIDs of what can be used of it."""
        return self.migs or (self.uuid,)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A driver and the GPUs that it shows.

    Attributes:
        driver: Its version.
        cuda: The newest CUDA version that it knows, None where it does not say.
        brand: The GPUs' brand as requirements write it (``tesla``, ``geforcertx``); None if not known or mixed.
        gpus: The GPUs, by index.
    """

    driver: str
    cuda: str | None
    brand: str | None
    gpus: tuple[Gpu, ...]

    @classmethod
    def look(cls, ask: Ask) -> Machine | None:
        """Return the GPUs; None without a GPU or ``nvidia-smi``."""
        try:
            rows = list(csv.reader(ask(_query("gpu", _FIELDS)).splitlines(), skipinitialspace=True))
            divided = _migs(ask(["nvidia-smi", "-L"]))
            details = ask(["nvidia-smi", "-q"])
        except OSError:
            return None
        gpus = tuple(_gpu(row, divided) for row in rows if len(row) == len(_FIELDS) and row[0].isdigit())
        if not gpus:
            return None
        brands = {"".join(brand.lower().split()) for brand in _BRAND.findall(details)}
        cuda = _CUDA.search(details)
        return cls(
            driver=rows[0][3],
            cuda=cuda[1] if cuda else None,
            brand=brands.pop() if len(brands) == 1 else None,
            gpus=gpus,
        )

    @property
    def units(self) -> tuple[str, ...]:
        """UUIDs of all devices that can be used."""
        return tuple(unit for gpu in self.gpus for unit in gpu.units)

    def named(self, name: str) -> tuple[str, ...]:
        """UUIDs of the devices that a name stands for; none if there is no such device.

        Args:
            name: An index, a UUID, or the indices of a GPU and a MIG device (``0:1``).
        """
        index, _, mig = name.partition(":")
        for gpu in self.gpus:
            if mig and str(gpu.index) == index:
                return gpu.migs[int(mig) : int(mig) + 1]
            if name in (str(gpu.index), gpu.uuid):
                return gpu.units
            if name in gpu.migs:
                return (name,)
        return ()

    def titles(self, units: Sequence[str]) -> tuple[str, ...]:
        """Product names of the GPUs that devices belong to."""
        return tuple(gpu.name for unit in units for gpu in self.gpus if unit in gpu.units)


def _query(what: str, fields: Sequence[str]) -> list[str]:
    return ["nvidia-smi", f"--query-{what}={','.join(fields)}", "--format=csv,noheader,nounits"]


def _gpu(row: Sequence[str], divided: dict[str, tuple[str, ...]]) -> Gpu:
    index, uuid, name, _, used = row
    return Gpu(
        index=int(index),
        uuid=uuid,
        name=name,
        used_mib=int(used) if used.isdigit() else None,
        migs=divided.get(uuid, ()),
    )


def _migs(listing: str) -> dict[str, tuple[str, ...]]:
    """UUIDs of MIG devices by that of the GPU, from ``nvidia-smi -L``."""
    found: dict[str, tuple[str, ...]] = {}
    gpu = ""
    for match in _LISTED.finditer(listing):
        if match["mig"].lstrip().startswith("GPU"):
            gpu = match["uuid"]
        else:
            found[gpu] = (*found.get(gpu, ()), match["uuid"])
    return found


def processes(ask: Ask) -> dict[int, set[str]]:
    """UUIDs of the GPUs that each process computes on; no process where that is not told.

    In the numbers of the machine. In a container most drivers tell of none.
    """
    try:
        rows = csv.reader(ask(_query("compute-apps", ("pid", "gpu_uuid"))).splitlines(), skipinitialspace=True)
    except OSError:
        return {}
    found: dict[int, set[str]] = {}
    for row in rows:
        if len(row) == 2 and row[0].isdigit():  # noqa: PLR2004 - the two fields
            found.setdefault(int(row[0]), set()).add(row[1])
    return found


def here(argv: Sequence[str]) -> str:
    """Run a command on this machine.

    Raises:
        OSError: It is not there, fails, or does not end within 30 s.
    """
    try:
        return process.output(["timeout", str(_PATIENCE_S), *argv]).decode(errors="replace")
    except subprocess.CalledProcessError as error:
        raise OSError(f"{argv[0]} ended with status {error.returncode}") from error


def within(container: Container) -> Ask:
    """Runs commands in a running container; OSError if one fails."""

    def ask(argv: Sequence[str]) -> str:
        try:
            done = execute(container, argv, limit=_OUTPUT_LIMIT, seconds=_PATIENCE_S)
        except (docker.errors.APIError, EndlessError) as error:
            raise OSError(str(getattr(error, "explanation", None) or error)) from error
        if done.status:
            last = (done.errors or done.output).decode(errors="replace").strip().splitlines()[-1:]
            raise OSError(f"it ended with status {done.status}: {''.join(last)}")
        return done.output.decode(errors="replace")

    return ask


def look_inside(engine: Engine, image: Image, requests: Sequence[DeviceRequest]) -> Machine | None:
    """Look at the GPUs in a container that does nothing else; None where nothing tells of them.

    Args:
        engine: Where it runs.
        image: What it is made of.
        requests: The GPUs that it is given.

    Raises:
        docker.errors.APIError: The engine does not start it, for want of such GPUs most likely.
    """
    options = {
        "entrypoint": ["sleep"],
        "command": ["300"],
        "device_requests": list(requests),
        **confinement.options(engine, Limits()),
    }
    with engine.created(image.id, **options) as container:
        container.start()
        return Machine.look(within(container))
