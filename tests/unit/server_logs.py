"""Logs of servers as they really look, shortened, and what must be found in each.

From runs of vLLM 0.32.0 on a CPU, and from reports of users of vLLM, Docker and the NVIDIA container toolkit.
"""

from __future__ import annotations

from typing import NamedTuple


class Told(NamedTuple):
    """A log and what it tells.

    Attributes:
        cause: What must be found.
        shown: Part of the line that must be shown.
        log: The log.
        exit_code: How the server ended.
    """

    cause: str
    shown: str
    log: str
    exit_code: int = 1


def _in(process: str, text: str, *, level: str = "ERROR", at: str = "core.py:1510") -> str:
    """Lines as vLLM's logger prints them, each with its process, level and place."""
    return "\n".join(f"({process}) {level} 11-23 18:00:51 [{at}] {line}" for line in text.splitlines())


START = """\
Triton is installed, but doesn't include CPU backend. Disabling Triton.
(APIServer pid=1) INFO 11-23 20:58:55 [api_utils.py:347]        █     █     █▄   ▄█
(APIServer pid=1) INFO 11-23 20:58:55 [api_utils.py:286] non-default args: {'model_tag': '/tmp/m', 'dtype': 'float32'}
(APIServer pid=1) WARNING 11-23 20:58:55 [system_utils.py:255] Found ulimit of 20000 and failed to automatically \
increase with error current limit exceeds maximum limit. This can cause fd limit errors like `OSError: [Errno 24] \
Too many open files`. Consider increasing with ulimit -n
(APIServer pid=1) WARNING 11-23 20:59:03 [cpu.py:224] Triton is not installed. triton-cpu is expected on x86 CPUs.
(EngineCore pid=27) INFO 11-23 20:59:09 [core.py:133] Initializing a V1 LLM engine (v0.32.0+cpu) with config: x
/opt/vllm-source/vllm/triton_utils/dispatcher.py:138: FutureWarning: `torch.distributed.reduce_op` is deprecated
  if hasattr(value, "__dict__"):
get_mempolicy: Operation not permitted
[W1123 20:59:19.029589283 utils.cpp:41] Warning: numa_migrate_pages failed. errno: 1 (function init_cpu_memory_env)
mkdir -p failed for path /home/vllm/.config/matplotlib: [Errno 13] Permission denied: '/home/vllm/.config'
(Worker pid=40) WARNING 11-23 20:59:19 [cpu_worker.py:114] libiomp is not found in LD_PRELOAD.
"""

READY = """\
Loading safetensors checkpoint shards:   0% Completed | 0/1 [00:00<?, ?it/s]\rLoading safetensors checkpoint shards: \
100% Completed | 1/1 [00:00<00:00, 190.01it/s]
(Worker pid=40) INFO 11-23 20:59:19 [default_loader.py:501] Loading weights took 0.01 seconds
(APIServer pid=1) INFO 11-23 20:59:26 [entry.py:140] Starting vLLM server on http://0.0.0.0:8000
INFO:     Started server process [1]
INFO:     Waiting for application startup.
INFO:     Application startup complete.
INFO:     172.17.0.1:46136 - "GET /health HTTP/1.1" 200 OK
INFO:     172.17.0.1:46150 - "POST /v1/completions HTTP/1.1" 200 OK
INFO:     172.17.0.1:46150 - "GET /SyntaxError:%20x HTTP/1.1" 404 Not Found
INFO:     172.17.0.1:50704 - "POST /v1/completions HTTP/1.1" 400 Bad Request
"""

# The engine's end races with the server's own, and is then taken for a death. The run passed.
STOPPED = """\
(APIServer pid=1) INFO 11-23 20:59:29 [launcher.py:254] [shutdown] API server: shutdown triggered
(APIServer pid=1) WARNING 11-23 20:59:29 [utils.py:653] [shutdown] Process manager: force killing remaining process \
EngineCore pid 27
(APIServer pid=1) ERROR 11-23 20:59:29 [async_llm.py:906] AsyncLLM output_handler failed.
(APIServer pid=1) ERROR 11-23 20:59:29 [async_llm.py:906] Traceback (most recent call last):
(APIServer pid=1) ERROR 11-23 20:59:29 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore \
encountered an issue. See stack trace (above) for the root cause.
INFO:     Shutting down
INFO:     Application shutdown complete.
nanobind: leaked 4 instances!
 - leaked function "get_fp8e4b15_ty"
Exception ignored in: <function Library.__del__ at 0x7f>
Traceback (most recent call last):
  File "/usr/lib/python3.12/weakref.py", line 5, in __call__
ImportError: sys.meta_path is None, Python is likely shutting down
"""

# What was in the way at first, and was overcome.
SURVIVED = """\
(APIServer pid=1) ERROR 11-23 18:00:20 [repo_utils.py:127] Error retrieving file list: 429 Client Error: Too Many \
Requests for url: https://huggingface.co/api/models/x, retrying 1 of 2
(EngineCore pid=27) WARNING 11-23 18:00:21 [parallel.py:746] Address already in use. Retrying with a new port.
(EngineCore pid=27) WARNING 11-23 18:00:21 [interface.py:371] Failed to import from vllm._moe_C: \
ImportError('/opt/vllm-source/vllm/_moe_C.abi3.so: undefined symbol: _ZN3c105ErrorC2E')
(APIServer pid=1) ERROR 11-23 18:00:22 [__init__.py:80] Failed to load plugin lora_filesystem_resolver
(APIServer pid=1) ERROR 11-23 18:00:22 [__init__.py:80] ModuleNotFoundError: No module named 'lora_resolver'
2026-11-23 18:00:23,300 - INFO - autotuner.py:256 - flashinfer.jit: [Autotuner]: ImportError: is what it looks for
"""

_FAILED = """\
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "/opt/vllm/bin/vllm", line 10, in <module>
(APIServer pid=1)     sys.exit(main())
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): \
{'EngineCore': 1}
/usr/lib/python3.12/multiprocessing/resource_tracker.py:279: UserWarning: resource_tracker: There appear to be 1 \
leaked shared_memory objects to clean up at shutdown
"""

_OCI = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
)
_HOOK = _OCI + (
    "unable to start container process: error during container init: error running prestart hook #0: exit status 1, "
    "stdout: , stderr: Auto-detected mode as 'legacy'\n"
)

LOGS = {
    "undefined symbol, warned of": Told(
        "undefined-symbol",
        "_ZNK3c1010TensorImpl",
        "(EngineCore pid=77) WARNING 11-23 18:00:20 [interface.py:371] Failed to import from vllm._C: ImportError('"
        "/opt/vllm-source/vllm/_C.abi3.so: undefined symbol: _ZNK3c1010TensorImpl27throw_data_ptr_access_errorEv')\n"
        + _in("EngineCore pid=77", "EngineCore failed to start.\nTraceback (most recent call last):")
        + "\n(EngineCore pid=77) AttributeError: '_OpNamespace' '_C' object has no attribute 'silu_and_mul'\n"
        + _FAILED,
    ),
    "undefined symbol, then a crash": Told(
        "undefined-symbol",
        "_ZN3c105ErrorC2E",
        "WARNING 11-23 18:00:20 [cuda.py:243] Failed to import from vllm._C_stable_libtorch: ImportError('"
        "/opt/vllm-source/vllm/_C_stable_libtorch.abi3.so: undefined symbol: _ZN3c105ErrorC2E')\n",
        139,
    ),
    "missing op": Told(
        "missing-op",
        "init_cpu_memory_env",
        _in(
            "Worker pid=36",
            "WorkerProc failed to start.\nTraceback (most recent call last):\n"
            "AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'",
        )
        + "\n"
        + _FAILED,
    ),
    "missing library of an extension": Told(
        "missing-library",
        "libnuma.so.1",
        _in(
            "APIServer pid=1",
            "Failed to import from vllm._C_AVX2: ImportError('libnuma.so.1: cannot open shared object file: No such "
            "file or directory')",
            level="WARNING",
            at="cpu.py:661",
        )
        + "\n"
        + _in("Worker pid=36", "'_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'")
        + "\n"
        + _FAILED,
    ),
    "tracebacks of two processes in each other": Told(
        "import-error",
        "(/opt/vllm-source/vllm/model_executor/models/llama.py:33)",
        "(Worker_TP0 pid=40) Traceback (most recent call last):\n"
        "(Worker_TP1 pid=41) Traceback (most recent call last):\n"
        '(Worker_TP0 pid=40)   File "/opt/vllm-source/vllm/model_executor/models/llama.py", line 33, in <module>\n'
        '(Worker_TP1 pid=41)   File "/opt/vllm-source/vllm/v1/worker/other.py", line 5, in <module>\n'
        "(Worker_TP0 pid=40) ModuleNotFoundError: No module named 'vllm.attention'\n"
        "(Worker_TP1 pid=41) KeyError: 'x'\n" + _FAILED,
    ),
    "syntax error in colour": Told(
        "syntax-error",
        "SyntaxError: invalid syntax (/opt/vllm-source/vllm/entrypoints/serve/protocol.py:142)",
        "\x1b[0;36m(APIServer pid=1)\x1b[0;0m Traceback (most recent call last):\n"
        '\x1b[0;36m(APIServer pid=1)\x1b[0;0m   File "/opt/vllm-source/vllm/entrypoints/serve/protocol.py", line 142\n'
        "\x1b[0;36m(APIServer pid=1)\x1b[0;0m     def x(:\n"
        "\x1b[0;36m(APIServer pid=1)\x1b[0;0m \x1b[1;31mSyntaxError\x1b[0m: invalid syntax\n",
    ),
    "driver older than the image demands": Told(
        "driver-too-old",
        "cuda>=13.0",
        _HOOK + "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver "
        "to a newer version, or use an earlier cuda container: unknown\n",
    ),
    "driver that torch only warns of": Told(
        "driver-too-old",
        "found version 12020",
        "/opt/vllm/lib/python3.12/site-packages/torch/cuda/__init__.py:182: UserWarning: CUDA initialization: The "
        "NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver\n"
        "  return torch._C._cuda_getDeviceCount() > 0\n"
        "(APIServer pid=1) RuntimeError: Failed to infer device type, please set the environment variable "
        "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging\n",
    ),
    "driver of another branch": Told(
        "driver-too-old",
        "Error 803",
        _in(
            "EngineCore pid=9",
            "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
            "NumCudaDevices() that might have already set an error? Error 803: system has unsupported display driver / "
            "cuda driver combination",
        ),
    ),
    "no toolkit": Told(
        "no-gpu",
        "could not select device driver",
        'could not select device driver "" with capabilities: [[gpu]]',
    ),
    "no device of that name": Told(
        "no-gpu",
        "nvidia.com/gpu=7",
        _OCI + "could not apply required modification to OCI specification: error modifying OCI spec: failed to inject "
        "CDI devices: unresolvable CDI devices nvidia.com/gpu=7: unknown",
    ),
    "no device of that number": Told(
        "no-gpu", "7: unknown device", _HOOK + "nvidia-container-cli: device error: 7: unknown device: unknown"
    ),
    "no driver": Told(
        "no-gpu",
        "libnvidia-ml.so.1",
        _HOOK
        + "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared "
        "object file: no such file or directory: unknown",
    ),
    "no driver inside": Told(
        "no-gpu",
        "libcuda.so.1",
        "WARNING 11-23 18:00:20 [cuda.py:243] Failed to import from vllm._C_stable_libtorch: ImportError('"
        "libcuda.so.1: cannot open shared object file: No such file or directory')\n"
        "RuntimeError: Failed to infer device type, please set the environment variable\n",
    ),
    "GPU in use": Told(
        "gpu-memory",
        "Free memory on device cuda:0",
        _in(
            "EngineCore pid=9",
            "ValueError: Free memory on device cuda:0 (3.25/79.1 GiB) on startup is less than desired GPU memory "
            "utilization (0.1, 7.9 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
        )
        + "\n"
        + _FAILED,
    ),
    "GPU too small": Told(
        "gpu-memory",
        "CUDA out of memory",
        _in("EngineCore pid=9", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a")
        + "\n"
        + _FAILED,
    ),
    "engine's process killed": Told(
        "host-memory",
        "Failed core proc(s): {'EngineCore': -9}",
        "(APIServer pid=1) Traceback (most recent call last):\n"
        "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
        "{'EngineCore': -9}\n",
    ),
    "server killed": Told("host-memory", "Initializing a V1", START.partition("/opt/")[0], 137),
    "server killed, as Python has it": Told("host-memory", "Loading", "Loading weights", -9),
    "no memory for the cache": Told(
        "host-memory",
        "DefaultCPUAllocator",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 17179869184 bytes. Error code 12 (Cannot allocate memory)\n" + _FAILED,
    ),
    "shm": Told(
        "shm",
        "nccl-aBcDeF",
        "RuntimeError: NCCL error: Error while creating shared memory segment /dev/shm/nccl-aBcDeF (size 33030528), "
        "error: No space left on device (28)\n" + _FAILED,
    ),
    "shm of vLLM's queues": Told(
        "shm",
        "67108864",
        "RuntimeError: Insufficient space in /dev/shm for ring buffer: 167772160 bytes needed, 67108864 free.\n"
        + _FAILED,
    ),
    "port inside": Told("port", "[Errno 98]", "(APIServer pid=1) OSError: [Errno 98] Address already in use\n"),
    "port outside": Told(
        "port",
        "port is already allocated",
        "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:8000 failed: port is "
        "already allocated",
    ),
    "hub out of reach": Told(
        "hub",
        "LocalEntryNotFoundError",
        "(APIServer pid=1) httpx.ConnectError: [Errno -3] Temporary failure in name resolution\n"
        "(APIServer pid=1) The above exception was the direct cause of the following exception:\n"
        "(APIServer pid=1) huggingface_hub.errors.LocalEntryNotFoundError: An error happened while trying to locate "
        "the file on the Hub and we cannot find the requested files in the local cache.\n"
        "(APIServer pid=1) OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't "
        "find them in the cached files.\n",
    ),
    "hub offline": Told(
        "hub",
        "offline mode is enabled",
        "(APIServer pid=1) huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach "
        "https://huggingface.co/api/models/x: "
        "offline mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.\n",
    ),
    "hub limit": Told(
        "hub",
        "429 Client Error",
        "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: "
        "https://huggingface.co/api/models/x\n",
    ),
    "cache of another user": Told(
        "permission",
        "torch_compile_cache",
        _in(
            "EngineCore pid=9",
            "PermissionError: [Errno 13] Permission denied: '/home/vllm/.cache/vllm/torch_compile_cache'",
        )
        + "\n"
        + _FAILED,
    ),
    "user without a name": Told(
        "permission",
        "uid not found: 1234567",
        _in(
            "EngineCore pid=9",
            """\
Traceback (most recent call last):
  File "/usr/lib/python3.13/getpass.py", line 173, in getuser
    return pwd.getpwuid(os.getuid())[0]
KeyError: 'getpwuid(): uid not found: 1234567'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/opt/vllm-source/vllm/config/vllm.py", line 871, in _get_tmp_dir
    tmp_dir = os.path.join(tmp_dir, getpass.getuser())
OSError: No username set in the environment""",
        )
        + "\n"
        + _FAILED,
    ),
    "entry point that may not be run": Told(
        "permission",
        "permission denied",
        _OCI + 'unable to start container process: exec: "/opt/vllm/bin/vllm": permission denied: unknown',
    ),
    "disk": Told(
        "disk", "[Errno 28]", "OSError: [Errno 28] No space left on device: '/home/vllm/.cache/vllm'\n" + _FAILED
    ),
    "no vLLM": Told(
        "entrypoint",
        "executable file not found",
        _OCI + 'unable to start container process: exec: "vllm": executable file not found in $PATH: unknown',
        127,
    ),
    "shell that finds nothing": Told("entrypoint", "libiomp", START, 127),
    "arguments": Told(
        "bad-arguments",
        "unrecognized arguments",
        "usage: vllm serve [model_tag] [options]\nvllm serve: error: unrecognized arguments: --enforce-eager\n",
        2,
    ),
    "engine died without a word": Told(
        "engine-died",
        "Engine core initialization failed",
        START + _FAILED.replace("'EngineCore': 1", "'EngineCore': -11"),
    ),
    "engine died of what nobody knows": Told(
        "engine-died",
        "RuntimeError: Boolean value of Tensor",
        _in(
            "Worker pid=36",
            "WorkerProc hit an exception.\nTraceback (most recent call last):\n"
            "RuntimeError: Boolean value of Tensor with more than one value is ambiguous",
        )
        + "\n"
        + _in("EngineCore pid=24", "EngineCore encountered a fatal error.")
        + "\n",
    ),
    "crash": Told("engine-died", "libiomp", START, 139),
    "engine too slow": Told(
        "timeout",
        "Timed out waiting",
        START + "(APIServer pid=1) TimeoutError: Timed out waiting for engine core processes to start. This is often "
        "caused by slow weight loading for large models.\n",
    ),
    "died of something new after all was well": Told(
        "unknown", "ZeroDivisionError", SURVIVED + READY + "(APIServer pid=1) ZeroDivisionError: division by zero\n"
    ),
    "what was tried again is no cause": Told(
        "import-error", "vllm.attention", SURVIVED.splitlines()[0] + "\nImportError: No module named 'vllm.attention'\n"
    ),
    "Python's last words are no cause": Told(
        "unknown", "RuntimeError: this", "RuntimeError: this\n" + STOPPED.partition('ty"\n')[2]
    ),
}

WELL = {
    "started": START + READY,
    "stopped": START + READY + STOPPED,
    "survived": START + SURVIVED + READY + STOPPED,
    "in colour": "".join(f"\x1b[0;36m{line}\x1b[0;0m\n" for line in (START + SURVIVED + READY + STOPPED).splitlines()),
}
