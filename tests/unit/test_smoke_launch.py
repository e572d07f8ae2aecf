"""How an image is started: its command, its address, its model. Nothing runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from docker.types import DeviceRequest

from build.engine.confinement import Limits
from smoke.server import launch, profile, server
from tests.unit.fakes import IMAGE

if TYPE_CHECKING:
    from pathlib import Path


MODEL = server.MODEL_FOLDER


@pytest.mark.parametrize(
    ("entrypoint", "start"),
    [
        (["vllm", "serve"], [MODEL]),
        (["/opt/vllm/bin/vllm", "serve", "--port", "8000"], [MODEL]),
        (["vllm"], ["serve", MODEL]),
        (["python3", "-m", "vllm.entrypoints.openai.api_server"], ["--model", MODEL]),
        ([], ["vllm", "serve", MODEL]),
        (["/opt/nvidia/nvidia_entrypoint.sh"], ["vllm", "serve", MODEL]),
    ],
)
def test_command_fits_the_entry_point(entrypoint: list[str], start: list[str]) -> None:
    assert launch.command(entrypoint, [])[: len(start) + 1] == [*start, "--served-model-name"]


@pytest.mark.parametrize(
    ("chosen", "devices", "units", "heads", "options", "compiles"),
    [
        (None, 0, 0, 4, ["--enforce-eager", "--dtype", "float32"], False),
        ("real", 0, 0, 4, ["--dtype", "float32"], True),
        (None, 1, 1, 4, ["--gpu-memory-utilization", "0.1"], True),
        ("fast", 1, 2, 4, ["--enforce-eager", "--gpu-memory-utilization", "0.1"], False),
        (None, 1, 2, 4, ["--tensor-parallel-size", "2", "--gpu-memory-utilization", "0.1"], True),
        # Three cannot share four heads; nothing is known of a model that does not tell, or of GPUs elsewhere.
        (None, 1, 3, 4, ["--gpu-memory-utilization", "0.1"], True),
        (None, 1, 2, None, ["--gpu-memory-utilization", "0.1"], True),
        (None, 1, 0, 4, ["--gpu-memory-utilization", "0.1"], True),
    ],
)
def test_options_fit_device_and_profile(
    tmp_path: Path,
    chosen: str | None,
    devices: int,
    units: int,
    heads: int | None,
    *,
    options: list[str],
    compiles: bool,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": heads} if heads else {}))
    made = launch.Launch(
        image=IMAGE,
        model=tmp_path,
        devices=(DeviceRequest(count=-1),) * devices,
        key="key",
        limits=Limits(),
        arguments=("--x=1",),
        profile=chosen,
        units=units,
    )
    assert made.command[-len(options) - 1 :] == [*options, "--x=1"]
    assert ("--tensor-parallel-size" in made.command) == ("--tensor-parallel-size" in options)
    assert ("--enforce-eager" in made.command, bool(profile.variables(made.used_profile))) == (not compiles,) * 2


def test_a_large_model_gets_the_memory_that_vllm_takes_by_itself(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(2**30)
    assert profile.options("fast", gpu=True, units=1, model=tmp_path) == ["--enforce-eager"]


@pytest.mark.parametrize(
    ("variables", "caches"),
    [
        (["HOME=/home/vllm", "USER=vllm"], ["/home/vllm/.cache", "/home/vllm/.triton"]),
        (["HOME=/h", "XDG_CACHE_HOME=/cache", "TRITON_CACHE_DIR=/cache/t"], ["/cache", "/cache/t"]),
        ([], ["/.cache", "/.triton"]),
    ],
)
def test_caches_on_a_root_that_cannot_be_written_to(variables: list[str], caches: list[str]) -> None:
    assert launch.writable(variables) == ["/tmp", *caches]  # noqa: S108 - no folder of this machine


def test_small_model_is_copied(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config.json").write_bytes(b"{}")
    (tmp_path / "link.json").symlink_to("sub/config.json")
    assert launch.copied(tmp_path) == {"sub/config.json": b"{}", "link.json": b"{}"}


def test_large_model_is_not(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(100 * 2**20)
    assert launch.copied(tmp_path) == {}


def test_failure_shows_the_end_of_the_log() -> None:
    text = str(server.ServerFailedError("it died", log="\n".join(f"line {n}" for n in range(100))))
    assert text.startswith("it died\nline 60\n")
    assert text.endswith("line 99")
