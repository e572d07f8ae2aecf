"""The server computes on the GPUs that it was given. A CPU-only torch in a CUDA image ends here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smoke.gpu.observed import Seen

if TYPE_CHECKING:
    from smoke.gpu.nvidia import Machine
    from smoke.gpu.observed import ComputingTorch, Observed
    from smoke.server.server import ContainerServer
    from smoke.suite.image_run import Run


@pytest.fixture(scope="module", autouse=True)
def _cuda(run: Run) -> None:
    if run.flavor != "cuda":
        pytest.skip(f"not applicable: an image of flavor {run.flavor}")


@pytest.fixture(scope="module")
def seen(contained: ContainerServer, run: Run) -> Seen:
    """The GPUs while the server runs."""
    return Seen.look(contained.container, run.image, here=run.engine.is_here)


@pytest.fixture
def inside(seen: Seen) -> Machine:
    """The GPUs in the container."""
    if seen.machine is None:
        pytest.fail("nvidia-smi shows no GPU inside the container", pytrace=False)
    return seen.machine


@pytest.fixture
def findings(seen: Seen) -> Observed:
    """What the image's own Python finds."""
    if seen.findings is None:
        pytest.fail(seen.failure, pytrace=False)
    return seen.findings


@pytest.fixture
def torch(findings: Observed) -> ComputingTorch:
    """The image's torch."""
    if findings.torch.found is None:
        pytest.fail(f"torch cannot be used: {findings.torch.failure}", pytrace=False)
    return findings.torch.found


def test_devices(inside: Machine, run: Run) -> None:
    """The GPUs that were asked for, and no others, are visible in the container."""
    visible, asked = set(inside.units), set(run.gpus.units)
    assert visible == asked, f"visible are {', '.join(sorted(visible))}; asked for were {', '.join(sorted(asked))}"


def test_torch(torch: ComputingTorch) -> None:
    """The image's torch is built for CUDA and can use a GPU."""
    assert torch.cuda, f"torch {torch.version} is built for the CPU"
    assert torch.available, f"torch {torch.version} (CUDA {torch.cuda}) cannot use the GPU"


def test_platform(findings: Observed) -> None:
    """The platform that vLLM chooses is CUDA."""
    why = findings.platform.failure or findings.platform.found
    assert findings.platform.found == "cuda", f"it chooses {why}"


def test_product(torch: ComputingTorch) -> None:
    """Each GPU multiplies matrices as the processor does."""
    assert torch.products, "torch sees no GPU to multiply on"
    wrong = [str(number) for number, right in enumerate(torch.products) if not right]
    assert not wrong, f"the product is wrong on GPU {', '.join(wrong)}"


def test_process(seen: Seen, inside: Machine, findings: Observed) -> None:
    """The server's processes compute on the GPUs that it was given, and on no others."""
    if seen.computing is None:
        # Most drivers tell nothing of processes inside a container.
        assert findings.holders, "no process of the server has a GPU open"
        return
    given = {name for gpu in inside.gpus for name in (gpu.uuid, *gpu.migs)}
    assert seen.computing, "the driver knows of no process of the server on a GPU"
    assert seen.computing <= given, (
        f"it computes on {', '.join(sorted(seen.computing - given))}, which it was not given"
    )


def test_memory(seen: Seen, run: Run) -> None:
    """The server takes memory of a GPU."""
    grown = seen.grown(run.gpus)
    if not grown:
        pytest.skip("not applicable: the driver does not tell the memory in use, as of MIG devices")
    run.findings.figures["gpu_memory_mib"] = max(grown.values())
    assert seen.has_grown(run.gpus), f"the memory in use of no GPU has grown since before the start: {grown} MiB"
