"""The command that makes an image serve a model: the entry point's arguments, and a `docker run` line."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from build.engine import labels
from build.engine.cdi import KIND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from build.config.model_name import ModelName
    from build.engine.capabilities import Capabilities
    from build.engine.image import Image

PORT = 8000
"""vLLM's default (vllm/entrypoints/launchers/cli_args.py, 0.32.0)."""

SHARED_MEMORY = "2g"
"""Shared memory for tensors between vLLM's processes. Docker's default is 64 MB."""

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
"""vLLM's default model (vllm/config/model.py, 0.32.0): small, and open to everyone."""

_MODEL_FOLDER = "/model"
_VOLUME = "llm-d-dev-models"

# The variables of NVIDIA's base images: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/
# docker-specialized.html
_CUDA_VARIABLES = ("NVIDIA_REQUIRE_CUDA", "NVIDIA_VISIBLE_DEVICES", "CUDA_VERSION")


def flavor(image: Image) -> str:
    """Return the flavor of an image: ``cpu`` or ``cuda``.

    Returns:
        The label's value. Without a label, ``cuda`` if the image has NVIDIA's variables.
    """
    if label := image.labels.get(labels.FLAVOR):
        return label
    return "cuda" if any(name in _variables(image) for name in _CUDA_VARIABLES) else "cpu"


def _variables(image: Image) -> dict[str, str]:
    return dict(variable.partition("=")[::2] for variable in image.config.get("Env") or ())


def words(entrypoint: Sequence[str], model: str, options: Sequence[str] = ()) -> list[str]:
    """Return the arguments after the image's name that make it serve a model.

    Args:
        entrypoint: Entry point of the image, which receives the arguments. An entry point other than vLLM's command
            and its older module is taken for a wrapper that runs its arguments, like that of NVIDIA's images.
        model: Folder in the container, or name on the hub.
        options: Options of vLLM.
    """
    if any("api_server" in word for word in entrypoint):
        return ["--model", model, *options]
    if "serve" in entrypoint:
        return [model, *options]
    if entrypoint and PurePosixPath(entrypoint[-1]).name == "vllm":
        return ["serve", model, *options]
    return ["vllm", "serve", model, *options]


def line(image: Image, *, name: str, model: Path | ModelName | None, machine: Capabilities) -> str:
    """Return a shell line that serves a model with an image until Ctrl-C.

    Only this machine's loopback interface reaches the server. Downloads and compiled code go to a volume if the image
    has a folder for it that its user may write to.

    Args:
        image: The image.
        name: Name of the image in the line.
        model: Folder of the model, or its name on the hub; vLLM's default by default.
        machine: Capabilities of the engine.
    """
    gpus = _gpus(machine) if flavor(image) == "cuda" else []
    mounts, served, options = _model(model)
    argv = ["docker", "run", "--rm", *gpus, "--shm-size", SHARED_MEMORY, "-p", f"127.0.0.1:{PORT}:{PORT}"]
    argv += [*_caches(image), *mounts, name]
    return shlex.join([*argv, *words(image.config.get("Entrypoint") or (), served, options)])


def _gpus(machine: Capabilities) -> list[str]:
    """Return the options for all GPUs: the engine's own mechanism, or the usual one if it has none."""
    return ["--device", f"{KIND}=all"] if machine.cdi_gpus and not machine.nvidia_runtime else ["--gpus", "all"]


def _model(model: Path | ModelName | None) -> tuple[list[str], str, list[str]]:
    """Return the mounts, the name in the container and vLLM's options for a model."""
    if model is None:
        return [], DEFAULT_MODEL, []
    if isinstance(model, Path):
        return ["-v", f"{model.absolute()}:{_MODEL_FOLDER}:ro"], _MODEL_FOLDER, []
    return [], model.repository, ["--revision", model.revision]


def _caches(image: Image) -> list[str]:
    """Return a volume for models and compiled code, if the image has a folder for it.

    A new volume takes the owner and permissions of the folder below it. Without such a folder, the volume belongs to
    root, and a server of another user fails.
    """
    if home := _variables(image).get("HF_HOME"):
        variables = {"XDG_CACHE_HOME": f"{home}/cache", "TRITON_CACHE_DIR": f"{home}/triton"}
        return ["-v", f"{_VOLUME}:{home}", *(word for pair in variables.items() for word in ("-e", "=".join(pair)))]
    is_root = (image.config.get("User") or "root").partition(":")[0] in ("root", "0")
    return ["-v", f"{_VOLUME}:/root/.cache"] if is_root else []
