"""Which GPUs a container is given."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from build.config.folders import REPOSITORY
from build.config.gpus import Selection
from build.engine import labels, serving
from build.engine.image import Image
from build.errors import BusyError, UsageError
from smoke.gpu import grant as gpus
from smoke.gpu.driver_requirement import unsatisfied
from smoke.gpu.nvidia import Gpu, Machine, processes
from tests.unit.fakes import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from build.engine.capabilities import Capabilities

RUNTIME, CDI = replace(CAPABILITIES, nvidia_runtime=True), replace(CAPABILITIES, cdi=True)
BOTH = replace(CDI, nvidia_runtime=True)

ONE = "GPU-00000000-0000-0000-0000-000000000001"
TWO = "GPU-00000000-0000-0000-0000-000000000002"
PART = "MIG-00000000-0000-0000-0000-00000000000a"
OTHER_PART = "MIG-00000000-0000-0000-0000-00000000000b"

# What nvidia-smi prints on a machine with a GPU and one that is divided.
ANSWERS = {
    "--query-gpu": f"""\
0, {ONE}, NVIDIA H100 80GB HBM3, 575.57.08, 1042
1, {TWO}, NVIDIA H100 80GB HBM3, 575.57.08, [N/A]
""",
    "-L": f"""\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: {ONE})
GPU 1: NVIDIA H100 80GB HBM3 (UUID: {TWO})
  MIG 3g.40gb     Device  0: (UUID: {PART})
  MIG 3g.40gb     Device  1: (UUID: {OTHER_PART})
""",
    "-q": """\
==============NVSMI LOG==============

Driver Version                            : 575.57.08
CUDA Version                              : 12.9

GPU 00000000:0A:00.0
    Product Name                          : NVIDIA H100 80GB HBM3
    Product Brand                         : NVIDIA
""",
    "--query-compute-apps": f"4711, {ONE}\n4712, {ONE}\n4712, {TWO}\n",
}


def ask(argv: Sequence[str]) -> str:
    assert argv[0] == "nvidia-smi"
    return ANSWERS[argv[1].partition("=")[0]]


def absent(argv: Sequence[str]) -> str:
    raise OSError(argv[0])


def machine(**changes: Any) -> Machine:  # noqa: ANN401 - of whichever field
    found = Machine.look(ask)
    assert found is not None
    return replace(found, **changes)


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


# --- What is asked for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "word", "names"),
    [
        ("auto", "auto", ()),
        ("all", "all", ()),
        ("none", "none", ()),
        ("0", "list", ("0",)),
        ("1,0", "list", ("1", "0")),
        ("0:1", "list", ("0:1",)),
        (f"{ONE},{PART}", "list", (ONE, PART)),
    ],
)
def test_selection(text: str, word: str, names: tuple[str, ...]) -> None:
    selection = Selection.parse(text)
    assert (selection.word, selection.names, str(selection)) == (word, names, text)


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "0,", "0,,1", "some", "ALL", "all,0", "-1", "01", "0 ", "0, 1", "1.5", "0:", "0:1:2", "9999", "0\n"),
        *("device=0", "nvidia.com/gpu=0", "GPU-1", ONE.lower(), f"{ONE}x", "1٣"),
    ],
)
def test_what_is_no_selection(text: str) -> None:
    with pytest.raises(UsageError, match="--gpus") as caught:
        Selection.parse(text)
    assert "UUIDs" in caught.value.hint


@pytest.mark.parametrize("text", ["0,0", f"{ONE},1,{ONE}"])
def test_device_named_twice(text: str) -> None:
    with pytest.raises(UsageError, match="named twice"):
        Selection.parse(text)


# --- What the engine is asked for --------------------------------------------------------------------------


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
    assert serving.flavor(tested) == flavor


@pytest.mark.parametrize("capabilities", [CAPABILITIES, RUNTIME, CDI, BOTH])
@pytest.mark.parametrize(("word", "flavor"), [("none", "cuda"), ("auto", "cpu"), ("none", "cpu")])
def test_none(capabilities: Capabilities, word: str, flavor: str) -> None:
    assert gpus.devices(Selection(word=word), flavor=flavor, capabilities=capabilities) == ()


@pytest.mark.parametrize("capabilities", [RUNTIME, BOTH])
@pytest.mark.parametrize(("word", "flavor"), [("auto", "cuda"), ("all", "cuda"), ("all", "cpu")])
def test_all_through_the_runtime(capabilities: Capabilities, word: str, flavor: str) -> None:
    (request,) = gpus.devices(Selection(word=word), flavor=flavor, capabilities=capabilities)
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])


def test_all_through_cdi() -> None:
    (request,) = gpus.devices(Selection(word="auto"), flavor="cuda", capabilities=CDI)
    assert (request["Driver"], request["DeviceIDs"]) == ("cdi", ["nvidia.com/gpu=all"])


@pytest.mark.parametrize("capabilities", [RUNTIME, BOTH])
def test_list_through_the_runtime(capabilities: Capabilities) -> None:
    (request,) = gpus.devices(Selection.parse(f"1,{ONE}"), flavor="cpu", capabilities=capabilities)
    assert (request["Count"], request["DeviceIDs"], request["Capabilities"]) == (0, ["1", ONE], [["gpu"]])


def test_list_through_cdi() -> None:
    (request,) = gpus.devices(Selection.parse(f"0:1,{PART}"), flavor="cuda", capabilities=CDI)
    assert (request["Driver"], request["DeviceIDs"]) == ("cdi", ["nvidia.com/gpu=0:1", f"nvidia.com/gpu={PART}"])


# --- What cannot be judged ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "flavor"), [("auto", "cuda"), ("none", "cuda"), ("all", "cpu"), ("0", "cpu")])
def test_what_was_not_seen_on_a_gpu_is_not_verified(word: str, flavor: str) -> None:
    reason = gpus.unverifiable(Selection.parse(word), image=image(flavor=flavor), requested=(), machine=None)
    assert reason is not None
    assert (reason.cause, reason.image_at_fault) == ("no-gpu", False)


@pytest.mark.parametrize("word", ["auto", "none"])
def test_cpu_image_needs_none(word: str) -> None:
    reason = gpus.unverifiable(Selection(word=word), image=image(flavor="cpu"), requested=(), machine=None)
    assert reason is None


@pytest.mark.parametrize("known", [True, False])
def test_requested_is_enough(*, known: bool) -> None:
    requested = gpus.devices(Selection(word="all"), flavor="cuda", capabilities=RUNTIME)
    found = machine() if known else None
    reason = gpus.unverifiable(Selection(word="all"), image=image(flavor="cuda"), requested=requested, machine=found)
    assert reason is None


@pytest.mark.parametrize("text", ["2", "0,7", "1:2", "0:0", TWO.replace("2", "3")])
def test_device_that_the_machine_does_not_have(text: str) -> None:
    selection = Selection.parse(text)
    requested = gpus.devices(selection, flavor="cuda", capabilities=RUNTIME)
    reason = gpus.unverifiable(selection, image=image(flavor="cuda"), requested=requested, machine=machine())
    assert reason is not None
    assert (reason.cause, reason.image_at_fault) == ("no-gpu", False)
    assert f"no GPU {selection.names[-1]}; there are 0 ({ONE}), 1 ({PART}, {OTHER_PART})" in reason.line


def test_driver_that_the_image_refuses() -> None:
    selection = Selection(word="all")
    requested = gpus.devices(selection, flavor="cuda", capabilities=CDI)
    demanding = image(flavor="cuda", variables=("NVIDIA_REQUIRE_CUDA=cuda>=13.0",))
    reason = gpus.unverifiable(selection, image=demanding, requested=requested, machine=machine())
    assert reason is not None
    assert (reason.cause, reason.image_at_fault) == ("driver-too-old", False)
    assert reason.line == "driver 575.57.08 (CUDA 12.9) does not satisfy the image's NVIDIA_REQUIRE_CUDA=cuda>=13.0"


# Shortened from NVIDIA's cuda:12.9: the driver knows that CUDA, or is of a branch that takes its compatibility package.
_CUDA_12_9 = (
    "NVIDIA_REQUIRE_CUDA=cuda>=12.9 brand=unknown,driver>=535,driver<536 brand=tesla,driver>=535,driver<536 "
    "brand=nvidia,driver>=535,driver<536 brand=geforcertx,driver>=550,driver<551"
)


@pytest.mark.parametrize(
    ("facts", "fits"),
    [
        ({"driver": "575.57.08", "cuda": "12.9", "brand": "nvidia"}, True),
        ({"driver": "580.65.06", "cuda": "13.0", "brand": "geforce"}, True),
        ({"driver": "535.104.05", "cuda": "12.2", "brand": "nvidia"}, True),
        ({"driver": "535.104.05", "cuda": "12.2", "brand": "geforcertx"}, False),
        ({"driver": "550.54.14", "cuda": "12.4", "brand": "nvidia"}, False),
        ({"driver": "550.54.14", "cuda": "12.4", "brand": None}, True),
        ({"driver": "525.60.13", "cuda": "12.0", "brand": None}, False),
        ({"driver": "525.60.13", "cuda": None, "brand": "nvidia"}, True),
    ],
)
def test_requirement_of_nvidias_own_images(facts: dict[str, Any], *, fits: bool) -> None:
    assert (unsatisfied(["PATH=/bin", _CUDA_12_9], machine(**facts)) is None) == fits


@pytest.mark.parametrize(
    ("requirements", "fits"),
    [
        (["NVIDIA_REQUIRE_CUDA=cuda>=12.10"], False),
        (["NVIDIA_REQUIRE_CUDA=cuda>=12.9.0"], True),
        (["NVIDIA_REQUIRE_CUDA=cuda=12.9"], True),
        (["NVIDIA_REQUIRE_CUDA=cuda!=12.9"], False),
        (["NVIDIA_REQUIRE_CUDA=cuda>12.9"], False),
        (["NVIDIA_REQUIRE_CUDA=cuda<=12.9,driver<575"], False),
        (["NVIDIA_REQUIRE_CUDA=cuda>=12.0", "NVIDIA_REQUIRE_DRIVER=driver>=580"], False),
        (["NVIDIA_REQUIRE_CUDA=cuda>=13.0", "NVIDIA_DISABLE_REQUIRE=1"], True),
        (["NVIDIA_REQUIRE_CUDA=cuda>=13.0", "NVIDIA_DISABLE_REQUIRE=0"], False),
        (["NVIDIA_REQUIRE_CUDA="], True),
        (["NVIDIA_REQUIRE_CUDA=the newest"], True),
        (["NVIDIA_REQUIRE_ARCH=arch>=9.0"], True),
        (["CUDA_VERSION=13.0.0"], True),
    ],
)
def test_requirement(requirements: list[str], *, fits: bool) -> None:
    assert (unsatisfied(requirements, machine()) is None) == fits


# --- What nvidia-smi tells ---------------------------------------------------------------------------------


def test_machine() -> None:
    assert machine() == Machine(
        driver="575.57.08",
        cuda="12.9",
        brand="nvidia",
        gpus=(
            Gpu(index=0, uuid=ONE, name="NVIDIA H100 80GB HBM3", used_mib=1042, migs=()),
            Gpu(index=1, uuid=TWO, name="NVIDIA H100 80GB HBM3", used_mib=None, migs=(PART, OTHER_PART)),
        ),
    )


@pytest.mark.parametrize(
    ("name", "units"),
    [
        *(("0", (ONE,)), (ONE, (ONE,)), ("1", (PART, OTHER_PART)), (TWO, (PART, OTHER_PART))),
        *(("1:1", (OTHER_PART,)), (PART, (PART,)), ("2", ()), ("0:0", ()), ("1:2", ())),
    ],
)
def test_names(name: str, units: tuple[str, ...]) -> None:
    assert machine().named(name) == units


def test_machine_without_a_driver() -> None:
    assert Machine.look(absent) is None
    assert processes(absent) == {}


def test_machine_without_a_gpu() -> None:
    assert Machine.look(lambda _argv: "No devices were found\n") is None


def test_processes() -> None:
    assert processes(ask) == {4711: {ONE}, 4712: {ONE, TWO}}


@pytest.mark.parametrize(
    ("text", "units"), [("all", (ONE, PART, OTHER_PART)), ("0", (ONE,)), (f"1,{PART}", (PART, OTHER_PART))]
)
def test_grant(text: str, units: tuple[str, ...]) -> None:
    selection = Selection.parse(text)
    requested = gpus.devices(selection, flavor="cuda", capabilities=RUNTIME)
    grant = gpus.granted(selection, requested, machine())
    assert (grant.units, grant.driver, grant.used_mib) == (units, "575.57.08", {ONE: 1042})
    assert set(grant.titles) == {"NVIDIA H100 80GB HBM3"}


def test_grant_that_is_not_known() -> None:
    requested = gpus.devices(Selection(word="all"), flavor="cuda", capabilities=RUNTIME)
    grant = gpus.granted(Selection(word="all"), requested, None)
    assert (grant.requests, grant.units, grant.driver) == (requested, (), None)


# --- One run at a time -------------------------------------------------------------------------------------


def taken(
    folder: Path, text: str, *, known: bool = True, host: str = "unix:///x", said: list[str] | None = None
) -> AbstractContextManager[None]:
    selection = Selection.parse(text)
    requested = gpus.devices(selection, flavor="cuda", capabilities=RUNTIME)
    grant = gpus.granted(selection, requested, machine() if known else None)
    say = (said if said is not None else []).append
    return gpus.held(grant, folder=folder, engine_host=host, doing="smoke test of x", say=say, timeout_s=0.0)


EXCLUDING = [
    ("0", "0"),
    ("all", "0"),
    ("0", "all"),
    ("auto", "all"),
    (ONE, "0"),
    ("1", PART),
    ("1:1", "1"),
    ("0,1", "1:0"),
]


@pytest.mark.parametrize(("first", "second"), EXCLUDING)
def test_two_runs_do_not_share_a_device(tmp_path: Path, first: str, second: str) -> None:
    said: list[str] = []
    with (
        taken(tmp_path, first),
        pytest.raises(BusyError, match=r"is busy: process \d+ \(smoke test of x"),
        taken(tmp_path, second, said=said),
    ):
        pass


@pytest.mark.parametrize(("first", "second"), [("0", "1"), ("1:0", "1:1"), (PART, ONE)])
def test_two_runs_on_two_devices(tmp_path: Path, first: str, second: str) -> None:
    with taken(tmp_path, first), taken(tmp_path, second):
        pass


def test_devices_that_are_not_known_are_one(tmp_path: Path) -> None:
    with (
        taken(tmp_path, "0", known=False),
        pytest.raises(BusyError),
        taken(tmp_path, "1", known=False),
    ):
        pass
    with (
        taken(tmp_path, "0", known=False, host="ssh://me@one"),
        taken(tmp_path, "0", known=False, host="ssh://me@two"),
    ):
        pass


def test_run_without_a_gpu_takes_none(tmp_path: Path) -> None:
    with taken(tmp_path, "none"), taken(tmp_path, "none"):
        assert not list(tmp_path.iterdir())


_HOLDER = """
import signal, sys
from pathlib import Path
from build.config.gpus import Selection
from smoke.gpu import grant as gpus
from docker.types import DeviceRequest
grant = gpus.granted(Selection(word="all"), (DeviceRequest(count=-1, capabilities=[["gpu"]]),), None)
with gpus.held(grant, folder=Path(sys.argv[1]), engine_host="unix:///x", doing="smoke test of y", say=print):
    print("held", flush=True)
    signal.pause()
"""


def test_run_waits_for_another_and_says_for_which_until_that_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    told = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    argv = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        def kill() -> None:
            told.wait(30)
            other.send_signal(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        requested = gpus.devices(Selection(word="all"), flavor="cuda", capabilities=RUNTIME)
        grant = gpus.granted(Selection(word="all"), requested, None)
        with gpus.held(grant, folder=tmp_path, engine_host="unix:///x", doing="smoke test of x", say=say, timeout_s=30):
            killer.join()
    (line,) = said
    assert line.startswith(f"waiting: gpus is busy: process {other.pid} (smoke test of y, since ")
