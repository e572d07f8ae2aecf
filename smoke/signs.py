"""The texts that give a cause away, one row a text.

They are those of vLLM 0.31 to 0.33, PyTorch, Docker, the NVIDIA container toolkit and huggingface_hub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A text that gives a cause away.

    Attributes:
        cause: The cause.
        pattern: Looked for in each line.
        advice: What to do about it.
        image_at_fault: Whether the image is to blame.
        as_warning: Whether a mere warning of it, after which the server goes on, explains what it dies of later.
        consequence: Whether it follows from another cause, which wins wherever it stands.
    """

    cause: str
    pattern: re.Pattern[str]
    advice: str
    image_at_fault: bool
    as_warning: bool
    consequence: bool


def _sign(
    cause: str,
    pattern: str,
    advice: str,
    *,
    image_at_fault: bool = True,
    as_warning: bool = False,
    consequence: bool = False,
) -> Sign:
    return Sign(
        cause=cause,
        pattern=re.compile(pattern),
        advice=advice,
        image_at_fault=image_at_fault,
        as_warning=as_warning,
        consequence=consequence,
    )


_GPU_MEMORY = "free memory on the GPU (`nvidia-smi` names who holds it) or choose another one, then test again"
_NO_GPU = "check that `nvidia-smi` works on the engine's machine and that the NVIDIA container toolkit is set up"
_REBUILD = "build the image on a base whose binaries were compiled from equal sources"
_PORT = "end what holds the port, then test again"
_PERMISSION = "make the named file or folder usable for the image's user and group 0"
_MEMORY = "free memory on the engine's machine, then test again"

EXPLAINED = ("missing-op", "missing-library", "undefined-symbol", "import-error", "no-gpu")
"""Causes that an earlier warning explains: binaries that did not load are missed later."""

# Of several signs in one line the first here wins: put the narrow before the wide.
SIGNS = (
    _sign(
        "driver-too-old",
        # cudart and the driver API (cudaErrorInsufficientDriver 35, 803, 804, 222), PyTorch's words for them, and
        # libnvidia-container, src/cli/common.c: the image's NVIDIA_REQUIRE_CUDA is not met.
        r"NVIDIA driver on your system is too old|unsupported display driver|CUDA driver version is insufficient"
        r"|forward compatibility was attempted on non supported HW|compiled with an unsupported toolchain"
        r"|nvidia-container-cli: requirement error|unsatisfied condition: (?:cuda|driver)"
        r"|This container was built for NVIDIA Driver Release",
        "update the NVIDIA driver of the engine's machine, or test on one with a newer driver",
        image_at_fault=False,
        as_warning=True,
    ),
    _sign(
        "no-gpu",
        r"lib(?:cuda|nvidia-ml|nvidia-[\w-]+)\.so[.\d]*: cannot open|Driver/library version mismatch",
        _NO_GPU,
        image_at_fault=False,
        as_warning=True,
    ),
    _sign(
        "no-gpu",
        r"could not select device driver|unresolvable CDI devices|unknown or invalid runtime name: nvidia"
        r"|no CUDA-capable device is detected|No CUDA GPUs are available|CUDA error: invalid device ordinal"
        r"|nvidia-container-cli: (?:initialization|device|mount|detection) error|[Ff]ailed to initialize NVML"
        r"|NVML Shared Library Not Found|No supported GPU\(s\) detected"
        r"|CUDA-capable device\(s\) is/are busy or unavailable",
        _NO_GPU,
        image_at_fault=False,
    ),
    _sign(
        "no-gpu",
        r"Failed to infer device type|Torch not compiled with CUDA enabled",
        "compare the image's flavor with its torch and with the version of its distribution `vllm` (`+cpu`)",
    ),
    _sign(
        "gpu-memory",
        r"Free memory on device .* is less than|CUDA out of memory|CUDA error: out of memory"
        r"|CUDA_ERROR_OUT_OF_MEMORY|CUBLAS_STATUS_ALLOC_FAILED|Cuda failure 2 'out of memory'"
        r"|torch\.(?:cuda\.)?OutOfMemoryError|No available memory for the cache blocks",
        _GPU_MEMORY,
        image_at_fault=False,
    ),
    _sign(
        "shm",
        r"Insufficient space in /dev/shm|/dev/shm.*No space left on device|No space left on device.*/dev/shm"
        r"|insufficient shared memory \(shm\)",
        "give the container more shared memory (`--shm-size` or `--ipc=host`)",
        image_at_fault=False,
    ),
    _sign(
        "disk",
        r"[Nn]o space left on device|Disk quota exceeded",
        "free disk where the engine keeps its data (`docker system df`), then test again",
        image_at_fault=False,
    ),
    _sign(
        "host-memory",
        r"[Cc]annot allocate memory|can't allocate memory|std::bad_alloc|\bMemoryError\b"
        r"|is less than desired CPU memory utilization",
        _MEMORY,
        image_at_fault=False,
    ),
    _sign("port", r"port is already allocated|failed to bind host port", _PORT, image_at_fault=False),
    _sign("port", r"\[Errno 98\]|[Aa]ddress already in use", _PORT),
    _sign(
        "hub",
        r"429 Client Error|[45]\d\d (?:Client|Server) Error.*huggingface\.co|couldn't connect to 'https?://"
        r"|huggingface\.co.*Max retries exceeded|Max retries exceeded.*huggingface\.co"
        r"|Cannot reach https?://\S*: offline mode is enabled"
        r"|\b(?:LocalEntryNotFound|OfflineModeIsEnabled|GatedRepo|RepositoryNotFound|HfHubHTTP)(?:Error)?\b",
        "use a model folder on disk (`--model`), or wait until the hub answers again",
        image_at_fault=False,
    ),
    _sign("undefined-symbol", r"undefined symbol", _REBUILD, as_warning=True),
    _sign(
        "missing-library",
        r"cannot open shared object file|error while loading shared libraries|version `\w+_[\w.]+' not found",
        "add the library to the base image: `ldd` on the named file shows what it lacks",
        as_warning=True,
    ),
    _sign(
        "missing-op",
        r"'_OpNamespace' '\w+' object has no attribute|\bno such operator\b|Could not run '\w+::\w+' with"
        r"|operator \w+::\w+ does not exist",
        _REBUILD,
    ),
    _sign(
        "syntax-error",
        r"\b(?:SyntaxError|IndentationError|TabError): ",
        "correct the named file and build the image again",
    ),
    _sign(
        "import-error",
        r"\b(?:ModuleNotFoundError|ImportError): ",
        "look for a file that was deleted or renamed, and for a dependency that the base does not have",
    ),
    _sign("permission", r"PermissionError: |[Pp]ermission denied|Read-only file system", _PERMISSION),
    _sign(
        "permission",
        r"getpwuid\(\): uid not found",  # pwd and getpass of CPython 3.11 to 3.14
        "set HOME and USER in the image: an arbitrary user has no entry in /etc/passwd",
    ),
    _sign(
        "bad-arguments",
        r"\berror: (?:unrecognized arguments|argument |the following arguments|ambiguous option|invalid choice)",
        "compare the options that the suite gives (`docker inspect` shows them) with the server's `--help`",
    ),
    _sign(
        "entrypoint",
        r"executable file not found|[Ee]xec format error|exec: .*no such file or directory|command not found",
        "check the image's entry point and that `vllm` is on its PATH",
    ),
    _sign(
        "timeout",
        r"Timed out waiting for engine core processes to start",
        "read the log from its start: what the engine's processes did last is what they hang in",
        consequence=True,
    ),
    _sign(
        # SIGKILL, which the kernel sends for memory (vllm/v1/executor/multiproc_executor.py, vllm/v1/engine/utils.py).
        "host-memory",
        r"died unexpectedly \(exit code: -9\)|Failed core proc\(s\): \{[^}]*: -9\b",
        "free memory on the engine's machine: a process of the server was killed, most likely for memory",
        image_at_fault=False,
        consequence=True,
    ),
    _sign(
        "engine-died",
        r"Engine core initialization failed|EngineDeadError|EngineCore encountered|EngineCore failed to start"
        r"|[Ee]ngine ?[Cc]ore.* died|WorkerProc initialization failed|died unexpectedly \(exit code",
        "read the log around the named line: the engine's own process says there why it ended",
        consequence=True,
    ),
)
