"""Which GPUs a container is given, and how they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from docker.types import DeviceRequest

from build import labels
from smoke.diagnose import Diagnosis

if TYPE_CHECKING:
    from build.engine import Capabilities, Image

Choice = Literal["auto", "all", "none"]
CHOICES = get_args(Choice)

# What NVIDIA's base images set: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/
# docker-specialized.html
_CUDA_VARIABLES = ("NVIDIA_REQUIRE_CUDA=", "NVIDIA_VISIBLE_DEVICES=", "CUDA_VERSION=")


def flavor(image: Image) -> str:
    """What an image runs on: ``cpu`` or ``cuda``.

    Returns:
        Its label, or, for an image of somebody else's, ``cuda`` if it has NVIDIA's variables.
    """
    if label := image.labels.get(labels.FLAVOR):
        return label
    variables = image.config.get("Env") or ()
    return "cuda" if any(variable.startswith(_CUDA_VARIABLES) for variable in variables) else "cpu"


def devices(choice: Choice, *, flavor: str, capabilities: Capabilities) -> tuple[DeviceRequest, ...]:
    """The device requests for a container; empty for none.

    Args:
        choice: What the user asked for.
        flavor: ``cpu`` or ``cuda``.
        capabilities: What the engine can pass. The NVIDIA runtime is preferred: an engine that could read CDI
            specifications often has none.
    """
    if choice == "none" or (choice == "auto" and flavor == "cpu"):
        return ()
    if capabilities.nvidia_runtime:
        return (DeviceRequest(count=-1, capabilities=[["gpu"]]),)
    if capabilities.cdi:
        return (DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=all"]),)
    return ()


def unverifiable(choice: Choice, *, flavor: str, requested: tuple[DeviceRequest, ...]) -> Diagnosis | None:
    """Why an image cannot be judged with these devices, or None if it can be.

    A CUDA image that was not seen on a GPU is not verified, whatever else about it works.
    """
    if requested or (flavor == "cpu" and choice != "all"):
        return None
    if choice == "none":
        line, advice = "--gpus none leaves a cuda image without a GPU", "test it with --gpus auto or all"
    else:
        line = "the engine can pass no GPU to a container"
        advice = "test on a machine with an NVIDIA GPU and the NVIDIA container toolkit"
    return Diagnosis(cause="no-gpu", line=line, advice=advice, image_at_fault=False)
