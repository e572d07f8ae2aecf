"""How an image is made to serve: what its entry point is given, and the line for a shell that does it by hand."""

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
    from build.engine.client import Image

PORT = 8000
"""vLLM's default (vllm/entrypoints/launchers/cli_args.py, 0.32.0)."""

SHARED_MEMORY = "2g"
"""vLLM's processes exchange tensors there; Docker's default is 64 MB."""

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
"""What vLLM serves when no model is named (vllm/config/model.py, 0.32.0): small, and open to everyone."""

_MODEL_FOLDER = "/model"
_VOLUME = "llm-d-dev-models"

# What NVIDIA's base images set: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/
# docker-specialized.html
_CUDA_VARIABLES = ("NVIDIA_REQUIRE_CUDA", "NVIDIA_VISIBLE_DEVICES", "CUDA_VERSION")


def flavor(image: Image) -> str:
    """What an image runs on: ``cpu`` or ``cuda``.

    Returns:
        Its label, or, for an image of somebody else's, ``cuda`` if it has NVIDIA's variables.
    """
    if label := image.labels.get(labels.FLAVOR):
        return label
    return "cuda" if any(name in _variables(image) for name in _CUDA_VARIABLES) else "cpu"


def _variables(image: Image) -> dict[str, str]:
    return dict(variable.partition("=")[::2] for variable in image.config.get("Env") or ())


def words(entrypoint: Sequence[str], model: str, options: Sequence[str] = ()) -> list[str]:
    """What makes an image serve a model: the words behind its name.

    Args:
        entrypoint: The image's own; what follows is given to it. One that is neither vLLM's command nor its
            older module is taken for a wrapper that runs its arguments, as NVIDIA's images have it.
        model: A folder in the container, or a name on the hub.
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
    """A line for a shell that serves a model with an image, until Ctrl-C.

    Only this machine's own loopback interface leads to it. What is downloaded and compiled is kept in a volume, where
    the image has a folder that its user may write to.

    Args:
        image: The image.
        name: What the line calls it.
        model: Folder of the model, or its name on the hub; vLLM's default by default.
        machine: What the engine can do.
    """
    gpus = _gpus(machine) if flavor(image) == "cuda" else []
    mounts, served, options = _model(model)
    argv = ["docker", "run", "--rm", *gpus, "--shm-size", SHARED_MEMORY, "-p", f"127.0.0.1:{PORT}:{PORT}"]
    argv += [*_caches(image), *mounts, name]
    return shlex.join([*argv, *words(image.config.get("Entrypoint") or (), served, options)])


def _gpus(machine: Capabilities) -> list[str]:
    """All GPUs, as a machine passes them that has some, or else most do."""
    return ["--device", f"{KIND}=all"] if machine.cdi_gpus and not machine.nvidia_runtime else ["--gpus", "all"]


def _model(model: Path | ModelName | None) -> tuple[list[str], str, list[str]]:
    """Mounts, name in the container and options of vLLM for a model."""
    if model is None:
        return [], DEFAULT_MODEL, []
    if isinstance(model, Path):
        return ["-v", f"{model.absolute()}:{_MODEL_FOLDER}:ro"], _MODEL_FOLDER, []
    return [], model.repository, ["--revision", model.revision]


def _caches(image: Image) -> list[str]:
    """A volume for models and what is compiled, where the image has a place for it.

    A new volume takes owner and permissions of the folder that it is mounted on. Where the image has none, it would be
    root's, and a server that runs as another user fails.
    """
    if home := _variables(image).get("HF_HOME"):
        variables = {"XDG_CACHE_HOME": f"{home}/cache", "TRITON_CACHE_DIR": f"{home}/triton"}
        return ["-v", f"{_VOLUME}:{home}", *(word for pair in variables.items() for word in ("-e", "=".join(pair)))]
    is_root = (image.config.get("User") or "root").partition(":")[0] in ("root", "0")
    return ["-v", f"{_VOLUME}:/root/.cache"] if is_root else []
