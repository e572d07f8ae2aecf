"""How an image is started: its command, its address, its model. Nothing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import docker.errors
import pytest

from smoke.server import launch, server

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.client import Engine

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


class MadeUpEngine:
    """An engine on which a container appears after some attempts to remove it. It is all the clients it has."""

    def __init__(self, *, appears_at: int | None) -> None:
        self.looks = 0
        self.removed = 0
        self.client = self.api = self
        self._appears_at = appears_at

    def remove_container(self, name: str, **_: object) -> None:
        self.looks += 1
        if self.looks != self._appears_at:
            raise docker.errors.NotFound(name)
        self.removed += 1


@pytest.mark.parametrize(
    ("patience", "appears_at", "looks", "removed"),
    [(0.0, 1, 1, 1), (0.0, 2, 1, 0), (5.0, 3, 3, 1), (0.1, None, 2, 0)],
)
def test_container_that_is_still_being_created_is_waited_for(
    patience: float, appears_at: int | None, looks: int, removed: int
) -> None:
    engine = MadeUpEngine(appears_at=appears_at)
    launch.remove(cast("Engine", engine), "x", patience=patience)
    assert (engine.looks, engine.removed) == (looks, removed)
