"""GPUs that are made up arrive in the container through the real engine, and the suite looks at them there."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from build.config.gpus import Selection
from build.engine.capabilities import Capabilities
from build.gate.verdict import Verdict
from smoke.gpu import grant
from tests.engine import gpu_standin
from tests.engine.conftest import inside
from tests.engine.gpu_standin import FAULTS, FOLDER
from tests.standin import trial
from tests.standin.image import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from build.engine.client import Engine
    from tests.engine.gpu_standin import MadeUp
    from tests.standin.trial import Outcome


@pytest.fixture(scope="module")
def made_up(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[MadeUp]]:
    with gpu_standin.gpus(engine, tmp_path_factory.mktemp("gpus"), count=2) as made:
        yield made


@pytest.fixture(scope="module")
def cuda(engine: Engine, standin: str) -> Iterator[str]:
    with gpu_standin.cuda_standin(engine, standin) as image_id:
        yield image_id


@pytest.fixture(scope="module")
def sound(engine: Engine, cuda: str, made_up: Sequence[MadeUp], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return trial.run(engine, cuda, tmp_path_factory.mktemp("sound"), "--gpus", ",".join(gpu.uuid for gpu in made_up))


@pytest.fixture(scope="module")
def broken(
    engine: Engine, cuda: str, made_up: Sequence[MadeUp], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Outcome]:
    """Gives the outcome of a fault."""

    def run(fault: str, *options: str) -> Outcome:
        with changed(engine, cuda, [f"ENV STANDIN_GPU_FAULT={fault}"]) as image_id:
            return trial.run(engine, image_id, tmp_path_factory.mktemp(fault), "--gpus", made_up[0].uuid, *options)

    return run


def test_environment_device_and_mount_arrive(engine: Engine, cuda: str, made_up: Sequence[MadeUp]) -> None:
    first, second = made_up
    capabilities = engine.capabilities
    assert isinstance(capabilities, Capabilities)
    requests = grant.devices(Selection.parse(second.uuid), flavor="cuda", capabilities=capabilities)
    with inside(engine, engine.image(cuda), device_requests=list(requests)) as container:
        assert container.run("ls", FOLDER).split() == [second.uuid]
        assert f"STANDIN_GPU_1={second.uuid}" in container.run("sh", "-c", "tr '\\0' '\\n' </proc/1/environ").split()
        assert container.run("head", "-c", "3", "/dev/nvidia1") == "\0\0\0"
        assert container.status("test", "-e", "/dev/nvidia0")[0] == 1
    assert first.uuid != second.uuid


def test_sound_image_passes_on_the_gpus_that_were_asked_for(sound: Outcome, made_up: Sequence[MadeUp]) -> None:
    assert sound.status == 0, sound.text
    assert {f"gpu/{name}" for names in FAULTS.values() for name in names} <= sound.named("passed")
    assert sound.report["figures"]["gpu_memory_mib"] == 8500
    assert sound.verdict is not None
    configuration = Verdict.parse(sound.verdict).configuration
    assert configuration["gpus"] == ",".join(gpu.uuid for gpu in made_up)
    assert (configuration["gpu_names"], configuration["driver"]) == (["Made-up GPU"] * 2, "580.65.06")
    assert not sound.left


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(broken: Callable[..., Outcome], fault: str) -> None:
    outcome = broken(fault, "-k", "test_5_gpu")
    assert outcome.named("failed") == {f"gpu/{name}" for name in FAULTS[fault]}, outcome.text
    assert (outcome.status, outcome.report["result"]) == (1, "fail")


def test_every_check_is_failed_by_some_fault(sound: Outcome) -> None:
    checks = {check["name"] for check in sound.report["checks"] if check["name"].startswith("gpu/")}
    assert checks == {f"gpu/{name}" for names in FAULTS.values() for name in names}


def test_process_that_no_driver_tells_of_is_seen_by_what_it_has_open(
    broken: Callable[..., Outcome],
) -> None:
    outcome = broken("untold")
    assert outcome.status == 0, outcome.text


@pytest.mark.parametrize("names", ["{0},GPU-00000000-0000-0000-0000-000000000000", "999"])
def test_gpu_that_the_engine_does_not_know(
    engine: Engine, cuda: str, made_up: Sequence[MadeUp], tmp_path: Path, names: str
) -> None:
    outcome = trial.run(engine, cuda, tmp_path, "--gpus", names.format(made_up[0].uuid))
    assert (outcome.status, outcome.report["cause"]) == (8, "no-gpu"), outcome.text
    assert "unresolvable CDI devices nvidia.com/gpu=" in outcome.report["line"]
    assert outcome.verdict is None
    assert not outcome.left


def test_driver_that_the_image_refuses(engine: Engine, cuda: str, made_up: Sequence[MadeUp], tmp_path: Path) -> None:
    with changed(engine, cuda, ["ENV NVIDIA_REQUIRE_CUDA=cuda>=13.1"]) as image_id:
        outcome = trial.run(engine, image_id, tmp_path, "--gpus", made_up[0].uuid)
    assert (outcome.status, outcome.report["cause"]) == (8, "driver-too-old"), outcome.text
    assert "driver 580.65.06 (CUDA 13.0) does not satisfy the image's NVIDIA_REQUIRE_CUDA" in outcome.report["line"]
    assert not outcome.left


@pytest.mark.parametrize("gpus", ["0,0", "some", "0,", "device=0"])
def test_wrong_usage(engine: Engine, gpus: str) -> None:
    with trial.start(engine, "--image", "x", "--gpus", gpus) as process:
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "--gpus" in text
    assert "UUIDs (GPU-" in text
    assert "Traceback" not in text


def test_second_run_waits_for_the_first(engine: Engine, cuda: str, made_up: Sequence[MadeUp], tmp_path: Path) -> None:
    gpu = made_up[0].uuid
    with (
        changed(engine, cuda, ["ENV STANDIN_FAULT=hangs"]) as hanging,
        trial.start(engine, "--image", hanging, "--gpus", gpu, "--start-timeout", "60") as first,
    ):
        assert first.stdout is not None
        assert any("starting server" in line for line in first.stdout)
        with trial.start(engine, "--image", cuda, "--gpus", gpu, "--report", tmp_path) as second:
            assert second.stdout is not None
            said = next(line for line in second.stdout if "waiting" in line)
            first.send_signal(signal.SIGINT)
            text, _ = second.communicate(timeout=60)
        first.communicate(timeout=30)
    assert f"process {first.pid} (smoke test of " in said
    assert second.returncode == 0, text
