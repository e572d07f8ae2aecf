"""What a running server's container shows of its GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import docker.errors
from pydantic import BaseModel, ConfigDict, TypeAdapter

from build.base import apart
from build.base.apart import Look
from build.base.store import OWN_LAYOUT
from build.config.folders import REPOSITORY
from build.engine import labels
from build.engine.executed import EndlessError, execute
from smoke.gpu import nvidia

if TYPE_CHECKING:
    from docker.models.containers import Container

    from build.engine.image import Image
    from smoke.gpu.grant import Grant
    from smoke.gpu.nvidia import Machine

SCRIPT = REPOSITORY / "smoke" / "inside" / "gpu.py"

_GREW_MIB = 64
"""What a process that computes on a GPU takes at least; a CUDA context alone is more."""


class _Strict(BaseModel):
    """What an image prints is taken only in exactly the form that the script gives it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ComputingTorch(_Strict):
    """The image's torch: its version, the CUDA it was built for, and for each device whether it computes."""

    version: str
    cuda: str | None
    available: bool
    products: list[bool]


class AskedTorch(_Strict):
    """What the image's torch says when asked, or why it says nothing."""

    found: ComputingTorch | None
    failure: str


class AskedPlatform(_Strict):
    """The device that the image's vLLM chose, or why it says nothing."""

    found: str | None
    failure: str


_READERS: apart.Readers = {
    "holders": TypeAdapter(dict[str, list[str]]).validate_python,
    "torch": AskedTorch.model_validate,
    "platform": AskedPlatform.model_validate,
}

_OUTPUT_LIMIT = 1 << 20
_TIMEOUT_S = 300


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What ``smoke/inside/gpu.py`` found.

    Attributes:
        torch: Its torch.
        platform: The device that vLLM chose.
        holders: GPUs that each process has open.
    """

    torch: AskedTorch
    platform: AskedPlatform
    holders: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """GPUs as a container and this machine show them while the server runs.

    Attributes:
        machine: What ``nvidia-smi`` shows inside; None if it does not run there.
        findings: What the image's own Python finds; None if it does not run.
        failure: Why.
        computing: UUIDs of the GPUs that the server's processes compute on, as the driver tells; None if it does not.
    """

    machine: Machine | None
    findings: Observed | None
    failure: str
    computing: frozenset[str] | None

    @classmethod
    def look(cls, container: Container, image: Image, *, here: bool) -> Seen:
        """Look into a running container.

        Args:
            container: The server's.
            image: Its image.
            here: Whether it runs on this machine.
        """
        ask = nvidia.within(container)
        findings, failure = _findings(container, image)
        return cls(
            machine=nvidia.Machine.look(ask),
            findings=findings,
            failure=failure,
            computing=_computing(container, ask, here=here),
        )

    def grown(self, grant: Grant) -> dict[str, int]:
        """MiB by which the memory in use of each GPU has changed since before the start, where that is known."""
        gpus = self.machine.gpus if self.machine else ()
        return {
            gpu.uuid: gpu.used_mib - grant.used_mib[gpu.uuid]
            for gpu in gpus
            if gpu.used_mib is not None and gpu.uuid in grant.used_mib
        }

    def has_grown(self, grant: Grant) -> bool:
        """Return whether the memory in use of some GPU has grown as it does when a process computes on it."""
        return any(mib >= _GREW_MIB for mib in self.grown(grant).values())


def _findings(container: Container, image: Image) -> tuple[Observed | None, str]:
    is_own = labels.KIND in image.labels and labels.ORIGIN not in image.labels
    python = str(OWN_LAYOUT.python) if is_own else "python3"
    try:
        done = execute(container, apart.words(python, SCRIPT), limit=_OUTPUT_LIMIT, seconds=_TIMEOUT_S)
    except (docker.errors.APIError, EndlessError) as error:
        return None, f"the image's Python does not run: {error}"
    looked = Look.parse(done.output, status=done.status, errors=done.errors, readers=_READERS)
    return (None, looked.end) if looked.end else (Observed(**looked.stages), "")


def _computing(container: Container, ask: nvidia.Ask, *, here: bool) -> frozenset[str] | None:
    """Asked outside, where a process has the number that the driver knows; inside where that is elsewhere."""
    if here and (known := nvidia.processes(nvidia.here)):
        return computing(known, _pids(container))
    inside = nvidia.processes(ask)
    return computing(inside, set(inside)) if inside else None


def computing(known: dict[int, set[str]], pids: set[int]) -> frozenset[str]:
    """GPUs that some of these processes compute on."""
    return frozenset(uuid for pid in pids & known.keys() for uuid in known[pid])


def _pids(container: Container) -> set[int]:
    """A container's processes, in the numbers of the engine's machine."""
    listed = container.top()
    column = listed["Titles"].index("PID")
    return {int(row[column]) for row in listed["Processes"]}
