"""Which GPUs a container is given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from build import labels
from build.engine import Capabilities, Image
from smoke import gpus

PLAIN = Capabilities(
    server_version="26.1",
    api_version="1.45",
    buildkit=True,
    nvidia_runtime=False,
    cdi=False,
    storage_driver="overlay2",
    takes_thin_images=True,
    root_dir="/var/lib/docker",
    cpus=2,
    memory_bytes=1,
)
RUNTIME, CDI = replace(PLAIN, nvidia_runtime=True), replace(PLAIN, cdi=True)
BOTH = replace(CDI, nvidia_runtime=True)


def image(*, flavor: str | None = None, variables: tuple[str, ...] = ()) -> Image:
    return Image(
        id="sha256:1",
        tags=(),
        digests=(),
        labels={labels.FLAVOR: flavor} if flavor else {},
        diff_ids=(),
        size=1,
        created="",
        config={"Env": list(variables)},
    )


@pytest.mark.parametrize(
    ("tested", "flavor"),
    [
        (image(flavor="cpu"), "cpu"),
        (image(flavor="cuda"), "cuda"),
        (image(), "cpu"),
        (image(variables=("PATH=/bin", "NVIDIA_REQUIRE_CUDA=cuda>=13.0")), "cuda"),
        (image(flavor="cpu", variables=("CUDA_VERSION=13.0",)), "cpu"),
    ],
)
def test_flavor(tested: Image, flavor: str) -> None:
    assert gpus.flavor(tested) == flavor


@pytest.mark.parametrize("capabilities", [PLAIN, RUNTIME, CDI, BOTH])
@pytest.mark.parametrize(("choice", "flavor"), [("none", "cuda"), ("auto", "cpu"), ("none", "cpu")])
def test_none(capabilities: Capabilities, choice: gpus.Choice, flavor: str) -> None:
    assert gpus.devices(choice, flavor=flavor, capabilities=capabilities) == ()


@pytest.mark.parametrize("capabilities", [RUNTIME, BOTH])
@pytest.mark.parametrize(("choice", "flavor"), [("auto", "cuda"), ("all", "cuda"), ("all", "cpu")])
def test_all_through_the_runtime(capabilities: Capabilities, choice: gpus.Choice, flavor: str) -> None:
    (request,) = gpus.devices(choice, flavor=flavor, capabilities=capabilities)
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])


def test_all_through_cdi() -> None:
    (request,) = gpus.devices("auto", flavor="cuda", capabilities=CDI)
    assert (request["Driver"], request["DeviceIDs"]) == ("cdi", ["nvidia.com/gpu=all"])


@pytest.mark.parametrize(("choice", "flavor"), [("auto", "cuda"), ("none", "cuda"), ("all", "cpu")])
def test_what_was_not_seen_on_a_gpu_is_not_verified(choice: gpus.Choice, flavor: str) -> None:
    reason = gpus.unverifiable(choice, flavor=flavor, requested=())
    assert reason is not None
    assert (reason.cause, reason.image_at_fault) == ("no-gpu", False)


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_cpu_image_needs_none(choice: gpus.Choice) -> None:
    assert gpus.unverifiable(choice, flavor="cpu", requested=()) is None


def test_requested_is_enough() -> None:
    requested = gpus.devices("all", flavor="cuda", capabilities=RUNTIME)
    assert gpus.unverifiable("all", flavor="cuda", requested=requested) is None
