"""How an image is started: its command, its address, its model. Nothing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smoke import launch, server

if TYPE_CHECKING:
    from pathlib import Path

MODEL = launch.MODEL_FOLDER
ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here


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
    ("host", "address"),
    [
        ("unix:///var/run/docker.sock", ("127.0.0.1", "127.0.0.1")),
        ("tcp://127.0.0.1:2375", ("127.0.0.1", "127.0.0.1")),
        ("tcp://build.example:2376", (ANYWHERE, "build.example")),
        ("ssh://me@build.example", (ANYWHERE, "build.example")),
    ],
)
def test_port_is_published_on_loopback_unless_the_engine_is_elsewhere(host: str, address: tuple[str, str]) -> None:
    assert launch.address(host) == address


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
