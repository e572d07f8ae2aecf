"""Logs of failed servers, and the cause that must be found in each."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from build.config.folders import REPOSITORY
from smoke.diagnosis.cause import Diagnosis, diagnose, main
from smoke.diagnosis.log import plain
from smoke.diagnosis.signs import SIGNS
from tests.standin import faults
from tests.unit.failing_logs import (
    AS_REPORTED,
    OF_THE_IMAGE,
    OF_THE_MACHINE,
    OTHERS,
    PREFIXED,
    PREFIXES,
    REFUSALS,
    Found,
    engine_failed,
    text_of,
)
from tests.unit.server_logs import LOGS, READY, START, WELL

if TYPE_CHECKING:
    from pathlib import Path

# What a healthy vLLM 0.32.0 prints on a CPU and what looks worse than it is.
HEALTHY = """\
Triton is installed, but doesn't include CPU backend. Disabling Triton.
(APIServer pid=1) INFO 11-23 19:10:46 [api_utils.py:286] non-default args: {'model_tag': '/tmp/m', 'dtype': 'float32'}
(APIServer pid=1) WARNING 11-23 19:10:46 [system_utils.py:255] Found ulimit of 20000 and failed to automatically \
increase with error current limit exceeds maximum limit. This can cause fd limit errors like `OSError: [Errno 24] \
Too many open files`.
get_mempolicy: Operation not permitted
[W1123 19:11:11.294563492 utils.cpp:41] Warning: numa_migrate_pages failed. errno: 1 (function init_cpu_memory_env)
(Worker pid=36) INFO 11-23 19:11:11 [default_loader.py:501] Loading weights took 0.01 seconds
(APIServer pid=1) INFO 11-23 19:11:18 [entry.py:140] Starting vLLM server on http://0.0.0.0:8000
INFO:     172.17.0.1:56582 - "GET /health HTTP/1.1" 200 OK
"""

# Shortened from a real run: vLLM 0.32.0 from its source distribution with the binaries of its wheel.
WRONG_FALLBACK = """\
(Worker pid=36) ERROR 11-23 19:11:19 [multiproc_executor.py:1063] WorkerProc hit an exception.
(Worker pid=36) ERROR 11-23 19:11:19 [multiproc_executor.py:1063] Traceback (most recent call last):
(Worker pid=36) ERROR 11-23 19:11:19 [multiproc_executor.py:1063]   File "/opt/vllm-source/vllm/utils/\
cpu_triton_utils.py", line 31, in _compute_slot_mapping_kernel_impl
(Worker pid=36) ERROR 11-23 19:11:19 [multiproc_executor.py:1063] RuntimeError: Boolean value of Tensor with more \
than one value is ambiguous
(EngineCore pid=24) ERROR 11-23 19:11:19 [core.py:1512] EngineCore encountered a fatal error.
(APIServer pid=1) ERROR 11-23 19:11:19 [async_llm.py:802] vllm.v1.engine.exceptions.EngineDeadError: EngineCore \
encountered an issue. See stack trace (above) for the root cause.
"""

CAUSES = {
    "undefined-symbol": "ImportError: /opt/vllm-source/vllm/_C.abi3.so: undefined symbol: _ZN3c105ErrorC2E",
    "missing-op": "AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'",
    "import-error": "ImportError: cannot import name 'LLM' from 'vllm.entrypoints.llm' (/opt/vllm-source/x.py)",
    "syntax-error": "IndentationError: unexpected indent",
    "missing-library": "ImportError: libnuma.so.1: cannot open shared object file: No such file or directory",
    "no-gpu": 'could not select device driver "" with capabilities: [[gpu]]',
    "driver-too-old": "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0",
    "gpu-memory": "ValueError: No available memory for the cache blocks. Try increasing gpu_memory_utilization",
    "host-memory": "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 GB",
    "shm": "RuntimeError: Insufficient space in /dev/shm: 67108864 bytes",
    "disk": "OSError: [Errno 28] No space left on device: '/home/vllm/.cache'",
    "port": "OSError: [Errno 98] Address already in use",
    "hub": "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them",
    "permission": "PermissionError: [Errno 13] Permission denied: '/home/vllm/.cache'",
    "bad-arguments": "vllm serve: error: argument --dtype: invalid choice: 'float33'",
    "entrypoint": 'exec: "vllm": executable file not found in $PATH: unknown',
    "driver-files": "nvidia-container-cli: mount error: file creation failed: /x/merged/libcuda.so.1: file exists",
    "gpu-fault": "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
    "gpu-unsupported": "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.",
    "limits": "OSError: [Errno 24] Too many open files",
    "model": "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
    "missing-compiler": "/bin/sh: 1: /usr/local/cuda/bin/nvcc: not found",
    "engine-refused": "failed to create shim task: OCI runtime create failed: runc create failed: who knows: unknown",
    "compile-cache": "RuntimeError: a previous compilation failed, leading to a corrupted compilation artifact",
    "unsupported-model": "  Value error, Model architectures ['X'] are not supported for now.",
    "nccl": "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
    "network": "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='openaipublic.example', port=443): "
    "Max retries exceeded with url: /x (Caused by NameResolutionError: Failed to resolve 'openaipublic.example')",
    "nixl": "nixl._bindings.nixlBackendError: NIXL_ERR_BACKEND",
    "nvshmem": "/opt/nvshmem/src/host/init/init.cu:998: non-zero status: 7 building transport map failed",
    "ucx": "[1754890927.298391] [a:270  :0]    ib_md.c:1100 UCX  ERROR mlx5_7: no such device",
    "engine-died": "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
    "timeout": "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow",
}
MORE = [
    ("no-gpu", "unresolvable CDI devices nvidia.com/gpu=all"),
    ("no-gpu", "RuntimeError: Failed to infer device type, please set the environment variable"),
    ("no-gpu", "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory"),
    ("driver-too-old", "The NVIDIA driver on your system is too old (found version 12020)."),
    ("driver-too-old", "RuntimeError: Error 803: system has unsupported display driver / cuda driver combination"),
    ("gpu-memory", "ValueError: Free memory on device cuda:0 (3/79 GiB) is less than desired GPU memory utilization"),
    ("hub", "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://x"),
    ("port", "driver failed: Bind for 127.0.0.1:8000 failed: port is already allocated"),
    ("missing-library", "OSError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by x)"),
    ("engine-died", "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s)"),
]
NOT_THE_IMAGES = {
    "network",
    "driver-too-old",
    "no-gpu",
    "gpu-memory",
    "gpu-fault",
    "gpu-unsupported",
    "host-memory",
    "limits",
    "shm",
    "disk",
    "hub",
    "model",
    "engine-refused",
    "nccl",
    "nvshmem",
    "ucx",
}


@pytest.mark.parametrize(("cause", "line"), [*CAUSES.items(), *MORE])
def test_cause_and_its_line(cause: str, line: str) -> None:
    found = diagnose(f"{HEALTHY}\n{line}\n{HEALTHY}")
    assert found.cause == cause
    assert found.line.startswith(line.strip())
    assert found.advice


def test_every_sign_has_a_log() -> None:
    assert set(CAUSES) == {sign.cause for sign in SIGNS}


@pytest.mark.parametrize("cause", CAUSES)
def test_who_is_to_blame(cause: str) -> None:
    assert diagnose(CAUSES[cause]).image_at_fault == (cause not in NOT_THE_IMAGES)


def test_cuda_image_with_torch_for_the_cpu_is_to_blame_itself() -> None:
    assert diagnose("RuntimeError: Failed to infer device type").image_at_fault
    assert diagnose("AssertionError: Torch not compiled with CUDA enabled").image_at_fault


def test_healthy_log_has_no_cause() -> None:
    assert diagnose(HEALTHY).cause == "unknown"


def test_first_cause_wins() -> None:
    log = "\n".join([CAUSES["hub"], CAUSES["import-error"], CAUSES["permission"]])
    assert diagnose(log).cause == "hub"


def test_cause_wins_over_an_earlier_consequence() -> None:
    log = "\n".join([CAUSES["engine-died"], CAUSES["timeout"], CAUSES["syntax-error"]])
    assert diagnose(log).cause == "syntax-error"


def test_warning_of_an_undefined_symbol_is_the_cause_of_the_missing_op() -> None:
    found = diagnose(faults.AT_START["missing-op"].log, exit_code=1)
    assert found.cause == "undefined-symbol"
    assert "_ZNK3c1010" in found.line


def test_what_is_only_warned_of_is_no_cause() -> None:
    log = "(Worker pid=3) WARNING 11-23 18:00:01 [x.py:1] ImportError: No module named 'triton'\nIt stopped"
    assert diagnose(log).cause == "unknown"


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        ("syntax-error", "(/opt/vllm-source/vllm/entrypoints/cli/serve.py:17)"),
        ("import-error", "(/opt/vllm-source/vllm/model_executor/models/llama.py:33)"),
    ],
)
def test_place_in_the_source_is_named(fault: str, place: str) -> None:
    assert diagnose(faults.AT_START[fault].log).line.endswith(place)


def test_death_of_the_engine_shows_what_it_died_of() -> None:
    found = diagnose(WRONG_FALLBACK, exit_code=0)
    assert found.cause == "engine-died"
    assert found.line.endswith("RuntimeError: Boolean value of Tensor with more than one value is ambiguous")


def test_unknown_shows_the_last_exception() -> None:
    found = diagnose(faults.AT_START["crash"].log + "\nbye", exit_code=1)
    assert (found.cause, found.line) == ("unknown", "RuntimeError: this is the reason")


@pytest.mark.parametrize(
    ("exit_code", "cause"),
    [(137, "host-memory"), (139, "engine-died"), (132, "engine-died"), (127, "entrypoint"), (1, "unknown")],
)
def test_exit_code_tells_where_the_log_does_not(exit_code: int, cause: str) -> None:
    assert diagnose(HEALTHY, exit_code=exit_code).cause == cause


def test_log_tells_more_than_the_exit_code() -> None:
    assert diagnose(CAUSES["shm"], exit_code=137).cause == "shm"


def test_engine_knows_best_what_the_kernel_killed() -> None:
    assert diagnose(CAUSES["import-error"], exit_code=1, out_of_memory=True).cause == "host-memory"


def test_timeout_shows_what_it_did_last() -> None:
    found = diagnose("first\nloading weights\n\n", timed_out=True)
    assert (found.cause, found.line) == ("timeout", "loading weights")


@pytest.mark.parametrize("log", ["", "\n\n"])
def test_empty_log(log: str) -> None:
    assert diagnose(log) == Diagnosis(cause="unknown", line="", advice="read the server's log", image_at_fault=True)


def test_colours_are_taken_off() -> None:
    found = diagnose("\x1b[31mSyntaxError: invalid syntax\x1b[0m")
    assert (found.cause, found.line) == ("syntax-error", "SyntaxError: invalid syntax")


@pytest.mark.parametrize("name", LOGS)
def test_real_logs(name: str) -> None:
    told = LOGS[name]
    found = diagnose(START + told.log, exit_code=told.exit_code)
    assert found.cause == told.cause
    assert told.shown in found.line


@pytest.mark.parametrize("name", LOGS)
def test_line_is_where_it_is_said_to_be(name: str) -> None:
    log = START + LOGS[name].log
    found = diagnose(log, exit_code=LOGS[name].exit_code)
    assert found.line_number is not None
    line = found.line.rpartition(" (/")[0] or found.line
    assert line in plain(log.split("\n")[found.line_number - 1])


@pytest.mark.parametrize("name", AS_REPORTED)
def test_logs_as_reported(name: str) -> None:
    _check(text_of(name), AS_REPORTED[name])


@pytest.mark.parametrize("name", OTHERS)
def test_logs_by_kind(name: str) -> None:
    _check(OTHERS[name].log, OTHERS[name].found)


@pytest.mark.parametrize(("exception", "shown"), OF_THE_MACHINE.items())
def test_image_is_not_to_blame_for_the_machine(exception: str, shown: str) -> None:
    _check(engine_failed(exception), Found("", shown, at_fault=False))


@pytest.mark.parametrize(("exception", "shown"), OF_THE_IMAGE.items())
def test_machine_is_not_to_blame_for_the_image(exception: str, shown: str) -> None:
    _check(engine_failed(exception), Found("", shown, at_fault=True))


@pytest.mark.parametrize("said", REFUSALS)
def test_what_an_engine_says_instead_of_starting(said: str) -> None:
    shown, at_fault, exit_code = REFUSALS[said]
    _check(said, Found("", shown, at_fault=at_fault, exit_code=exit_code))


@pytest.mark.parametrize("shown", PREFIXED)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_others_put_before_each_line_does_not_count(prefix: str, shown: str) -> None:
    log = PREFIXED[shown]
    plainly = diagnose(log, exit_code=1)
    found = diagnose("\n".join(map(PREFIXES[prefix], log.splitlines())), exit_code=1)
    assert shown in found.line
    assert (found.cause, found.line_number) == (plainly.cause, plainly.line_number)


def _check(log: str, expected: Found) -> None:
    found = diagnose(log, exit_code=expected.exit_code)
    assert expected.shown in found.line
    assert found.image_at_fault == expected.at_fault
    assert found.cause == expected.cause or not expected.cause


def test_every_cause_has_a_log_as_it_looks() -> None:
    by_kind = {failure.found.cause for failure in OTHERS.values()} | {found.cause for found in AS_REPORTED.values()}
    rare = {"driver-files", "engine-refused"}
    assert {sign.cause for sign in SIGNS} - rare <= {told.cause for told in LOGS.values()} | by_kind


@pytest.mark.parametrize("exit_code", [None, 0])
@pytest.mark.parametrize("name", WELL)
def test_server_that_was_well_has_no_cause(name: str, exit_code: int | None) -> None:
    assert diagnose(WELL[name], exit_code=exit_code).cause in ("unknown", "terminated")


def test_failure_after_a_good_start_is_found() -> None:
    assert diagnose(START + READY + CAUSES["permission"], exit_code=1).cause == "permission"


@pytest.mark.parametrize(
    "prefix",
    [
        "(APIServer pid=1) INFO 11-23 18:00:01 [x.py:1] ",
        "DEBUG 11-23 18:00:01 [x.py:1] ",
        "INFO:     172.17.0.1:46150 - GET /?q=",
        "2026-11-23 18:00:23,300 - INFO - autotuner.py:256 - ",
        "[2026-11-23 18:00:23] INFO x ",
        "WARNING:root:",
        "WARNING 11-23 18:00:01 [x.py:1] ",
        "[W1123 20:59:19.029589283 utils.cpp:41] ",
        "(Worker pid=3) /opt/x.py:12: UserWarning: ",
    ],
)
def test_what_is_said_below_an_error_is_no_cause(prefix: str) -> None:
    assert diagnose(f"{prefix}ImportError: x\n", exit_code=1).cause == "unknown"


def test_what_comes_late_in_a_line_is_not_looked_at() -> None:
    assert diagnose("x" * 20_000 + " ImportError: x").cause == "unknown"


_WARNED = "WARNING 11-23 18:00:20 [x.py:1] Failed to import from vllm._C: ImportError('x.so: undefined symbol: y')\n"


def test_warning_explains_only_what_it_can() -> None:
    assert diagnose(_WARNED + CAUSES["permission"], exit_code=1).cause == "permission"
    assert diagnose(_WARNED + CAUSES["engine-died"], exit_code=1).cause == "undefined-symbol"


def test_warning_explains_a_failure_and_no_success() -> None:
    assert diagnose(_WARNED).cause == "unknown"
    assert diagnose(_WARNED, exit_code=0).cause == "unknown"
    assert diagnose(_WARNED, exit_code=1).cause == "undefined-symbol"


def test_last_words_of_python_hide_no_exception() -> None:
    log = "RuntimeError: this\nImportError: sys.meta_path is None, Python is likely shutting down\n"
    assert diagnose(log, exit_code=1).line == "RuntimeError: this"


def test_carriage_returns_do_not_shift_lines() -> None:
    found = diagnose("1\n 0%\r 50%\rIndentationError: unexpected indent\r\nlast\n")
    assert (found.line, found.line_number) == ("IndentationError: unexpected indent", 2)


def test_form_feeds_and_line_separators_do_not_shift_lines() -> None:
    found = diagnose("a\x0cb\x85c\u2028d\nSyntaxError: x")
    assert found.line_number == 2


def test_shown_line_has_no_power_over_a_terminal() -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\x00\x9b31mImportError: \u202egnp.exe\x1b[8m hidden"
    assert diagnose(hostile).line == "31mImportError: gnp.exe hidden"


def test_long_line_is_cut() -> None:
    found = diagnose("ImportError: " + "x" * 10**6)
    assert (found.cause, len(found.line)) == ("import-error", 500)


@pytest.mark.parametrize(
    "piece",
    [
        "(a pid=1, ",
        "a:1:",
        "/shm ",
        "\x1b]",
        "[1;1;",
        "NCCL ",
        "a.",
        "huggingface.co ",
        "nvshmem",
        "1",
        " ",
        "'/a/",
    ],
)
def test_lines_made_to_take_long_come_to_an_end(piece: str) -> None:
    lines = f"{piece * 20_000}\n" * 20
    assert diagnose(f"{lines}ValueError: the reason\n", exit_code=1).line == "ValueError: the reason"


def test_cause_at_either_end_of_an_endless_log_is_found() -> None:
    noise = "".join(f"line {number}\n" for number in range(60_000))
    assert diagnose(f"{CAUSES['port']}\n{noise}{CAUSES['hub']}\n").cause == "port"
    found = diagnose(f"{noise}{CAUSES['hub']}\nlast\n")
    assert (found.cause, found.line_number) == ("hub", 60_001)


def test_program_reads_hostile_bytes(tmp_path: Path) -> None:
    raw = b"\xff\xfe\x00\r" + b"\xf0\x28" * 1000 + b"\nOSError: [Errno 98] Address already in use\n\x80"
    (tmp_path / "log").write_bytes(raw)
    argv = [sys.executable, "-m", "smoke.diagnose", "-", "--json"]
    said = subprocess.run(argv, input=raw, capture_output=True, check=True, cwd=REPOSITORY).stdout
    assert (json.loads(said)["cause"], json.loads(said)["line_number"]) == ("port", 2)


def test_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "server.log"
    log.write_text(HEALTHY, encoding="utf-8")
    assert main([str(log), "--exit-code", "137", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cause"] == "host-memory"
    assert {"line", "advice"} <= set(document)


def test_program_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"\xff\xfe\n" + CAUSES["port"].encode())
    assert main([str(log)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"port: {CAUSES['port']}"
    assert second.startswith("try: ")


def test_program_without_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
