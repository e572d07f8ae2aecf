"""Which GPUs a container is given, how they are asked for, and that no other run has them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from docker.types import DeviceRequest

from build.config.gpus import ALL
from build.engine.cdi import KIND
from build.engine.serving import flavor
from build.host import turn
from smoke.diagnosis.cause import Diagnosis
from smoke.gpu.driver_requirement import unsatisfied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from build.config.gpus import Selection
    from build.engine.capabilities import Capabilities
    from build.engine.image import Image
    from smoke.gpu.nvidia import Machine

# As long as the longest run may take before its server is even healthy, several times over.
_TURN_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Grant:
    """GPUs that a container is given.

    Attributes:
        requests: How they are asked of the engine; none for no GPU.
        units: Their UUIDs; none where this machine does not tell.
        titles: Their product names; none where this machine does not tell.
        driver: Version of the driver, None where this machine does not tell.
        used_mib: Memory in use by UUID of the GPU before the server started.
    """

    requests: tuple[DeviceRequest, ...]
    units: tuple[str, ...]
    titles: tuple[str, ...]
    driver: str | None
    used_mib: Mapping[str, int]


NONE = Grant(requests=(), units=(), titles=(), driver=None, used_mib={})
"""No GPU."""


def devices(selection: Selection, *, flavor: str, capabilities: Capabilities) -> tuple[DeviceRequest, ...]:
    """The device requests for a container; empty for none.

    Args:
        selection: What the user asked for.
        flavor: ``cpu`` or ``cuda``.
        capabilities: What the engine can pass. The NVIDIA runtime is preferred: an engine that could read CDI
            specifications often has none.
    """
    if selection.word == "none" or (selection.word == "auto" and flavor == "cpu"):
        return ()
    names = list(selection.names)
    if capabilities.nvidia_runtime:
        named = {"device_ids": names} if names else {"count": -1}
        return (DeviceRequest(**named, capabilities=[["gpu"]]),)
    if capabilities.cdi:
        return (DeviceRequest(driver="cdi", device_ids=[f"{KIND}={name}" for name in names or ["all"]]),)
    return ()


def unverifiable(
    selection: Selection, *, image: Image, requested: Sequence[DeviceRequest], machine: Machine | None
) -> Diagnosis | None:
    """Why an image cannot be judged with these devices, or None if it can be.

    A CUDA image that was not seen on a GPU is not verified, whatever else about it works.

    Args:
        selection: What the user asked for.
        image: The image.
        requested: What is asked of the engine for it.
        machine: The engine's driver and GPUs, None if they are not known.
    """
    if requested:
        return _unfit(selection, image, machine) if machine else None
    if flavor(image) == "cpu" and selection.word in ("auto", "none"):
        return None
    if selection.word == "none":
        line, advice = "--gpus none leaves a cuda image without a GPU", "test it with --gpus auto or all"
    else:
        line = "the engine can pass no GPU to a container"
        advice = "test on a machine with an NVIDIA GPU and the NVIDIA container toolkit"
    return Diagnosis(cause="no-gpu", line=line, advice=advice, image_at_fault=False)


def _unfit(selection: Selection, image: Image, machine: Machine) -> Diagnosis | None:
    """Why a machine's GPUs will not do."""
    for name in selection.names:
        if not machine.named(name):
            there = ", ".join(f"{gpu.index} ({', '.join(gpu.units)})" for gpu in machine.gpus)
            return Diagnosis(
                cause="no-gpu",
                line=f"--gpus {selection}: there is no GPU {name}; there are {there}",
                advice="name one that `nvidia-smi -L` lists",
                image_at_fault=False,
            )
    if requirement := unsatisfied(image.config.get("Env") or (), machine):
        has = f"driver {machine.driver}" + (f" (CUDA {machine.cuda})" if machine.cuda else "")
        return Diagnosis(
            cause="driver-too-old",
            line=f"{has} does not satisfy the image's {requirement}",
            advice="update the NVIDIA driver of the engine's machine, or test on one with a newer driver",
            image_at_fault=False,
        )
    return None


def granted(selection: Selection, requested: tuple[DeviceRequest, ...], machine: Machine | None) -> Grant:
    """What is known about the GPUs that are asked for.

    Args:
        selection: What the user asked for.
        requested: What is asked of the engine for it.
        machine: The engine's driver and GPUs, None if they are not known.
    """
    if not requested or machine is None:
        return Grant(requests=requested, units=(), titles=(), driver=None, used_mib={})
    chosen = [unit for name in selection.names for unit in machine.named(name)] if selection.names else machine.units
    return Grant(
        requests=requested,
        units=tuple(dict.fromkeys(chosen)),
        titles=machine.titles(chosen),
        driver=machine.driver,
        used_mib={gpu.uuid: gpu.used_mib for gpu in machine.gpus if gpu.used_mib is not None},
    )


def guessed(selection: Selection, requested: tuple[DeviceRequest, ...], inside: Machine | None) -> Grant:
    """What is known about the GPUs that are asked for where only a container that has them tells.

    Indices count anew in there: each stands for one device more than those that are named by UUID.

    Args:
        selection: What the user asked for.
        requested: What is asked of the engine for it.
        inside: What a container sees that was given them.
    """
    grant = granted(ALL, requested, inside)
    if not selection.names or inside is None or any(gpu.migs for gpu in inside.gpus):
        return grant
    numbers = [name for name in selection.names if name[0].isdigit()]
    named = [name for name in selection.names if name not in numbers]
    others = [unit for unit in grant.units if unit not in named]
    return replace(grant, units=(*named, *others[: len(numbers)], *numbers[len(others) :]))


@contextlib.contextmanager
def held(
    grant: Grant,
    *,
    folder: Path,
    engine_host: str,
    doing: str,
    say: Callable[[str], None],
    timeout_s: float = _TURN_S,
) -> Iterator[None]:
    """Keep other runs from the GPUs while the block runs, after waiting for those that have them.

    One lock a device. Where the devices are not known, one lock for all that the engine has.

    Args:
        grant: The GPUs.
        folder: Where lock files are.
        engine_host: The engine's address: another machine's GPUs are not this one's.
        doing: In words, for whoever finds them taken.
        say: Called when this run has to wait.
        timeout_s: Seconds to wait for each device.

    Raises:
        BusyError: One was not free in that time.
    """
    where = urlsplit(engine_host).hostname
    unknown = [f"gpus-of-{where}" if where else "gpus"]
    # In one order for every run, or two could wait for each other.
    names = sorted(f"gpu-{unit}" for unit in grant.units) or unknown
    with contextlib.ExitStack() as stack:
        for name in names if grant.requests else ():
            spoken = turn.Spoken(note=say)
            stack.enter_context(turn.taken(folder, name, doing=doing, console=spoken, timeout_s=timeout_s))
        yield
