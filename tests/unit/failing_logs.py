"""Logs of failed servers by kind, and who is to blame for each: what to look for when a rule of the diagnosis changes.

For every fault of the machine there is one of the image that looks like it. Those in ``logs`` are as they were
reported, shortened; the others are made of the same parts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Found(NamedTuple):
    """What must be found in a log.

    Attributes:
        cause: The cause; any if empty.
        shown: Part of the line that must be shown.
        at_fault: Whether the image is to blame.
        exit_code: How the server ended.
    """

    cause: str
    shown: str
    at_fault: bool
    exit_code: int = 1


class Failure(NamedTuple):
    """A log and what must be found in it."""

    log: str
    found: Found


def text_of(name: str) -> str:
    """A log of the folder ``logs``."""
    return (Path(__file__).parent / "logs" / f"{name}.log").read_bytes().decode()


AS_REPORTED = {
    # real vLLM 0.32.0, scheduler reads an option that does not exist.
    "real-scheduler-commit": Found("engine-died", "no_such_option", at_fault=True),
    # vllm#49497, flashinfer#1919.
    "nvcc-missing": Found("missing-compiler", "Could not find nvcc", at_fault=True),
    # vllm#14452, gpustack#2097.
    "no-kernel-image": Found("gpu-unsupported", "no kernel image", at_fault=True),
    # vllm#18956, #21858.
    "compile-cache-corrupt": Found("compile-cache", "corrupted compilation artifact", at_fault=True),
    # vllm#18322, LMCache#605.
    "nixl-backend": Found("nixl", "NIXL_ERR_BACKEND", at_fault=True),
    # vllm#36802, #12498.
    "triton-smem": Found("gpu-unsupported", "OutOfResources", at_fault=True),
    # vllm#27508, intel-arc-cookbook#4.
    "kv-cache-needed": Found("gpu-memory", "KV cache is needed", at_fault=False),
    # MiniMax-M2.5#9, huggingface_hub#4134.
    "error-802": Found("no-gpu", "802", at_fault=False),
    # vllm#5222, verl#407.
    "ecc": Found("gpu-fault", "ECC", at_fault=False),
    # vllm#1157, substratusai/vllm-docker#37.
    "bf16-capability": Found("gpu-unsupported", "Bfloat16", at_fault=False),
    # vllm#5645.
    "std-system-error": Found("limits", "Resource temporarily unavailable", at_fault=False, exit_code=134),
    # Errno 24.
    "too-many-files": Found("limits", "Errno 24", at_fault=False),
    # real vLLM 0.32.0, model folder not mounted.
    "real-badpath": Found("model", "Repo id", at_fault=False),
    # gpustack#815, Qwen3-VL#264.
    "safetensors-incomplete": Found("model", "SafetensorError", at_fault=False),
    # fireshare#689 (Docker 29).
    "cdi-vendor": Found("no-gpu", "GPU vendor", at_fault=False, exit_code=125),
    # nvidia-docker#1447, #1660.
    "nvct-cgroup": Found("no-gpu", "cgroup subsystem", at_fault=False, exit_code=128),
    # docker text (--device).
    "device-node-missing": Found("no-gpu", "/dev/nvidia-uvm", at_fault=False, exit_code=125),
    # vllm#22054, #16652 (docker compose).
    "prefix-compose": Found("gpu-memory", "CUDA out of memory", at_fault=False),
    # scope#84, huggingface_hub#1719 (--timestamps).
    "prefix-timestamps": Found("gpu-memory", "CUDA out of memory", at_fault=False),
    # kubectl logs --prefix.
    "prefix-kubectl": Found("gpu-memory", "CUDA out of memory", at_fault=False),
    # docker compose, INFO line.
    "prefix-compose-info": Found("unknown", "the reason", at_fault=True),
    # vllm#10626.
    "nccl-info-plugin": Found("shm", "shm/nccl-AbCdEf", at_fault=False),
    # llm-d#1430, llm-d#1450 (thread is not fatal).
    "usage-thread-then-other": Found("gpu-memory", "CUDA out of memory", at_fault=False),
    # vllm#22054.
    "pydantic-modelconfig": Found("unsupported-model", "Value error, Model architectures", at_fault=True),
    # real vLLM 0.32.0, --max-model-len 100000.
    "real-maxlen": Found("bad-arguments", "max_model_len (100000)", at_fault=False),
    # vllm#27430, club-3090#758 (other rank follows).
    "two-ranks-gloo": Found("engine-died", "unexpected keyword argument", at_fault=True),
    # vllm#12219.
    "arch-inspect-chain": Found("unknown", "NameError", at_fault=True),
    # vllm#36634.
    "capture-invalid-after-oom-note": Found(
        "engine-died", "operation not permitted when stream is capturing", at_fault=True
    ),
    # QwenLM/Qwen3-Coder#461.
    "worker-outofresources": Found("gpu-unsupported", "OutOfResources", at_fault=True),
    # PaddleSeg#3215 (ld.so text).
    "relocation-error": Found("undefined-symbol", "relocation error", at_fault=True, exit_code=127),
    # ChatGLM-6B#921, deepmd-kit#2241 (glibc text).
    "link-time-reference": Found("undefined-symbol", "link time reference", at_fault=True),
    # vllm#21960, #36077.
    "nvcc-sh-notfound": Found("missing-compiler", "nvcc: not found", at_fault=True),
    # vllm#30392, sglang#1117, scope#84.
    "python-h": Found("missing-compiler", "Python.h", at_fault=True),
    # MiniMax-01#42.
    "nccl-shm-dist": Found("shm", "shm/nccl-AbCdEf", at_fault=False),
    # vllm#1091.
    "ray-oom-sigkill": Found("shm", "Bus error", at_fault=False),
    # real vLLM 0.32.0, SIGTERM to EngineCore.
    "real-sigterm-engine": Found("terminated", "SIGTERM", at_fault=False, exit_code=0),
    # vllm#17386, #18163.
    "sigterm-startup": Found("terminated", "KeyboardInterrupt: terminated", at_fault=False, exit_code=143),
}


def recorded(process: str, text: str, *, at: str = "core.py:1584", level: str = "ERROR") -> str:
    """Lines as vLLM's logger prints them."""
    head = f"({process}) " if process else ""
    return "".join(f"{head}{level} 11-25 10:00:00 [{at}] {line}\n" for line in text.split("\n"))


def printed(process: str, text: str) -> str:
    """Lines as Python prints them in a process that vLLM named."""
    return "".join(f"({process}) {line}\n" for line in text.split("\n"))


TRACEBACK = """\
Traceback (most recent call last):
  File "/opt/vllm-source/vllm/v1/engine/core.py", line 1482, in run_engine_core
    engine_core = EngineCoreProc(*args, **kwargs)
"""
GAVE_UP = printed(
    "APIServer pid=1",
    TRACEBACK + "RuntimeError: Engine core initialization failed. See root cause above. "
    "Failed core proc(s): {'EngineCore': 1}",
)
WORKERS_FAILED = (
    recorded(
        "EngineCore pid=2",
        f"EngineCore failed to start.\n{TRACEBACK}Exception: WorkerProc initialization failed due to an exception in "
        "a background process. See stack trace for root cause.",
    )
    + GAVE_UP
)


def engine_failed(exception: str) -> str:
    """The log of a server whose engine did not start: the logger's report, Python's own, the end (vLLM 0.33.0)."""
    report = recorded("EngineCore pid=27", f"EngineCore failed to start.\n{TRACEBACK}{exception}")
    return report + printed("EngineCore pid=27", f"Process EngineCore:\n{TRACEBACK}{exception}") + GAVE_UP


def worker_failed(process: str, exception: str) -> str:
    """What a worker says that does not start."""
    return recorded(process, f"WorkerProc failed to start.\n{TRACEBACK}{exception}", at="multiproc_executor.py:1057")


# What the engine died of, and which part of it must be shown.
OF_THE_MACHINE = {
    "ValueError: To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (9.1 GiB). Try increasing `gpu_memory_utilization` (which also "
    "controls CPU memory on the CPU backend) or decreasing `max_model_len`": "KV cache is needed",
    "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be stored in KV "
    "cache (19200). Try increasing `gpu_memory_utilization`": "max seq len",
    "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available to serve even one token": "auto-fit",
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`": "No available",
    "AssertionError: Error in memory profiling. Initial free memory 3.1 GiB, current free memory 5.2 GiB": "profiling",
    "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than the engine's budget after "
    "excluding external process's weights": "Free memory",
    "RuntimeError: CUDA driver error: out of memory": "out of memory",
    "RuntimeError: Triton Error [CUDA]: out of memory": "out of memory",
    "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered\nSearch for "
    "`cudaErrorECCUncorrectable' in https://docs.nvidia.com": "CUDA error: uncorrectable ECC",
    "torch.AcceleratorError: CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error": "nvlink",
    "pynvml.NVMLError_GpuIsLost: GPU is lost": "GPU is lost",
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
    "NumCudaDevices() that might have already set an error? Error 999: unknown error": "Error 999",
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 101: invalid device ordinal": "Error 101",
    "torch.AcceleratorError: CUDA error: invalid device ordinal": "ordinal",
    "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU": "no NVIDIA driver",
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda "
    "driver combination": "803",
    "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. Current "
    "capability: 80.": "Minimum capability",
    "ValueError: Stochastic rounding for Mamba cache with triton backend requires compute capability 10.0 (data center "
    "Blackwell). The `cvt.rs` PTX instruction is not supported on your GPU.": "compute capability",
    "RuntimeError: torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9, or ROCm "
    "MI300+": "_scaled_mm",
    "RuntimeError: FlashAttention only supports Ampere GPUs or newer.": "Ampere",
    "RuntimeError: [SymmDeviceMemory] Device does not support multicasting.": "multicasting",
    "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).": "divisible",
    "ValueError: type fp8e4nv not supported in this architecture. The supported fp8 dtypes are ('fp8e5',)": "fp8e4nv",
    "RuntimeError: can't start new thread": "new thread",
    "BlockingIOError: [Errno 11] Resource temporarily unavailable": "Errno 11",
    "OSError: [Errno 23] Too many open files in system: '/dev/shm/x'": "Errno 23",
    "_pickle.UnpicklingError: invalid load key, 'v'.": "invalid load key",
    "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge": "HeaderTooLarge",
    "safetensors_rust.SafetensorError: Error while deserializing header: invalid JSON in header: EOF": "invalid JSON",
    "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory": "zip archive",
    "RuntimeError: Cannot find any model weights with `/models/x`": "Cannot find any",
    "FileNotFoundError: [Errno 2] No such file or directory: '/models/x/model-00002-of-00004.safetensors'": "00002",
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 12.0 GiB for an array": "Unable to allocate",
    "MemoryError": "MemoryError",
    "OSError: [Errno 28] No space left on device: '/psm_3f1b9c2e'": "psm_",
    "OSError: [Errno 28] No space left on device: '/home/vllm/.cache/vllm/torch_compile_cache'": "Errno 28",
    "OSError: [Errno 122] Disk quota exceeded: '/home/vllm/.cache'": "quota",
    "PermissionError: [Errno 13] Permission denied: '/dev/nvidia0'": "nvidia0",
    "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co": "429",
    "OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/x.\n"
    "401 Client Error. (Request ID: Root=1)": "gated repo",
    "OSError: /models/foo is not a local folder and is not a valid model identifier listed on "
    "'https://huggingface.co/models'": "valid model identifier",
    "ValueError: Invalid repository ID or local directory specified: '/models/foo'.\nPlease verify the following "
    "requirements:\n1. Provide a valid Hugging Face repository ID.": "Invalid repository ID",
    "ValueError: World size (8) is larger than the number of available GPUs (4) in this node. If this "
    "is intentional and you are using:": "available GPUs",
    "ValueError: The number of required GPUs exceeds the total number of available GPUs in the "
    "placement group.": "available GPUs",
    "ValueError: Available memory on node 0 (1.1/15.6 GiB) on kv cache allocation is less than "
    "requested memory for kv (4.0 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or "
    "reduce CPU memory used by other processes.": "requested memory",
    "ValueError: The worker already uses 3.10 GiB (model weights and runtime), more than the 1.5 GiB "
    "of CPU memory reserved for it on node 0, leaving none for the KV cache. On the CPU backend": "leaving none",
    "RuntimeError: unable to mmap 4966157032 bytes from file </models/x/model-00001.safetensors>: "
    "Cannot allocate memory (12)": "mmap",
    "OSError: [Errno 12] Cannot allocate memory": "Errno 12",
    "RuntimeError: ibv_reg_mr failed: Cannot allocate memory": "Cannot allocate",
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": "ALLOC_FAILED",
    "pynvml.NVMLError_DriverNotLoaded: Driver Not Loaded": "Driver Not Loaded",
    "vllm.third_party.pynvml.NVMLError_LibraryNotFound: NVML Shared Library Not Found": "Library Not Found",
    "RuntimeError: Failed to initialize NVML: Driver/library version mismatch": "mismatch",
    "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable": "busy",
    "RuntimeError: No CUDA GPUs are available": "No CUDA GPUs",
    "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version": "insufficient",
    "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain.": "PTX",
    "requests.exceptions.ConnectionError: (MaxRetryError(\"HTTPSConnectionPool(host='huggingface.co', "
    "port=443): Max retries exceeded with url: /x (Caused by NameResolutionError(...))\"), '(Request "
    "ID: x)')": "huggingface.co",
    "requests.exceptions.ReadTimeout: (ReadTimeoutError(\"HTTPSConnectionPool(host='huggingface.co', "
    "port=443): Read timed out. (read timeout=10)\"), '(Request ID: x)')": "Read timed out",
    "huggingface_hub.errors.HfHubHTTPError: 503 Server Error: Service Temporarily Unavailable for url: "
    "https://huggingface.co/api/models/x": "503",
    "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1)\n\n"
    "Repository Not Found for url: https://huggingface.co/api/models/foo/bar.": "404",
    "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: x)": "403",
    "huggingface_hub.errors.EntryNotFoundError: 404 Client Error. Entry Not Found for url: "
    "https://huggingface.co/x/resolve/main/config.json.": "404",
    "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder "
    "for the specified revision on the local disk": "snapshot folder",
    "huggingface_hub.errors.HFValidationError: Repo id must use alphanumeric chars, '-', '_' or '.'. "
    "The name cannot start or end with '-' or '.': '/models/x'.": "Repo id",
    "requests.exceptions.SSLError: (MaxRetryError(\"HTTPSConnectionPool(host='huggingface.co', "
    "port=443): Max retries exceeded with url\"), 'x')": "SSLError",
    "httpx.ConnectError: [Errno -3] Temporary failure in name resolution\n\nThe above exception was "
    "the direct cause of the following exception:\n\nTraceback (most recent call last):\n  File "
    "\"/x.py\", line 1, in f\n    raise x\nOSError: We couldn't connect to 'https://huggingface.co' "
    "to load the files": "couldn't connect",
    "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not "
    "fully covered": "incomplete metadata",
    "OSError: Can't load tokenizer for '/models/x'. If you were trying to load it from "
    "'https://huggingface.co/models', make sure": "load tokenizer",
    "ValueError: Unrecognized model in /models/x. Should have a `model_type` key in its config.json": "Unrecognized",
    "OSError: /models/x does not appear to have a file named config.json. Checkout": "config.json",
    "FileNotFoundError: [Errno 2] No such file or directory: '/models/x/config.json'": "config.json",
    "OSError: [Errno 116] Stale file handle: '/models/x/model-00001-of-00004.safetensors'": "Stale",
    "OSError: [Errno 5] Input/output error: '/models/x/model-00001-of-00004.safetensors'": "Input/output",
    "RuntimeError: Failed to open /dev/infiniband/uverbs0: Permission denied": "infiniband",
    "torch.distributed.DistBackendError: NCCL error in: ../x.cpp:1, unhandled cuda error (run with "
    "NCCL_DEBUG=INFO for details), NCCL version 2.27\nncclUnhandledCudaError: Call to CUDA function "
    "failed.\nLast error:\nCuda failure 'CUDA driver version is insufficient for CUDA runtime version'": "insufficient",
    "torch.AcceleratorError: CUDA error: peer access is not supported between these two devices": "peer access",
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='openaipublic.blob.core.windows.net', port=443): "
    "Max retries exceeded with url: /encodings/o200k_base.tiktoken": "openaipublic",
    "zmq.error.ZMQError: Cannot assign requested address (addr='tcp://10.0.0.1:5600')": "Cannot assign",
    "RuntimeError: Gloo connectFullMesh failed with [../gloo/transport/tcp/pair.cc:144] no error": "connectFullMesh",
    "RuntimeError: [enforce fail at gloo/tcp/device.cc:83] ifa != nullptr. Unable to find address for: eth0": (
        "Unable to find address"
    ),
    "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to connect to "
    "(10.0.0.1, 29500).": "client socket",
    "ValueError: Cannot provide a placement group of placement_group_specs=[{'GPU': 1.0}] within 1800 seconds.": (
        "placement group"
    ),
}
OF_THE_IMAGE = {
    "requests.exceptions.ConnectionError: HTTPConnectionPool(host='localhost', port=8001): Max retries exceeded with "
    "url: /x": "localhost",
    "AttributeError: 'SchedulerConfig' object has no attribute 'x'": "has no attribute 'x'",
    "ValueError: too many values to unpack (expected 2)": "too many values",
    "ValueError: KV cache layout BLHNC cannot express this model's mixed page sizes ([1, 2])": "cannot express",
    "AssertionError": "AssertionError",
    "ModuleNotFoundError: No module named 'vllm.v1.core.kv_cache_planning'": "kv_cache_planning",
    "torch.AcceleratorError: CUDA error: invalid device function\nCUDA kernel errors might be asynchronously reported "
    "at some other API call, so the stacktrace below might be incorrect.": "invalid device function",
    "torch.AcceleratorError: CUDA error: an illegal memory access was encountered": "illegal memory access",
    "torch.AcceleratorError: CUDA error: device-side assert triggered": "device-side assert",
    "ImportError: /lib/x86_64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS block": "static TLS",
    "zmq.error.Again: Resource temporarily unavailable": "Again",
    "ImportError: cannot import name 'HfHubHTTPError' from 'huggingface_hub.errors' (/x.py)": "cannot import name",
    "NameError: name 'HFValidationError' is not defined": "HFValidationError",
    "AttributeError: module 'torch' has no attribute 'OutOfMemoryError'": "has no attribute",
    "TypeError: get_device_capability() missing 1 required positional argument: 'x'": "get_device_capability",
    "FileNotFoundError: [Errno 2] No such file or directory: '/opt/vllm-source/vllm/template.jinja'": "template.jinja",
    "ValueError: There is no module or parameter named 'lm_head2' in LlamaForCausalLM": "lm_head2",
    "KeyError: 'layers.0.self_attn.qkv_proj.weight_scale'": "weight_scale",
    "RuntimeError: Failed to find C compiler. Please specify via CC environment variable": "C compiler",
    "TypeError: inner() got an unexpected keyword argument 'q'\n\nThe above exception was the direct cause of the "
    'following exception:\n\nTraceback (most recent call last):\n  File "/x.py", line 3, in f\n    raise RuntimeError '
    "from e\nRuntimeError: vLLM failed to compile the model. The most likely reason for this is that a previous "
    "compilation failed, leading to a corrupted compilation artifact.": "unexpected keyword",
    "torch._inductor.exc.InductorError: AssertionError: buf0 not in scope\n\nSet TORCHDYNAMO_VERBOSE=1 "
    "for the internal stack trace": "InductorError",
    "torch._dynamo.exc.Unsupported: Attempted to call function marked as skipped\n  Explanation: "
    "Dynamo does not know": "Unsupported: Attempted",
    "torch._dynamo.exc.BackendCompilerFailed: backend='<vllm.compilation.backends.VllmBackend object "
    "at 0x7f>' raised:\nAssertionError: VllmBackend can only be called once": "BackendCompilerFailed",
    "StopIteration": "StopIteration",
    "_queue.Empty": "_queue.Empty",
    "RuntimeError: FlashInfer requires the cubin package": "cubin",
    "RuntimeError: Error Internal": "Error Internal",
    "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)": "JSONDecodeError",
    "FileNotFoundError: [Errno 2] No such file or directory: "
    "'/opt/vllm-source/vllm/model_executor/layers/x.so'": "x.so",
    "FileNotFoundError: [Errno 2] No such file or directory: "
    "'/opt/vllm-source/vllm/model_executor/layers/fused_moe/configs/E=8.json'": "E=8.json",
    "AttributeError: module 'torch._C' has no attribute '_cuda_getDeviceCount'": "_cuda_getDeviceCount",
    "ValueError: gpu_memory_utilization must be in (0, 1]": "must be in",
    "ImportError: cannot import name 'PermissionDenied' from 'vllm.exceptions' "
    "(/opt/vllm-source/vllm/exceptions.py)": "PermissionDenied",
    "torch.AcceleratorError: CUDA error: device kernel image is invalid": "kernel image is invalid",
    "KeyError: 'rope_theta'\n\nDuring handling of the above exception, another exception occurred:\n\n"
    'Traceback (most recent call last):\n  File "/x.py", line 1, in f\n    z\nAttributeError: '
    "'LlamaConfig' object has no attribute 'rope_theta'": "KeyError: 'rope_theta'",
    "ZeroDivisionError: division by zero\n\nThe above exception was the direct cause of the following "
    'exception:\n\nTraceback (most recent call last):\n  File "/x.py", line 1, in f\n    z\n'
    "RuntimeError: a\n\nThe above exception was the direct cause of the following exception:\n\n"
    'Traceback (most recent call last):\n  File "/x.py", line 1, in f\n    z\nRuntimeError: b': "ZeroDivisionError",
    "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'": "ninja",
}

_REFUSED = (
    "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime "
    "create failed: runc create failed: unable to start container process: "
)
_HOOK = _REFUSED + (
    "error during container init: error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode "
    "as 'legacy'\n"
)
# What an engine says instead of starting a container: part of the line, whether the image is to blame, exit code.
REFUSALS = {
    f"{_HOOK}nvidia-container-cli: detection error: nvml error: unknown error: unknown": ("nvml error", False, 125),
    f"{_HOOK}nvidia-container-cli: initialization error: driver rpc error: failed to process": ("rpc", False, 125),
    f"{_HOOK}nvidia-container-cli: ldcache error: open failed: /sbin/ldconfig.real: no such": ("ldcache", False, 125),
    f"{_HOOK}nvidia-container-cli: mount error: file creation failed: /var/lib/docker/overlay2/abc/merged/usr/lib/"
    "x86_64-linux-gnu/libnvidia-ml.so.1: file exists: unknown": ("file exists", True, 125),
    "docker: Error response from daemon: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all": (
        "CDI",
        False,
        125,
    ),
    "Error: failed to create containerd task: failed to create shim task: OCI runtime create failed: could not apply "
    "required modification to OCI specification: error modifying OCI spec: failed to inject CDI devices: unresolvable "
    "CDI devices management.nvidia.com/gpu=GPU-e78e68c0": ("CDI", False, 128),
    "Error: OCI runtime error: crun: error stat'ing file `/dev/nvidia0`: No such file or directory": (
        "/dev/nvidia0",
        False,
        126,
    ),
    "Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all": ("CDI", False, 126),
    "Error: stat /dev/nvidia-modeset: no such file or directory": ("nvidia-modeset", False, 125),
    "docker: Error response from daemon: unknown or invalid runtime name: nvidia": ("runtime name", False, 125),
    "docker: Error response from daemon: OCI runtime create failed: unable to retrieve OCI runtime error (open "
    '/run/containerd/x/log.json: no such file or directory): exec: "nvidia-container-runtime": executable file not '
    "found in $PATH: <nil>: unknown": ("nvidia-container-runtime", False, 125),
    f"{_REFUSED}unable to apply cgroup configuration: failed to write 512: write /sys/fs/cgroup/docker/x/pids.max: no "
    "such file or directory: unknown": ("cgroup", False, 125),
    "docker: Error response from daemon: cgroups: cgroup mountpoint does not exist: unknown.": ("cgroup", False, 125),
    'error gathering device information while adding custom device "/dev/nvidia-uvm-tools": not a device node': (
        "uvm-tools",
        False,
        125,
    ),
    "Warning  UnexpectedAdmissionError  kubelet  Allocate failed due to no healthy devices present": (
        "no healthy devices",
        False,
        1,
    ),
    "docker: Error response from daemon: unable to find user vllm: no matching entries in passwd file": (
        "passwd",
        True,
        125,
    ),
    f"{_REFUSED}container init was OOM-killed (memory limit too low?): unknown": ("OOM", False, 137),
    f"{_REFUSED}unable to init seccomp: error loading seccomp filter into kernel: errno 524": ("seccomp", False, 125),
    f'{_REFUSED}exec: "vllm": executable file not found in $PATH: unknown': ("executable file", True, 127),
    f'{_REFUSED}exec: "/entrypoint.sh": permission denied: unknown': ("permission denied", True, 126),
    "exec /opt/vllm/bin/vllm: exec format error": ("exec format", True, 1),
}

_LOADING = recorded("EngineCore pid=9", "Loading weights", level="INFO", at="default_loader.py:1")
_NINJA = engine_failed("RuntimeError: Ninja build failed. Ninja output:\nninja: Entering directory `/x'")
_GCC = engine_failed(
    "torch._inductor.exc.InductorError: CalledProcessError: Command '['/usr/bin/gcc', '/x/main.c']' returned non-zero "
    "exit status 1."
)
_FRAMES = (
    "Exception raised from c10_cuda_check_implementation at CUDAException.cpp:43 (most recent call first):\n"
    "frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x57 (0x7fdc6810f617 in libc10.so)\n"
)
_OUT_OF_MEMORY = engine_failed("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
_TYPE_ERROR = engine_failed("TypeError: h() takes 1 positional argument but 2 were given")
_MACHINE, _IMAGE = False, True

# What is no exception of Python's, what runs beside it, and who of several processes is to blame.
OTHERS = {
    "name that is not resolved": Failure(
        "RuntimeError: [enforce fail] Gloo connectFullMesh failed with gloo/transport/tcp/pair.cc: timed out\n",
        Found("network", "connectFullMesh", _MACHINE),
    ),
    "host of its own that does not answer": Failure(
        "requests.exceptions.ConnectionError: HTTPConnectionPool(host='127.0.0.1', port=8100): Max retries exceeded\n",
        Found("", "Max retries exceeded", _IMAGE),
    ),
    "stack that was smashed": Failure(
        "*** stack smashing detected ***: terminated\n", Found("engine-died", "stack smashing", _IMAGE, 134)
    ),
    "name that is not known": Failure(
        engine_failed("socket.gaierror: [Errno -2] Name or service not known"),
        Found("network", "Name or service", _MACHINE),
    ),
    "peer of a killed worker": Failure(
        recorded("EngineCore pid=2", "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down.")
        + worker_failed("Worker_TP0 pid=4", "torch.distributed.DistNetworkError: The client socket has timed out")
        + WORKERS_FAILED,
        Found("host-memory", "-9", _MACHINE),
    ),
    "module that Python is to run": Failure(
        "/opt/vllm/bin/python: No module named vllm.entrypoints.openai.api_server\n",
        Found("import-error", "No module named", _IMAGE),
    ),
    "option that the Rust frontend refuses": Failure(
        "error: unexpected argument '--foo' found\n\nUsage: vllm-rs [OPTIONS]\n",
        Found("bad-arguments", "--foo", _IMAGE, 2),
    ),
    "option that click refuses": Failure(
        "Usage: vllm [OPTIONS]\n\nError: No such option: --foo\n", Found("bad-arguments", "--foo", _IMAGE, 2)
    ),
    "heap that is damaged": Failure(f"realloc(): invalid pointer\n{GAVE_UP}", Found("engine-died", "realloc", _IMAGE)),
    "kernel of vLLM's own all-reduce": Failure(
        "Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:453 'an illegal memory access was encountered'\n"
        + WORKERS_FAILED,
        Found("engine-died", "custom_all_reduce", _IMAGE),
    ),
    "port of the engine's machine": Failure(
        "Error response from daemon: failed to bind port 0.0.0.0:8000/tcp: Error starting userland proxy: listen tcp4 "
        "0.0.0.0:8000: bind: address already in use\n",
        Found("port", "8000", _MACHINE, 125),
    ),
    "image that cannot be pulled": Failure(
        'Error from server (BadRequest): container "vllm" in pod "x" is waiting to start: ImagePullBackOff\n',
        Found("engine-refused", "ImagePullBackOff", _MACHINE),
    ),
    "processor older than the C library wants": Failure(
        "Fatal glibc error: CPU does not support x86-64-v2\n", Found("gpu-unsupported", "x86-64-v2", _MACHINE, 127)
    ),
    "threads of OpenBLAS": Failure(
        "OpenBLAS blas_thread_init: pthread_create failed for thread 35 of 48: Resource temporarily unavailable\n"
        "OpenBLAS blas_thread_init: RLIMIT_NPROC 4096 current, 513046 max\nSegmentation fault (core dumped)\n",
        Found("limits", "pthread_create", _MACHINE, 139),
    ),
    "threads of OpenMP": Failure(
        "libgomp: Thread creation failed: Resource temporarily unavailable\n", Found("limits", "libgomp", _MACHINE)
    ),
    "processes of a shell": Failure(
        "/entrypoint.sh: fork: retry: Resource temporarily unavailable\n", Found("limits", "fork", _MACHINE, 254)
    ),
    "killed": Failure(f"{_LOADING}Killed\n", Found("host-memory", "Killed", _MACHINE, 137)),
    "killed, by a script's shell": Failure(
        "/entrypoint.sh: line 12:    31 Killed                  vllm serve /model\n",
        Found("host-memory", "Killed", _MACHINE, 137),
    ),
    "killed worker": Failure(
        recorded(
            "EngineCore pid=2", "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor."
        )
        + WORKERS_FAILED,
        Found("host-memory", "-9", _MACHINE),
    ),
    "no memory in native code": Failure(
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nAborted\n",
        Found("host-memory", "bad_alloc", _MACHINE, 134),
    ),
    "ECC in native code": Failure(
        "terminate called after throwing an instance of 'c10::Error'\n"
        "  what():  CUDA error: uncorrectable ECC error encountered\n",
        Found("gpu-fault", "ECC", _MACHINE, 134),
    ),
    "segmentation fault": Failure(
        f"{_LOADING}Fatal Python error: Segmentation fault\n\nThread 0x0 (most recent call first):\n",
        Found("engine-died", "Segmentation fault", _IMAGE, 139),
    ),
    "another processor": Failure(
        "Illegal instruction (core dumped)\n", Found("engine-died", "Illegal instruction", _IMAGE, 132)
    ),
    "nvcc older than the GPU": Failure(
        f"nvcc fatal   : Unsupported gpu architecture 'compute_120a'\nninja: build stopped.\n{_NINJA}",
        Found("missing-compiler", "nvcc fatal", _IMAGE),
    ),
    "header of CUDA": Failure(
        f"/x/a.cu:17:10: fatal error: cublasLt.h: No such file or directory\n   17 | #include <cublasLt.h>\n{_NINJA}",
        Found("missing-compiler", "cublasLt.h", _IMAGE),
    ),
    "library to link": Failure(
        f"/usr/bin/ld: cannot find -lcuda: No such file or directory\ncollect2: error: ld returned 1\n{_GCC}",
        Found("missing-compiler", "cannot find -lcuda", _IMAGE),
    ),
    "symbol to link": Failure(
        f"x.c:(.text+0x1f): undefined reference to `cuInit'\ncollect2: error: ld returned 1 exit status\n{_GCC}",
        Found("missing-compiler", "undefined reference", _IMAGE),
    ),
    "symbol at start": Failure(
        "/opt/vllm/bin/python3: symbol lookup error: /x/libtorch_cuda.so: undefined symbol: ncclCommWindowRegister\n",
        Found("undefined-symbol", "symbol lookup", _IMAGE, 127),
    ),
    "UCX": Failure(
        "[1754890927.298391] [decode-0:270  :0]    ib_mlx5dv_md.c:1100 UCX  ERROR mlx5_7: ibv_modify_qp(UMR QP 0x9b5e) "
        "failed to modify to RTR: No such device\n[decode-0:270  :0] Caught signal 11 (Segmentation fault)\n",
        Found("ucx", "UCX  ERROR", _MACHINE, 139),
    ),
    "NVSHMEM": Failure(
        "/opt/nvshmem/src/modules/transport/ibrc/ibrc.cpp:418: non-zero status: 110 ibv_modify_qp failed\n\n"
        "/opt/nvshmem/src/host/init/init.cu:nvshmemi_check:1080: nvshmem initialization failed, exiting\n",
        Found("nvshmem", "ibv_modify_qp", _MACHINE, 255),
    ),
    "NCCL without its peer": Failure(
        worker_failed(
            "Worker_TP0 pid=4",
            "torch.distributed.DistBackendError: NCCL error in: /pytorch/x.cpp:94, remote process exited or there was "
            "a network error, NCCL version 2.27.3",
        )
        + GAVE_UP,
        Found("nccl", "NCCL error", _MACHINE),
    ),
    "NCCL without memory": Failure(
        "node:5:5 [0] enqueue.cc:30 NCCL WARN Cuda failure 2 'out of memory'\n"
        + worker_failed("Worker_TP0 pid=4", "RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO)")
        + GAVE_UP,
        Found("gpu-memory", "out of memory", _MACHINE),
    ),
    "what NCCL can do without": Failure(
        "n:1:1 [1] NCCL INFO NET/Plugin: dlerror=libnccl-net.so: cannot open shared object file: No such file\n"
        + _TYPE_ERROR,
        Found("engine-died", "TypeError: h()", _IMAGE),
    ),
    "what InfiniBand can do without": Failure(
        "libibverbs: Warning: couldn't load driver 'libmlx5-rdmav34.so': libmlx5-rdmav34.so: cannot open shared object "
        f"file: No such file or directory\n{_TYPE_ERROR}",
        Found("engine-died", "TypeError: h()", _IMAGE),
    ),
    "what was to be loaded first": Failure(
        "ERROR: ld.so: object 'libjemalloc.so.2' from LD_PRELOAD cannot be preloaded (cannot open shared object file): "
        f"ignored.\n{_TYPE_ERROR}",
        Found("engine-died", "TypeError: h()", _IMAGE),
    ),
    "plugin that vLLM goes on without": Failure(
        recorded(
            "APIServer pid=1",
            'Failed to load plugin lora\nTraceback (most recent call last):\n  File "/x.py", line 2, in f\n'
            "ModuleNotFoundError: No module named 'lora_x'",
            at="__init__.py:80",
        )
        + engine_failed("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"),
        Found("gpu-memory", "CUDA out of memory", _MACHINE),
    ),
    "thread that failed of two things": Failure(
        printed(
            "EngineCore pid=9",
            'Exception in thread Thread-3 (_report_usage_worker):\nTraceback (most recent call last):\n  File "/x.py", '
            "line 3, in f\nFileNotFoundError: [Errno 2] No such file or directory: '/proc/x'\n\nDuring handling of the "
            "above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
            "  File \"/x.py\", line 3, in f\nPermissionError: [Errno 13] Permission denied: '/.config'",
        )
        + _TYPE_ERROR,
        Found("engine-died", "TypeError: h()", _IMAGE),
    ),
    "exception above the engine's report": Failure(
        printed("EngineCore pid=9", f"{TRACEBACK}AttributeError: 'NoneType' object has no attribute 'dtype'")
        + recorded("EngineCore pid=9", "EngineCore failed to start.")
        + GAVE_UP,
        Found("engine-died", "'NoneType'", _IMAGE),
    ),
    "field that pydantic refuses": Failure(
        printed(
            "APIServer pid=1",
            'Traceback (most recent call last):\n  File "/x.py", line 3, in f\npydantic_core._pydantic_core.'
            "ValidationError: 1 validation error for CacheConfig\ngpu_memory_utilization\n  Input should be less than "
            "or equal to 1 [type=less_than_equal, input_value=1.5, input_type=float]\n"
            "    For further information visit https://errors.pydantic.dev/2.12/v/less_than_equal",
        ),
        Found("unknown", "Input should be", _IMAGE),
    ),
    "peer that reports first": Failure(
        worker_failed(
            "Worker_TP1 pid=5",
            "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:544] Connection closed by peer [::1]:6",
        )
        + worker_failed("Worker_TP0 pid=4", "IndexError: list index out of range")
        + WORKERS_FAILED,
        Found("engine-died", "list index", _IMAGE),
    ),
    "nvidia-smi at the start": Failure(
        f"| N/A   36C    P0             117W / 700W |  55857MiB / 81559MiB |  ECC     0%      Default |\n{_TYPE_ERROR}",
        Found("engine-died", "TypeError: h()", _IMAGE),
    ),
    "two ranks line by line": Failure(
        "".join(
            first + second
            for first, second in zip(
                *(
                    worker_failed(
                        f"Worker_TP{rank} pid={rank}", "torch.OutOfMemoryError: CUDA out of memory."
                    ).splitlines(keepends=True)
                    for rank in (0, 1)
                ),
                strict=True,
            )
        )
        + WORKERS_FAILED,
        Found("gpu-memory", "CUDA out of memory", _MACHINE),
    ),
    "ranks as torch names them": Failure(
        "".join(
            f'[rank{rank}]: Traceback (most recent call last):\n[rank{rank}]:   File "/x.py", line 3, in <module>\n'
            f"[rank{rank}]: {said}\n"
            for rank, said in enumerate(["NotImplementedError: no such layer", "RuntimeError: Broken pipe"])
        ),
        Found("unknown", "NotImplementedError", _IMAGE),
    ),
    "group of exceptions": Failure(
        printed(
            "APIServer pid=1",
            '  + Exception Group Traceback (most recent call last):\n  |   File "/x.py", line 3, in f\n  |     g()\n'
            "  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n"
            "  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n"
            '    |   File "/x.py", line 3, in f\n    |     h()\n    | vllm.exceptions.OddThing: the reason\n'
            "    +------------------------------------",
        ),
        Found("unknown", "the reason", _IMAGE),
    ),
    "frontend in Rust": Failure(
        "thread 'main' panicked at src/cmd/src/main.rs:70:18:\nfailed to install SIGTERM signal handler\n"
        "(APIServer pid=1) RuntimeError: Process RustFrontend (PID: 740) died with exit code 101\n",
        Found("engine-died", "failed to install SIGTERM signal handler", _IMAGE),
    ),
    "frontend without a word": Failure(
        "(APIServer pid=1) RuntimeError: Frontend process failed during engine core initialization. See root cause "
        "above. Failed frontend proc(s): {'RustFrontend': 2}\n",
        Found("engine-died", "Frontend process", _IMAGE),
    ),
    "logger's report, Python's traceback": Failure(
        "ERROR 02-13 18:05 [multiproc_executor.py:852] WorkerProc hit an exception.\nTraceback (most recent call last):"
        '\n  File "/x.py", line 3, in f\n    y\nZeroDivisionError: division by zero\n'
        "ERROR 02-13 18:05 [core.py:852] EngineCore encountered a fatal error.\n",
        Found("engine-died", "ZeroDivision", _IMAGE),
    ),
    "pod that started beside one that did not": Failure(
        "".join(f"[pod/decode-0/vllm] {line}\n" for line in _TYPE_ERROR.splitlines())
        + "[pod/prefill-0/vllm] INFO:     Application startup complete.\n",
        Found("engine-died", "TypeError: h()", _IMAGE),
    ),
    "logger that writes JSON": Failure(
        "".join(
            json.dumps({"levelname": level, "name": "vllm.x", "processName": "EngineCore", "process": 27, **said})
            + "\n"
            for level, said in (
                ("WARNING", {"message": "Failed to import: ImportError('x.so: undefined symbol: _ZN3')"}),
                (
                    "ERROR",
                    {
                        "message": "EngineCore failed to start.",
                        "exc_info": f"{TRACEBACK}torch.OutOfMemoryError: CUDA out of memory.",
                    },
                ),
            )
        )
        + GAVE_UP,
        Found("gpu-memory", "CUDA out of memory", _MACHINE),
    ),
    "other service beside the server": Failure(
        "Attaching to vllm-1, grafana-1\n"
        + "".join(f"vllm-1     | {line}\n" for line in _OUT_OF_MEMORY.splitlines())
        + "grafana-1  | logger=x level=info msg=permission denied\nvllm-1 exited with code 1\n",
        Found("gpu-memory", "CUDA out of memory", _MACHINE),
    ),
    "times on lines of their own": Failure(
        "".join(f"2026-02-14T02:05:12.788Z\n{line}\n" for line in _TYPE_ERROR.splitlines()),
        Found("engine-died", "TypeError: h()", _IMAGE),
    ),
    "kernel in the journal": Failure(
        "Oct 30 21:54:45 node kernel: Memory cgroup out of memory: Killed process 123 (python3)\n"
        "Oct 30 21:54:45 node vllm[8052]: loading weights\n",
        Found("host-memory", "Memory cgroup", _MACHINE, 137),
    ),
    "told to end by systemd": Failure(
        "".join(
            f"Oct 30 21:54:45 node vllm[8052]: {line}\n"
            for line in recorded(
                "APIServer pid=1", "[shutdown] API server: shutdown triggered", level="INFO"
            ).splitlines()
        )
        + "Oct 30 21:54:45 node systemd[1]: Stopping vllm.service...\n",
        Found("terminated", "shutdown triggered", _MACHINE, 0),
    ),
    "told to end by the cluster": Failure(
        recorded("APIServer pid=1", "[shutdown] API server: shutdown triggered", level="INFO")
        + "INFO:     Shutting down\n",
        Found("terminated", "shutdown triggered", _MACHINE, 0),
    ),
    "told to end, then killed": Failure(
        recorded("EngineCore pid=1", "[shutdown] EngineCore: trigger received signal=SIGTERM", level="INFO")
        + printed("EngineCore pid=1", f"{TRACEBACK}RuntimeError: cancelled"),
        Found("terminated", "SIGTERM", _MACHINE, 137),
    ),
    "told to end without a word": Failure(_LOADING, Found("terminated", "Loading", _MACHINE, 143)),
    "told to end, as Python has it": Failure(_LOADING, Found("terminated", "Loading", _MACHINE, -15)),
    "told to end, by a script's shell": Failure(
        "/entrypoint.sh: line 12:    31 Terminated              vllm serve /model\n",
        Found("terminated", "Terminated", _MACHINE, 143),
    ),
    "told to end, in Rust": Failure(
        recorded("RustFrontend pid=3", "received shutdown signal (SIGTERM), shutting down...", level="INFO"),
        Found("terminated", "SIGTERM", _MACHINE, 0),
    ),
    "worker told to end": Failure(
        recorded("", "Worker VllmWorkerProcess pid 212 died, exit code: -15"), Found("terminated", "-15", _MACHINE)
    ),
    "interrupted at the keyboard": Failure(
        printed(
            "APIServer pid=1", 'Traceback (most recent call last):\n  File "/x.py", line 1, in f\nKeyboardInterrupt'
        ),
        Found("terminated", "KeyboardInterrupt", _MACHINE, 130),
    ),
    "told to end after a plugin was missed": Failure(
        recorded("APIServer pid=1", f"Failed to load plugin lora\n{TRACEBACK}ModuleNotFoundError: No module named 'x'")
        + recorded("EngineCore pid=2", "[shutdown] EngineCore: trigger received signal=SIGTERM", level="INFO"),
        Found("terminated", "SIGTERM", _MACHINE, 143),
    ),
    "shell that goes on without a program": Failure(
        "/entrypoint.sh: line 3: nvidia-smi: command not found\nmkdir: cannot create '/x': Permission denied\n"
        + printed("APIServer pid=1", f"{TRACEBACK}TypeError: serve() takes 1 positional argument"),
        Found("unknown", "TypeError: serve()", _IMAGE),
    ),
    "warning of binaries that are not needed": Failure(
        recorded("APIServer pid=1", "Failed to import: ImportError('x.so: undefined symbol: _ZN3')", level="WARNING")
        + engine_failed("ModuleNotFoundError: No module named 'vllm.model_executor.x'"),
        Found("import-error", "vllm.model_executor.x", _IMAGE),
    ),
    "failed before it was told to end": Failure(
        _TYPE_ERROR
        + recorded("EngineCore_DP1 pid=28", "[shutdown] EngineCore: trigger received signal=SIGTERM", level="INFO"),
        Found("engine-died", "TypeError: h()", _IMAGE, 143),
    ),
    "deepgemm": Failure(
        ("Failed: Assertion error /opt/DeepGEMM/csrc/jit/compiler.hpp:120 'false and \"NVCC compilation failed\"'\n")
        + engine_failed(
            "RuntimeError: Assertion error (/opt/DeepGEMM/csrc/jit/compiler.hpp:120): NVCC compilation failed"
        ),
        Found("engine-died", "NVCC compilation failed", _IMAGE),
    ),
    "engine later info": Failure(
        (
            "(EngineCore pid=27) ERROR 11-25 10:00:00 [core.py:1584] EngineCore failed to start.\n"
            "(EngineCore pid=27) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + (
            "TypeError: f() got multiple values for argument 'x'\n(APIServer pid=1) INFO 11-25 10:00:00 "
            "[x.py:1] waiting for engine\n"
        )
        + GAVE_UP,
        Found("engine-died", "multiple values", _IMAGE),
    ),
    "after header two procs": Failure(
        (
            "(EngineCore_DP0 pid=27) ERROR 11-25 10:00:00 [core.py:1584] EngineCore failed to start.\n"
            "(EngineCore_DP0 pid=27) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + (
            "IndexError: pop from empty list\n(EngineCore_DP1 pid=28) ERROR 11-25 10:00:00 [core.py:1584] "
            "EngineCore failed to start.\n(EngineCore_DP1 pid=28) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + ("torch.distributed.DistNetworkError: The client socket has timed out after 600000ms\n")
        + GAVE_UP,
        Found("engine-died", "pop from empty", _IMAGE),
    ),
    "ready then fatal": Failure(
        (
            "INFO:     Application startup complete.\n(EngineCore pid=27) ERROR 11-25 10:00:00 "
            "[core.py:1584] EngineCore encountered a fatal error.\n(EngineCore pid=27) ERROR 11-25 "
            "10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + (
            "RuntimeError: CUDA error: an illegal memory access was encountered\n(APIServer pid=1) ERROR "
            "11-25 10:00:00 [async_llm.py:906] AsyncLLM output_handler failed.\n(APIServer pid=1) ERROR "
            "11-25 10:00:00 [async_llm.py:906] Traceback (most recent call last):\n(APIServer pid=1) ERROR "
            '11-25 10:00:00 [async_llm.py:906]   File "/x.py", line 1, in f\n(APIServer pid=1) ERROR 11-25 '
            "10:00:00 [async_llm.py:906]     raise\n(APIServer pid=1) ERROR 11-25 10:00:00 "
            "[async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an "
            "issue. See stack trace (above) for the root cause.\nINFO:     Shutting down\n"
        ),
        Found("engine-died", "illegal memory", _IMAGE),
    ),
    "ready then worker": Failure(
        (
            "INFO:     Application startup complete.\n(Worker_TP0 pid=3) ERROR 11-25 10:00:00 "
            "[multiproc_executor.py:1189] WorkerProc hit an exception.\n(Worker_TP0 pid=3) ERROR 11-25 "
            "10:00:00 [multiproc_executor.py:1189] Traceback (most recent call last):\n(Worker_TP0 pid=3) "
            'ERROR 11-25 10:00:00 [multiproc_executor.py:1189]   File "/x.py", line 1, in f\n(Worker_TP0 '
            "pid=3) ERROR 11-25 10:00:00 [multiproc_executor.py:1189]     x\n(Worker_TP0 pid=3) ERROR "
            "11-25 10:00:00 [multiproc_executor.py:1189] KeyError: 'logits'\n(EngineCore pid=27) ERROR "
            "11-25 10:00:00 [core.py:1584] EngineCore encountered a fatal error.\n(EngineCore pid=27) "
            "ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + (
            "RuntimeError: Worker failed with error ''logits'', please check the stack trace above for the "
            "root cause\nINFO:     Shutting down\n"
        ),
        Found("engine-died", "KeyError: 'logits'", _IMAGE, 0),
    ),
    "dumping scheduler": Failure(
        (
            "(EngineCore pid=27) ERROR 11-25 10:00:00 [dump_input.py:72] Dumping input data for V1 LLM "
            "engine (v0.33.0) with config: model='/m'\n(EngineCore pid=27) ERROR 11-25 10:00:00 "
            "[core.py:1584] EngineCore encountered a fatal error.\n(EngineCore pid=27) ERROR 11-25 "
            "10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + ("NotImplementedError: x\n"),
        Found("engine-died", "NotImplementedError", _IMAGE),
    ),
    "oom kernel": Failure(
        ("[ 1234.5] Memory cgroup out of memory: Killed process 123 (VLLM::EngineCor) total-vm:1kB\n"),
        Found("host-memory", "Memory cgroup", _MACHINE, 137),
    ),
    "died -9 plain": Failure(
        ("(APIServer pid=1) RuntimeError: Process ApiServer_0 (PID: 3) died with exit code -9\n"),
        Found("host-memory", "-9", _MACHINE),
    ),
    "frontend -9": Failure(
        (
            "(APIServer pid=1) RuntimeError: Frontend process failed during engine core initialization. "
            "See root cause above. Failed frontend proc(s): {'RustFrontend': -9}\n"
        ),
        Found("host-memory", "-9", _MACHINE),
    ),
    "two cores one -9": Failure(
        (
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. "
            "Failed core proc(s): {'EngineCore_DP0': 1, 'EngineCore_DP1': -9}\n"
        ),
        Found("host-memory", "-9", _MACHINE),
    ),
    "segv core": Failure(
        (
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. "
            "Failed core proc(s): {'EngineCore': -11}\n"
        ),
        Found("engine-died", "-11", _IMAGE),
    ),
    "sigterm core": Failure(
        (
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. "
            "Failed core proc(s): {'EngineCore': -15}\n"
        ),
        Found("terminated", "-15", _MACHINE),
    ),
    "ray oom": Failure(
        (
            "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\n"
            "Memory on the node (IP: 10.0.0.1, ID: a) where the task (task ID: b) was running was 62GB / "
            "62GB (0.99)\n"
        ),
        Found("host-memory", "low on memory", _MACHINE),
    ),
    "torchrun 9": Failure(
        (
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n=====\nx.py FAILED\n"
            "-----\nRoot Cause (first observed failure):\n[0]:\n  exitcode  : -9 (pid: 77)\n  traceback : "
            "Signal 9 (SIGKILL) received by PID 77\n"
        ),
        Found("host-memory", "-9", _MACHINE),
    ),
    "torchrun 15": Failure(
        (
            "W1125 10:00:00.123000 1 torch/distributed/elastic/agent/server/api.py:719] Received 15 death "
            "signal, shutting down workers\n"
        ),
        Found("terminated", "15 death", _MACHINE),
    ),
    "usage only then fail": Failure(
        (
            "(APIServer pid=1) Exception in thread Thread-1 (_report_usage_worker):\n(APIServer pid=1) "
            'Traceback (most recent call last):\n(APIServer pid=1)   File "/x.py", line 1, in f\n'
            "(APIServer pid=1)     y\n(APIServer pid=1) OSError: [Errno 28] No space left on device\n"
        )
        + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "ignored": Failure(
        (
            "(EngineCore pid=3) Exception ignored in: <function X.__del__ at 0x7f>\n(EngineCore pid=3) "
            'Traceback (most recent call last):\n(EngineCore pid=3)   File "/x.py", line 1, in f\n'
            "(EngineCore pid=3)     y\n(EngineCore pid=3) ImportError: libcuda.so.1: cannot open shared "
            "object file: No such file or directory\n"
        )
        + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "atexit": Failure(
        engine_failed("NameError: name 'foo' is not defined")
        + (
            "Exception ignored in atexit callback: <bound method x>\nTraceback (most recent call last):\n  "
            'File "/x.py", line 1, in f\nOSError: [Errno 28] No space left on device\n'
        ),
        Found("engine-died", "foo", _IMAGE),
    ),
    "asyncio": Failure(
        (
            "2024-11-22 04:51:14,882 - __init__.py - asyncio - ERROR - Task exception was never retrieved\n"
            "future: <Task finished name='Task-3' coro=<x()> exception=ZMQError('Address already in "
            'use\')>\nTraceback (most recent call last):\n  File "/x.py", line 184, in f\n    y\n'
            "zmq.error.ZMQError: Address already in use\n"
        )
        + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "info cache": Failure(
        (
            "ERROR 11-25 10:00:00 [registry.py:810] Error saving model info cache.\nERROR 11-25 10:00:00 "
            "[registry.py:810] Traceback (most recent call last):\nERROR 11-25 10:00:00 [registry.py:810]  "
            ' File "/x.py", line 1, in f\nERROR 11-25 10:00:00 [registry.py:810] PermissionError: [Errno '
            "13] Permission denied: '/.cache/vllm/modelinfos'\n"
        )
        + engine_failed("torch.OutOfMemoryError: CUDA out of memory."),
        Found("gpu-memory", "CUDA out of memory", _MACHINE),
    ),
    "gdrcopy": Failure(
        ("[10.0.0.1:5] WARN: IBGDA cannot be loaded: libmlx5.so: cannot open shared object file\n")
        + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "nccl warn survived": Failure(
        ("node:5:5 [0] NCCL WARN NET/IB : No device found.\n") + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "nccl new prefix": Failure(
        (
            "[2026-11-25 10:00:00] node:5:5 [0] misc/shmutils.cc:87 NCCL WARN Error: failed to extend "
            "/dev/shm/nccl-Ab to 3 bytes, error: No space left on device (28)\n"
        )
        + engine_failed("RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"),
        Found("shm", "shm/nccl", _MACHINE),
    ),
    "nccl info only twin": Failure(
        ("node:5:5 [0] NCCL INFO Error while creating shared memory segment? no\n")
        + engine_failed("RuntimeError: NCCL error: invalid usage (run with NCCL_DEBUG=WARN for details)"),
        Found("nccl", "invalid usage", _IMAGE),
    ),
    "tf noise": Failure(
        (
            "2026-11-25 10:00:00.123456: W tensorflow/stream_executor/x.cc:64] Could not load dynamic "
            "library 'libcudart.so.11.0'; dlerror: libcudart.so.11.0: cannot open shared object file\n"
            "2026-11-25 10:00:00.123456: E external/local_xla/x.cc:1] Unable to register cuDNN factory\n"
        )
        + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "lmcache info": Failure(
        (
            "[2025-11-14 08:06:22,590] LMCache INFO: ImportError: optional (x.py:1:lmcache)\n(APIServer "
            "pid=1) ValueError: the reason\n"
        ),
        Found("unknown", "the reason", _IMAGE),
    ),
    "lmcache warn": Failure(
        ("(EngineCore pid=3) [2025-11-14 08:06:22,590] LMCache WARNING: No module: ImportError: x (x.py:1)\n")
        + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "usage telemetry": Failure(
        (
            "(APIServer pid=1) WARNING 11-25 10:00:00 [usage_lib.py:9] Failed to report usage: 429 Client "
            "Error: Too Many Requests for url: https://huggingface.co\n"
        )
        + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "asgi": Failure(
        (
            "INFO:     Application startup complete.\nERROR:    Exception in ASGI application\nTraceback "
            '(most recent call last):\n  File "/x.py", line 1, in f\n    y\nPermissionError: [Errno 13] '
            "Permission denied: '/x'\n(EngineCore pid=9) ERROR 11-25 10:00:00 [core.py:1584] EngineCore "
            "encountered a fatal error.\n(EngineCore pid=9) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + ("NameError: name 'foo' is not defined\n"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "pydantic two": Failure(
        (
            '(APIServer pid=1) Traceback (most recent call last):\n(APIServer pid=1)   File "/x.py", line '
            "1, in f\n(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 2 validation errors "
            "for SchedulerConfig\n(APIServer pid=1) max_num_seqs\n(APIServer pid=1)   Input should be "
            "greater than or equal to 1 [type=greater_than_equal, input_value=0, input_type=int]\n"
        ),
        Found("unknown", "greater than or equal to 1", _IMAGE),
    ),
    "pydantic assertion": Failure(
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Assertion "
            "failed,  [type=assertion_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]\n"
        ),
        Found("unknown", "Assertion failed", _IMAGE),
    ),
    "pydantic bf16": Failure(
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Value "
            "error, The quantization method modelopt_fp4 is not supported for the current GPU. Minimum "
            "capability: 100. Current capability: 90. [type=value_error, input_value=1]\n"
        ),
        Found("gpu-unsupported", "Minimum capability", _MACHINE),
    ),
    "pydantic repo": Failure(
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value "
            "error, Invalid repository ID or local directory specified: '/models/x'.\nPlease verify the "
            "following requirements:\n1. Provide a valid Hugging Face repository ID.\n [type=value_error, "
            "input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]\n"
        ),
        Found("model", "Invalid repository", _MACHINE),
    ),
    "pydantic arch unsupported": Failure(
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value "
            "error, Model architectures ['FooForCausalLM'] are not supported for now. Supported "
            "architectures: dict_keys(['A']) [type=value_error]\n"
        ),
        Found("unsupported-model", "not supported for now", _IMAGE),
    ),
    "arch inspect import": Failure(
        (
            "ERROR 11-25 10:00:00 [registry.py:1164] Error in inspecting model architecture "
            "'LlamaForCausalLM'\nERROR 11-25 10:00:00 [registry.py:1164] Traceback (most recent call "
            'last):\nERROR 11-25 10:00:00 [registry.py:1164]   File "/x.py", line 1, in f\nERROR 11-25 '
            "10:00:00 [registry.py:1164]     y\nERROR 11-25 10:00:00 [registry.py:1164] "
            "subprocess.CalledProcessError: Command '['/opt/vllm/bin/python', '-m', 'x']' returned "
            "non-zero exit status 1.\nERROR 11-25 10:00:00 [registry.py:1164] \nERROR 11-25 10:00:00 "
            "[registry.py:1164] The above exception was the direct cause of the following exception:\n"
            "ERROR 11-25 10:00:00 [registry.py:1164] \nERROR 11-25 10:00:00 [registry.py:1164] Traceback "
            '(most recent call last):\nERROR 11-25 10:00:00 [registry.py:1164]   File "/x.py", line 1, in '
            "f\nERROR 11-25 10:00:00 [registry.py:1164]     y\nERROR 11-25 10:00:00 [registry.py:1164] "
            "RuntimeError: Error raised in subprocess:\nERROR 11-25 10:00:00 [registry.py:1164] <frozen "
            "runpy>:128: RuntimeWarning: 'x' found in sys.modules\nERROR 11-25 10:00:00 [registry.py:1164] "
            "Traceback (most recent call last):\nERROR 11-25 10:00:00 [registry.py:1164]   File "
            '"/opt/vllm-source/vllm/a.py", line 7, in <module>\nERROR 11-25 10:00:00 [registry.py:1164]    '
            " from x import y\nERROR 11-25 10:00:00 [registry.py:1164] ImportError: cannot import name 'y' "
            "from 'x' (/opt/x.py)\n(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 "
            "validation error for ModelConfig\n(APIServer pid=1)   Value error, Model architectures "
            "['LlamaForCausalLM'] failed to be inspected. Please check the logs for more details. "
            "[type=value_error, input_value=A, input_type=ArgsKwargs]\n"
        ),
        Found("import-error", "cannot import name 'y'", _IMAGE),
    ),
    "tcpstore": Failure(
        (
            "(Worker_TP1 pid=41) ERROR 11-25 10:00:00 [core.py:1584] WorkerProc failed to start.\n"
            "(Worker_TP1 pid=41) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + (
            "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 "
            "clients joined.\n(Worker_TP0 pid=40) ERROR 11-25 10:00:00 [core.py:1584] WorkerProc failed to "
            "start.\n(Worker_TP0 pid=40) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + ("UnboundLocalError: cannot access local variable 'x'\n")
        + GAVE_UP,
        Found("engine-died", "UnboundLocalError", _IMAGE),
    ),
    "rank lines no proc": Failure(
        (
            '[rank1]: Traceback (most recent call last):\n[rank1]:   File "/x.py", line 1, in f\n[rank1]:  '
            "   y\n[rank1]: torch.distributed.DistBackendError: NCCL error in: /p/NCCLUtils.cpp:94, remote "
            "process exited or there was a network error\n[rank0]: Traceback (most recent call last):\n"
            '[rank0]:   File "/x.py", line 1, in f\n[rank0]:     y\n[rank0]: IndexError: tuple index out '
            "of range\n"
        ),
        Found("unknown", "tuple index", _IMAGE),
    ),
    "cudnn": Failure(
        ("INFO x\n") + engine_failed("RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        Found("engine-died", "cuDNN error", _IMAGE),
    ),
    "eof worker": Failure(
        (
            "(Worker_TP1 pid=41) ERROR 11-25 10:00:00 [core.py:1584] WorkerProc hit an exception.\n"
            "(Worker_TP1 pid=41) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + (
            "EOFError\n(Worker_TP0 pid=40) ERROR 11-25 10:00:00 [core.py:1584] WorkerProc hit an "
            "exception.\n(Worker_TP0 pid=40) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + ("AssertionError: 3 != 4\n")
        + GAVE_UP,
        Found("engine-died", "3 != 4", _IMAGE),
    ),
    "no module early": Failure(
        (
            'Traceback (most recent call last):\n  File "/opt/vllm/bin/vllm", line 4, in <module>\n    '
            "from vllm.entrypoints.cli.main import main\nModuleNotFoundError: No module named 'vllm'\n"
        ),
        Found("import-error", "No module named 'vllm'", _IMAGE),
    ),
    "systemexit": Failure(
        (
            '(APIServer pid=1) Traceback (most recent call last):\n(APIServer pid=1)   File "/x.py", line '
            "1, in f\n(APIServer pid=1) KeyError: 'invalid tool call parser: foo (chose from { a })'\n"
        ),
        Found("unknown", "tool call parser", _IMAGE),
    ),
    "ldso glibc": Failure(
        ("vllm: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /opt/x/libtorch.so)\n"),
        Found("missing-library", "GLIBC_2.38", _IMAGE),
    ),
    "ldso missing": Failure(
        (
            "/opt/vllm/bin/python3: error while loading shared libraries: libpython3.12.so.1.0: cannot "
            "open shared object file: No such file or directory\n"
        ),
        Found("missing-library", "libpython3", _IMAGE, 127),
    ),
    "exec stack": Failure(
        ("ImportError: libfoo.so: cannot enable executable stack as shared object requires: Invalid argument\n"),
        Found("missing-library", "executable stack", _IMAGE),
    ),
    "elf": Failure(
        ("OSError: /opt/x/libfoo.so: invalid ELF header\n"),
        Found("missing-library", "ELF", _IMAGE),
    ),
    "undefined in oserror": Failure(
        ("(APIServer pid=1) OSError: /opt/x/libcudart.so.12: undefined symbol: __cudaFoo, version libcudart.so.12\n"),
        Found("undefined-symbol", "__cudaFoo", _IMAGE),
    ),
    "nvlink linker": Failure(
        (
            "nvlink fatal   : Input file 'x.o' newer than toolkit (130 vs 128)\nninja: build stopped: "
            "subcommand failed.\n"
        )
        + engine_failed("RuntimeError: Ninja build failed. Ninja output:\nx"),
        Found("missing-compiler", "nvlink fatal", _IMAGE),
    ),
    "cuda compile err": Failure(
        (
            "FAILED: sampling.cuda.o \n/usr/local/cuda/bin/nvcc -c x.cu\n"
            "/opt/flashinfer/include/x.cuh(83): error: no instance of function template matches\n1 error "
            'detected in the compilation of "x.cu".\nninja: build stopped: subcommand failed.\n'
        )
        + engine_failed("RuntimeError: Ninja build failed. Ninja output:\nninja: Entering"),
        Found("missing-compiler", "no instance of function", _IMAGE),
    ),
    "cicc": Failure(
        ("sh: 1: cicc: not found\n")
        + engine_failed("subprocess.CalledProcessError: Command 'nvcc' returned non-zero exit status 127."),
        Found("missing-compiler", "cicc: not found", _IMAGE),
    ),
    "ninja not on path": Failure(
        ("/bin/sh: 1: ninja: not found\n")
        + engine_failed("RuntimeError: Ninja is required to load C++ extensions (pip install ninja to get it)"),
        Found("missing-compiler", "ninja", _IMAGE),
    ),
    "libcuda stub": Failure(
        ("/usr/bin/ld: cannot find -lcudart: No such file or directory\ncollect2: error: ld returned 1 exit status\n")
        + engine_failed(
            "subprocess.CalledProcessError: Command '['/usr/bin/gcc', 'main.c']' returned non-zero exit status 1."
        ),
        Found("missing-compiler", "-lcudart", _IMAGE),
    ),
    "cannot open -lcuda old": Failure(
        ("/usr/bin/ld: cannot find -lcuda\n")
        + engine_failed(
            "subprocess.CalledProcessError: Command '['/usr/bin/gcc', 'main.c']' returned non-zero exit status 1."
        ),
        Found("missing-compiler", "-lcuda", _IMAGE),
    ),
    "ptxas": Failure(
        (
            "ptxas /tmp/x.ptx, line 5; error   : Unsupported .version 8.7; current version is '8.4'\nptxas "
            "fatal   : Ptx assembly aborted due to errors\n"
        )
        + engine_failed("triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error"),
        Found("engine-died", "(EngineCore pid=27) ERROR", _IMAGE),
    ),
    "triton llvm": Failure(
        ("LLVM ERROR: Cannot select: intrinsic %llvm.nvvm.shfl\nFatal Python error: Aborted\n"),
        Found("engine-died", "LLVM ERROR", _IMAGE, 134),
    ),
    "mlir": Failure(
        ('/x/TritonGPU.cpp:63: void f(): Assertion `false && "bad"\' failed.\n'),
        Found("engine-died", "Assertion", _IMAGE, 134),
    ),
    "ucx fatal": Failure(
        (
            "[node:1:0:5] ib_mlx5_log.c:180  Remote access error on mlx5_0:1/IB (synd 0x13)\n"
            "[1754890927.2] [node:1:0] ib_log.c:1 UCX  FATAL wireup failed: Endpoint timeout\n"
        ),
        Found("ucx", "UCX  FATAL", _MACHINE, 134),
    ),
    "nvshmem ibgda": Failure(
        (
            "/opt/nvshmem/src/modules/transport/ibgda/ibgda.cpp:2234: NULL value Unable to create ah.\n"
            "/opt/nvshmem/src/host/init/init.cu:1041: non-zero status: 7 nvshmem_init failed\n"
        ),
        Found("nvshmem", "NULL value", _MACHINE, 255),
    ),
    "nvshmem bootstrap": Failure(
        (
            "src/host/bootstrap/bootstrap_loader.cpp:41: NULL value Bootstrap unable to load "
            "'nvshmem_bootstrap_uid.so.3'\n\tnvshmem_bootstrap_uid.so.3: cannot open shared object file: "
            "No such file or directory\n"
        ),
        Found("missing-library", "nvshmem_bootstrap_uid.so.", _IMAGE, 255),
    ),
    "deepep": Failure(
        (
            "WARN: init failed for remote transport: ibrc\nRuntimeError: Failed: Assertion error "
            "/opt/DeepEP/csrc/kernels/runtime.cu:43 'nvshmem_rank == nvshmemx_init_attr'\n"
        ),
        Found("unknown", "Assertion error", _IMAGE),
    ),
    "nccl watchdog": Failure(
        (
            "[rank0]:[E1123 20:59:19.029589283 ProcessGroupNCCL.cpp:632] [Rank 0] Watchdog caught "
            "collective operation timeout: WorkNCCL(SeqNum=3) ran for 600000 milliseconds before timing "
            "out.\nterminate called after throwing an instance of 'c10::DistBackendError'\n"
        ),
        Found("nccl", "Watchdog", _MACHINE, 134),
    ),
    "sigbus": Failure(
        ("*** SIGBUS (@0x7f) received by PID 3\nBus error (core dumped)\n"),
        Found("shm", "Bus error", _MACHINE, 135),
    ),
    "free": Failure(
        ("free(): invalid pointer\nAborted (core dumped)\n"),
        Found("engine-died", "free()", _IMAGE, 134),
    ),
    "pybind": Failure(
        ("terminate called after throwing an instance of 'pybind11::error_already_set'\n  what():  TypeError: x\n"),
        Found("engine-died", "what():  TypeError: x", _IMAGE, 134),
    ),
    "nothing 139": Failure(
        ("(EngineCore pid=1) INFO 11-25 10:00:00 [x.py:1] a\n"),
        Found("engine-died", "(EngineCore pid=1) INFO 1", _IMAGE, 139),
    ),
    "docker stop": Failure(
        (
            "(APIServer pid=1) INFO 11-25 10:00:00 [launcher.py:254] [shutdown] API server: shutdown "
            "triggered\n(EngineCore pid=2) INFO 11-25 10:00:00 [core.py:1] [shutdown] EngineCore: trigger "
            "received signal=SIGTERM\n(APIServer pid=1) ERROR 11-25 10:00:00 [async_llm.py:1] AsyncLLM "
            "output_handler failed.\n(APIServer pid=1) ERROR 11-25 10:00:00 [async_llm.py:1] Traceback "
            "(most recent call last):\n(APIServer pid=1) ERROR 11-25 10:00:00 [async_llm.py:1]   File "
            '"/x", line 1, in f\n(APIServer pid=1) ERROR 11-25 10:00:00 [async_llm.py:1] '
            "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n"
        ),
        Found("terminated", "shutdown", _MACHINE, 0),
    ),
    "sigterm in startup engine": Failure(
        (
            "(EngineCore pid=2) INFO 11-25 10:00:00 [core.py:1] [shutdown] EngineCore: trigger received "
            "signal=SIGTERM\n(EngineCore pid=2) ERROR 11-25 10:00:00 [core.py:1584] EngineCore failed to "
            "start.\n(EngineCore pid=2) ERROR 11-25 10:00:00 [core.py:1584] "
        )
        + TRACEBACK
        + ("RuntimeError: cancelled\n")
        + GAVE_UP,
        Found("terminated", "SIGTERM", _MACHINE),
    ),
    "sigint": Failure(
        ("(EngineCore pid=2) INFO 11-25 10:00:00 [core.py:1] [shutdown] EngineCore: trigger received signal=SIGINT\n"),
        Found("terminated", "SIGINT", _MACHINE, 130),
    ),
    "old fastapi": Failure(
        (
            "INFO:     Application startup complete.\nINFO 06-11 [launcher.py:85] Shutting down FastAPI "
            "HTTP server.\nINFO:     Shutting down\nINFO:     Waiting for application shutdown.\nINFO:     "
            "Application shutdown complete.\nINFO:     Finished server process [1]\n"
        ),
        Found("terminated", "Shutting down", _MACHINE, 0),
    ),
    "grace kill": Failure(
        ("INFO:     Application startup complete.\n(APIServer pid=1) INFO 11-25 10:00:00 [x.py:1] Received request\n"),
        Found("terminated", "(APIServer pid=1) INFO 11", _MACHINE, 143),
    ),
    "worker sigterm traceback": Failure(
        (
            "(Worker_TP0 pid=4) INFO 11-25 10:00:00 [multiproc_executor.py:700] Parent process exited, "
            "terminating worker\n(APIServer pid=1) Traceback (most recent call last):\n(APIServer pid=1)   "
            'File "/x.py", line 1, in signal_handler\n(APIServer pid=1)     raise '
            'KeyboardInterrupt("terminated")\n(APIServer pid=1) KeyboardInterrupt: terminated\n'
        ),
        Found("terminated", "terminated", _MACHINE),
    ),
    "import then term": Failure(
        (
            'Traceback (most recent call last):\n  File "/opt/vllm-source/vllm/a.py", line 7, in <module>\n'
            "ImportError: cannot import name 'y' from 'x'\nTerminated\n"
        ),
        Found("import-error", "cannot import name", _IMAGE, 143),
    ),
    "oom then term": Failure(
        engine_failed("torch.OutOfMemoryError: CUDA out of memory.") + ("Terminated\n"),
        Found("gpu-memory", "CUDA out of memory", _MACHINE, 143),
    ),
    "sigquit": Failure(
        ("*** SIGTERM received at time=1695144916 on cpu 2 ***\n"),
        Found("terminated", "SIGTERM", _MACHINE, 143),
    ),
    "go sidecar": Failure(
        (
            '{"level":"error","ts":"2026-11-25T10:00:00Z","msg":"connection refused: permission denied"}\n'
            'I1125 10:00:00.123456       1 main.go:12] "starting" err="address already in use"\nE1125 '
            '10:00:00.123456       1 main.go:12] "connect" err="dial tcp: connection refused"\n'
        )
        + engine_failed("NameError: name 'foo' is not defined"),
        Found("engine-died", "foo", _IMAGE),
    ),
    "go panic": Failure(
        (
            "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: "
            "segmentation violation code=0x1]\n\ngoroutine 1 [running]:\nmain.main()\n"
        ),
        Found("engine-died", "[signal SIGSEGV: segmenta", _IMAGE, 2),
    ),
    "rust main error": Failure(
        (
            "Error: OpenAI server shut down unexpectedly\n\nCaused by:\n    0: failed to bind listener for "
            "OpenAI server\n    1: Address already in use (os error 98)\n"
        ),
        Found("port", "Address already in use", _IMAGE),
    ),
    "env log": Failure(
        (
            "2026-11-25T10:00:00.123456Z  INFO vllm_server: ImportError: nothing\n"
            "2026-11-25T10:00:00.123456Z ERROR vllm_server: engine gone\n(EngineCore pid=3) NameError: "
            "name 'foo' is not defined\n"
        ),
        Found("unknown", "foo", _IMAGE),
    ),
    # vllm#9308.
    "watchdog ends the process": Failure(
        "[rank0]:[E1012 13:52:01.1 ProcessGroupNCCL.cpp:1515] [PG 3 Rank 0] Process group watchdog thread terminated "
        f"with exception: CUDA error: an illegal memory access was encountered\n{_FRAMES}"
        "terminate called after throwing an instance of 'c10::DistBackendError'\n  what():  [PG 3 Rank 0] Process "
        "group watchdog thread terminated with exception: CUDA error: an illegal memory access was encountered\n"
        f"{_FRAMES}"
        "Fatal Python error: Aborted\n",
        Found("engine-died", "what():  [PG 3 Rank 0]", _IMAGE, 134),
    ),
    "thrown, and nothing of Python": Failure(
        "terminate called after throwing an instance of 'std::out_of_range'\n  what():  _Map_base::at\n"
        "Aborted (core dumped)\n",
        Found("engine-died", "_Map_base::at", _IMAGE, 134),
    ),
    "thrown by a process of the server": Failure(
        "(EngineCore pid=27) terminate called after throwing an instance of 'std::runtime_error'\n"
        f"(EngineCore pid=27)   what():  a kernel of another version\n(EngineCore pid=27) Aborted\n{GAVE_UP}",
        Found("engine-died", "a kernel of another version", _IMAGE),
    ),
    "thrown for memory of the GPU": Failure(
        "terminate called after throwing an instance of 'c10::OutOfMemoryError'\n  what():  CUDA out of memory. Tried "
        "to allocate 2.00 GiB.\n",
        Found("gpu-memory", "CUDA out of memory", _MACHINE, 134),
    ),
    "thrown for the network": Failure(
        "terminate called after throwing an instance of 'gloo::EnforceNotMet'\n  what():  [enforce fail at "
        "../third_party/gloo/gloo/transport/tcp/device.cc:208] rp != nullptr. Unable to find address for: hsn0\n",
        Found("network", "Unable to find address for", _MACHINE, 134),
    ),
    "thrown, with another runtime": Failure(
        "libc++abi: terminating due to uncaught exception of type std::length_error: vector\nAborted (core dumped)\n",
        Found("engine-died", "std::length_error: vector", _IMAGE, 134),
    ),
    "ended without an exception": Failure(
        "pure virtual method called\nterminate called without an active exception\nAborted (core dumped)\n",
        Found("engine-died", "pure virtual method called", _IMAGE, 134),
    ),
    "ended without a word": Failure(
        f"terminate called without an active exception\n{GAVE_UP}",
        Found("engine-died", "terminate called without an active exception", _IMAGE, 134),
    ),
    "assertion of the C++ library": Failure(
        "/usr/include/c++/15/bits/stl_vector.h:1263: std::vector<_Tp>::operator[](size_type) [with _Tp = char32_t]: "
        f"Assertion '__n < this->size()' failed.\n{GAVE_UP}",
        Found("engine-died", "__n < this->size()", _IMAGE),
    ),
    # vllm#2084.
    "no network interface for NCCL": Failure(
        "(RayWorker pid=14) h:14:14 [0] NCCL INFO NCCL_SOCKET_IFNAME set by environment to ^lo,docker,veth\n"
        "(RayWorker pid=14) h:14:14 [0] bootstrap.cc:45 NCCL WARN Bootstrap : no socket interface found\n"
        f"{TRACEBACK}torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1331, internal error\n"
        "ncclInternalError: Internal check failed.\nLast error:\nBootstrap : no socket interface found\n",
        Found("nccl", "no socket interface found", _MACHINE),
    ),
    "no network interface, without debugging": Failure(
        worker_failed(
            "Worker_TP0 pid=30",
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2588, internal error\n"
            "ncclInternalError: Internal check failed.\nLast error:\nBootstrap : no socket interface found",
        ),
        Found("nccl", "no socket interface found", _MACHINE),
    ),
    "no route to another node": Failure(
        engine_failed(
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1, remote process exited or there "
            "was a network error\nncclRemoteError: A call failed.\nLast error:\nsocketStartConnect: Connect to "
            "10.0.0.3<43210> failed : No route to host"
        ),
        Found("nccl", "No route to host", _MACHINE),
    ),
    "NCCL's own fault": Failure(
        engine_failed(
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1, internal error\n"
            "ncclInternalError: Internal check failed.\nLast error:\nunexpected topology"
        ),
        Found("nccl", "DistBackendError", _IMAGE),
    ),
    # vllm#9531.
    "model with code of its own": Failure(
        engine_failed(
            "ValueError: Loading m/ requires you to execute the configuration file in that repo on your local machine."
        ),
        Found("model", "requires you to execute", _MACHINE),
    ),
    "model with code of its own, told by pydantic": Failure(
        f"{TRACEBACK}pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, "
        "The repository a/b contains custom code which must be executed to load it. [type=value_error]\n",
        Found("model", "contains custom code", _MACHINE),
    ),
    # vllm#44003.
    "GPUs that cannot reach each other": Failure(
        worker_failed("Worker_TP1 pid=31", "RuntimeError: CUDA runtime error: cudaErrorPeerAccessUnsupported"),
        Found("gpu-unsupported", "cudaErrorPeerAccessUnsupported", _MACHINE),
    ),
    # vllm#13939.
    "server that ends because its engine is dead": Failure(
        "CRITICAL 02-25 11:11:34 launcher.py:101] MQLLMEngine is already dead, terminating server process\n"
        + recorded("", f"{TRACEBACK}RuntimeError: CUDA error: an illegal memory access was encountered")
        + "INFO:     Shutting down\nINFO:     Application shutdown complete.\n",
        Found("engine-died", "illegal memory access", _IMAGE, 0),
    ),
    "sidecar beside the server": Failure(
        "[pod/d-0/routing-proxy] I1125 10:00:00.123456       1 main.go:12] permission denied\n"
        + "".join(f"[pod/d-0/vllm] {line}\n" for line in _OUT_OF_MEMORY.splitlines()),
        Found("gpu-memory", "CUDA out of memory", _MACHINE),
    ),
}

_STAMP = "2026-10-30T21:54:45.622419515Z"
# How others print a server's line.
PREFIXES: Mapping[str, Callable[[str], str]] = {
    "compose": lambda line: f"llm-d-vllm-1  | {line}",
    "compose with time": lambda line: f"vllm-1  | {_STAMP} {line}",
    "compose in colour": lambda line: f"\x1b[36mvllm-1  |\x1b[0m {line}",
    "docker --timestamps": lambda line: f"{_STAMP} {line}",
    "time with offset": lambda line: f"2026-10-30T21:54:45.622419+02:00 {line}",
    "time in brackets": lambda line: f"[2026-10-30 21:54:45] {line}",
    "time with comma": lambda line: f"2026-10-30 21:54:45,622 {line}",
    "time with slashes": lambda line: f"2026/10/30 21:54:45 {line}",
    "time, then a tab": lambda line: f"{_STAMP}\t{line}",
    "time of day": lambda line: f"21:54:45.622 {line}",
    "kernel's time": lambda line: f"[  123.456789] {line}",
    "CRI": lambda line: f"{_STAMP} stderr F {line}",
    "CRI with offset": lambda line: f"2026-10-30T21:54:45.622419515+01:00 stdout F {line}",
    "journald": lambda line: f"Oct  3 21:54:45 gpu-node vllm[8052]: {line}",
    "journald in ISO": lambda line: f"2026-10-30T21:54:45+0000 gpu-node vllm[8052]: {line}",
    "syslog": lambda line: f"<14>1 2026-10-30T21:54:45.003Z host vllm 8052 - - {line}",
    "kubectl --prefix": lambda line: f"[pod/decode-0/vllm] {line}",
    "kubectl --prefix --timestamps": lambda line: f"[pod/decode-0/vllm] {_STAMP} {line}",
    "container in brackets": lambda line: f"[vllm]: {line}",
    "torch's rank": lambda line: f"[rank0]: {line}",
    "torchrun": lambda line: f"[default0]:{line}",
    "mpirun": lambda line: f"[1,0]<stderr>:{line}",
    "srun": lambda line: f" 3: {line}",
    "stern": lambda line: f"decode-0 vllm {line}",
    "stern with bars": lambda line: f"decode-0 \u203a vllm \u2502 {line}",
    "quotation": lambda line: f"> {line}",
    "frame of a terminal program": lambda line: f"\u2502 {line}    \u2502",
    "logger around it": lambda line: f"2026-05-29 09:14:45,594 - INFO - [container] {line}",
    "Ray": lambda line: f"(RayWorkerWrapper pid=1450, ip=10.0.0.3) {line}",
    "json-file": lambda line: json.dumps({"log": f"{line}\n", "stream": "stderr", "time": _STAMP}),
    "colour without its escape": lambda line: f"[0;36m{line}[0;0m",
    "lines of Windows": lambda line: f"{line}\r",
    "name of a container": lambda line: f"3f1b9c2e8d77 {line}",
}
PREFIXED = {
    "CUDA out of memory": recorded(
        "APIServer pid=1", "Failed to import: ImportError('/x.so: undefined symbol: _ZN3')", level="WARNING"
    )
    + "mkdir -p failed for path /h: [Errno 13] Permission denied: '/h'\n"
    + engine_failed("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."),
    "the reason": recorded("APIServer pid=1", "ImportError: optional", level="INFO")
    + printed("APIServer pid=1", f"{TRACEBACK}vllm.odd.MyOdd: the reason"),
}
"""Logs to put prefixes before, by what must be shown of them."""
