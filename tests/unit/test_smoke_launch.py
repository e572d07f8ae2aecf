"""How an image is started: its command, its address, its model. Nothing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smoke.server import launch, server

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
    assert launch.command(entrypoint, gpu=False)[: len(start) + 1] == [*start, "--served-model-name"]


def test_options_fit_the_device() -> None:
    assert "--dtype" in launch.command([], gpu=False)
    assert "--gpu-memory-utilization" in launch.command([], gpu=True)


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
