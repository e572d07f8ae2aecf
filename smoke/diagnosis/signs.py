"""The texts that give a cause away, one row a text.

They are those of vLLM 0.31 to 0.33, PyTorch, CUDA, NCCL, UCX, NVSHMEM, the compilers and linkers, Docker, runc, the
NVIDIA container toolkit and huggingface_hub. A gap in a pattern has a limit, so that no line takes long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from smoke.diagnosis.raised import PASSED_ON


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
        general: Whether it only says of what kind a failure is: every other cause, and an exception that says
            more, wins.
    """

    cause: str
    pattern: re.Pattern[str]
    advice: str
    image_at_fault: bool
    as_warning: bool
    consequence: bool
    general: bool


def _sign(
    cause: str,
    pattern: str,
    advice: str,
    *,
    image_at_fault: bool = True,
    as_warning: bool = False,
    consequence: bool = False,
    general: bool = False,
) -> Sign:
    return Sign(
        cause=cause,
        pattern=re.compile(pattern),
        advice=advice,
        image_at_fault=image_at_fault,
        as_warning=as_warning,
        consequence=consequence,
        general=general,
    )


_GPU_MEMORY = "free memory on the GPU (`nvidia-smi` names who holds it) or choose another one, then test again"
_NO_GPU = "check that `nvidia-smi` works on the engine's machine and that the NVIDIA container toolkit is set up"
_REBUILD = "build the image on a base whose binaries were compiled from equal sources"
_PORT = "end what holds the port, then test again"
_PERMISSION = "make the named file or folder usable for the image's user and group 0"
_MEMORY = "free memory on the engine's machine, then test again"
_SHM = "give the container more shared memory (`--shm-size` or `--ipc=host`)"
_LIMITS = "raise the limit of the container and the engine (`--ulimit nofile=`, `--ulimit nproc=`, `--pids-limit`)"
_GPU_FAULT = "reset or replace the GPU: `nvidia-smi -q` and the kernel's log (`dmesg | grep Xid`) say what is wrong"
_UNSUPPORTED = "test on a GPU that can do this, or choose another data type, quantization or attention backend"
_OTHER_ARCHITECTURE = "build the image for this GPU's architecture (TORCH_CUDA_ARCH_LIST), or test on another GPU"
_MODEL = "check that the model's folder is mounted, whole, and of a kind that this vLLM knows"
_COMPILER = "add the named compiler, header or library to the base image: vLLM compiles kernels when it starts"
_OPTIONS = "compare the options that the suite gives (`docker inspect` shows them) with the server's `--help`"
_NETWORK = "check the machine's network and RDMA devices, and that the container may use them, then test again"
_REACHED = "check the network, name servers and proxies between the container and the named host, then test again"
_LIBRARY = "add the library to the base image: `ldd` on the named file shows what it lacks"

_CRASHED = "the process crashed in native code: check that the binaries fit this processor and each other"

EXPLAINED = ("missing-op", "missing-library", "undefined-symbol", "import-error", "no-gpu")
"""Causes that an earlier warning explains: binaries that did not load are missed later."""

_AWAY = r"(?!localhost|127\.|0\.0\.0\.0|::1)"
_HOST = rf"host='{_AWAY}[^']{{1,253}}'"
_CAPABILITY = (
    r"[Cc]ompute capability (?:of at least|of \d|>=|\d+(?:\.\d+)? (?:or|and) |is not|not)"
    r"|requires? (?:a )?(?:GPUs? with )?(?:CUDA )?(?:compute )?capability"
    r"|not supported for the current GPU|[Mm]inimum (?:compute )?capability|[Oo]nly supports? \w+ GPUs? or newer"
    r"|not supported (?:on|in|by) (?:this|your|the) (?:current )?(?:GPU|device|architecture)"
    r"|peer access is not supported between|cudaErrorPeerAccessUnsupported|peer mapping resources exhausted"
    r"|CPU does not support x86-64"
    r"|[Dd]evice does not support multicast|only supported on \S{0,40} ?(?:GPUs|CUDA devices) with"
)

# Of several signs in one line the first here wins: put the narrow before the wide.
SIGNS = (
    _sign(
        # libstdc++ (vterminate.cc): what was thrown says so itself, in a line of its own.
        "engine-died",
        r"terminate called (?:after throwing|without an active|recursively)",
        _CRASHED,
        consequence=True,
    ),
    _sign(
        "driver-too-old",
        # cudart and the driver API (cudaErrorInsufficientDriver 35, 803, 804, 222), PyTorch's words for them, and
        # libnvidia-container, src/cli/common.c: the image's NVIDIA_REQUIRE_CUDA is not met.
        r"NVIDIA driver on your system is too old|unsupported display driver|CUDA driver version is insufficient"
        r"|forward compatibility was attempted on non supported HW|compiled with an unsupported toolchain"
        r"|nvidia-container-cli: requirement error|unsatisfied condition: (?:cuda|driver)"
        r"|This container was built for NVIDIA Driver Release|cudaErrorInsufficientDriver"
        r"|cudaErrorUnsupportedPtxVersion|cudaErrorCompatNotSupportedOnDevice",
        "update the NVIDIA driver of the engine's machine, or test on one with a newer driver",
        image_at_fault=False,
        as_warning=True,
    ),
    _sign(
        # libnvidia-container mounts the driver's files; an image committed from a container has them already.
        "driver-files",
        r"nvidia-container-cli: mount error: file creation failed: .{0,300}: file exists",
        "remove the NVIDIA driver's files (`libcuda.so*`, `libnvidia-*`) from the image: the toolkit mounts them",
    ),
    _sign(
        "no-gpu",
        r"lib(?:cuda|nvidia-ml|nvidia-[\w-]+)\.so[.\d]*: cannot open|Driver/library version mismatch",
        _NO_GPU,
        image_at_fault=False,
        as_warning=True,
    ),
    _sign(
        "gpu-fault",
        r"ECC error|cudaErrorECCUncorrectable|fallen off the bus|GPU is lost|GpuIsLost|GPU requires reset|\bNVRM: Xid\b"
        r"|[Uu]ncorrectable NVLink|over nvlink or a hardware error|row remapp\w+ (?:failed|failure|pending)"
        r"|cudaErrorContained|\bXid \d",
        _GPU_FAULT,
        image_at_fault=False,
    ),
    _sign(
        "no-gpu",
        r"could not select device driver|unresolvable CDI devices|CDI device injection failed|inject CDI devices"
        r"|GPU vendor from CDI|CDI (?:is )?(?:not enabled|disabled|not supported)|unknown or invalid runtime name"
        r"|unknown runtime specified nvidia"
        r"|nvidia-container-(?:runtime|cli|toolkit)\S{0,40}: (?:executable file )?not? "
        r"|nvidia-container-(?:runtime|cli|toolkit)[\w.-]{0,20}\"?: (?:executable file not|no such file)"
        r"|nvidia-c(?:di-hook|tk)\b.{0,80}: (?:failed|error|executable|no such)"
        r"|nvidia-container-cli(?:\.real)?: [\w ]{1,40}error"
        r"|adding custom device \"?/dev/|/dev/(?:nvidia|dri|kfd|infiniband|dxg|gdrdrv)[\w/-]*\"?'?:? "
        r"(?:no such (?:file|device)|not found|does not exist|: no such)"
        r"|(?:[Nn]o such file or directory|[Pp]ermission denied|[Oo]peration not permitted|No such device)\)?:? "
        r"['\"]?/dev/(?:nvidia|dri|kfd|infiniband|dxg|gdrdrv)"
        r"|/dev/(?:nvidia|dri|kfd|infiniband)\S{0,40} .{0,20}(?:[Pp]ermission denied|[Oo]peration not permitted)"
        r"|stat(?:'ing)?(?: file)? [`'\"]?/dev/nvidia|no known GPU vendor"
        r"|no healthy devices present|UnexpectedAdmissionError|Insufficient nvidia\.com/gpu",
        _NO_GPU,
        image_at_fault=False,
    ),
    _sign(
        "no-gpu",
        r"no CUDA-capable device is detected|No CUDA GPUs are available|CUDA error: invalid device ordinal"
        r"|[Ff]ailed to initialize NVML|NVML Shared Library Not Found"
        r"|NVMLError_(?:LibraryNotFound|DriverNotLoaded|Unknown"
        r"|NoPermission|Uninitialized)|No supported GPU\(s\) detected|Found no NVIDIA driver on your system"
        r"|CUDA-capable device\(s\) is/are busy or unavailable|all CUDA-capable devices are busy"
        r"|system not yet initialized|Unexpected error from cudaGetDeviceCount|cudaErrorSystemNotReady"
        r"|couldn't communicate with the NVIDIA driver|CUDA driver initialization failed|CUDA_ERROR_NO_DEVICE"
        r"|CUDA_ERROR_SYSTEM_NOT_READY|CUDA unknown error - this may be due to|cudaErrorNoDevice"
        r"|cudaErrorDevicesUnavailable"
        r"|CUDA error: unknown error|(?:larger than|exceeds?) (?:the )?(?:total )?(?:number of )?available GPUs"
        r"|[Nn]ot enough (?:resources|GPUs|devices|available GPUs)"
        r"|Required number of devices|CUDA error: OS call failed|No HIP GPUs are available"
        r"|Cannot provide a placement group|vLLM engine cannot start without GPU",
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
        r"Free memory on device .{0,120} is less than|exceed the desired GPU memory utilization"
        r"|(?:CUDA|HIP|ROCm|XPU) out of memory|(?:CUDA|HIP)(?: driver)? error: out of memory"
        r"|Triton Error \[\w+\]: out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
        r"|CU(?:BLAS|DNN|SPARSE)_STATUS_(?:INTERNAL_ERROR_)?ALLOC_FAILED|[Cc]uda failure 2\b"
        r"|[Cc]uda failure 'out of memory'"
        r"|torch\.(?:cuda\.)?OutOfMemoryError|Failed to CUDA calloc|No available memory for the cache blocks"
        r"|KV cache is needed, which is larger|tokens that can be stored in KV cache"
        r"|exceeds available Mamba cache blocks"
        r"|not enough GPU memory|Error in memory profiling|[Nn]ot enough (?:memory|space) for (?:the )?KV cache",
        _GPU_MEMORY,
        image_at_fault=False,
    ),
    _sign(
        "shm",
        r"Insufficient space in /dev/shm|/dev/shm.{0,200}No space left on device"
        r"|No space left on device.{0,200}/dev/shm"
        r"|No space left on device: '/?(?:psm_|mp-|sem\.|torch_)|insufficient shared memory \(shm\)"
        r"|shared memory segment /dev/shm|failed to extend /dev/shm|unable to (?:open|allocate|resize) shared memory",
        _SHM,
        image_at_fault=False,
    ),
    _sign(
        "limits",
        r"inotify (?:watch|instance).{0,40}limit|\[Errno (?:23|24)\]|[Tt]oo many open files|EMFILE|ENFILE"
        r"|can't start new thread|can't start new process|pthread_create(?: failed|: Resource)"
        r"|pthread_create\(\) failed"
        r"|[Tt]hread creation failed|unable to create (?:new )?(?:native )?thread|failed to create new OS thread"
        r"|BlockingIOError: \[Errno 11\]|OSError: \[Errno 11\]|fork: (?:retry: )?(?:Resource|Cannot)"
        r"|fork rejected by pids"
        r"|(?<!Again: )\bResource temporarily unavailable|unable to allocate necessary resources for OMP"
        r"|Not enough allowed NUMA nodes"
        r"|RLIMIT_(?:NPROC|MEMLOCK|NOFILE).{0,40}(?:too (?:low|small)|exceeded)|pids\.max",
        _LIMITS,
        image_at_fault=False,
    ),
    _sign(
        "disk",
        r"[Nn]o space left on device|Disk quota exceeded|Stale file handle|\[Errno 5\]|database or disk is full"
        r"|[Nn]ot enough free disk space",
        "free disk where the engine keeps its data (`docker system df`), then test again",
        image_at_fault=False,
    ),
    _sign(
        # glibc's words for a library that was loaded too late; it has nothing to do with the machine's memory.
        "missing-library",
        r"in static TLS block|cannot enable executable stack|invalid ELF header|wrong ELF class|: file too short",
        "load the named library first (LD_PRELOAD), or replace it: it does not fit the others in the image",
    ),
    _sign(
        "host-memory",
        r"[Cc]annot allocate memory|can't allocate memory|std::bad_alloc|\b_?(?:Array)?MemoryError\b"
        r"|Unable to allocate [\d.]+ [KMGTP]iB|is less than desired CPU memory utilization"
        r"|less than requested memory for kv|leaving none for the KV cache|[Oo]ut of memory: Killed"
        r"|Memory cgroup out of memory|oom[-_]kill|OOMKilled|node running low on memory|^Killed$"
        r"|line \d+: +\d+ Killed\b|killed by the OOM|ray\.exceptions\.OutOfMemoryError|[Oo]ut of host memory",
        _MEMORY,
        image_at_fault=False,
    ),
    _sign(
        "port",
        r"port is already allocated|failed to bind (?:host )?port|userland proxy|exposing port TCP",
        _PORT,
        image_at_fault=False,
    ),
    _sign("port", r"\[Errno 98\]|[Aa]ddress already in use|EADDRINUSE", _PORT),
    _sign(
        "hub",
        r"(?:40[134]|429) Client Error|[Gg]ated repo"
        r"|[45]\d\d (?:Client|Server) Error.{0,300}(?:huggingface\.co|hf\.co)|couldn't connect to 'https?://"
        r"|huggingface\.co.{0,300}Max retries exceeded|Max retries exceeded.{0,300}huggingface\.co"
        r"|Cannot reach https?://\S*: offline mode is enabled|huggingface\.co.{0,300}Read timed out|CAS service error"
        r"|[Cc]annot access gated repo|Access to model \S+ is restricted|Repository Not Found for url"
        r"|Cannot find an appropriate cached snapshot folder|Consistency check failed: file should be of size"
        r"|\b(?:LocalEntryNotFound|OfflineModeIsEnabled|GatedRepo|RepositoryNotFound|RevisionNotFound|EntryNotFound"
        r"|RemoteEntryNotFound|HfHubHTTP)(?:Error)?\b",
        "use a model folder on disk (`--model`), or wait until the hub answers again",
        image_at_fault=False,
    ),
    _sign(
        "model",
        r"Repo id must (?:be in the form|use alphanumeric)|HFValidationError|Invalid repository ID or local directory"
        r"|is not a local folder and is not a valid model identifier|Incorrect path_or_model_id"
        r"|does not appear to have (?:a|any) files? named|Error no file named|Cannot find any model weights with"
        r"|SafetensorError|MetadataIncompleteBuffer|InvalidHeaderDeserialization|HeaderTooLarge|HeaderTooSmall"
        r"|Error while deserializing header|PytorchStreamReader failed|UnpicklingError: |invalid load key, "
        r"|Can't load (?:tokenizer|(?:the )?configuration|feature extractor|image processor|processor) "
        r"|Unrecognized model in "
        r"|No such file or directory: '(?![^']{0,300}(?:/vllm/|-packages/))[^']{1,300}"
        r"(?:\.(?:safetensors|bin|pt|gguf|model)|config\.json|index\.json|params\.json|tokenizer\w{0,20}\.json)'"
        r"|not a valid JSON file|no config file found",
        _MODEL,
        image_at_fault=False,
    ),
    _sign(
        # transformers, dynamic_module_utils.py, resolve_trust_remote_code.
        "model",
        r"contains custom code which must be executed|requires you to execute the \w+ file in that repo",
        "choose a model that vLLM serves without code of the model's own: the suite does not trust such code",
        image_at_fault=False,
    ),
    _sign("gpu-unsupported", _CAPABILITY, _UNSUPPORTED, image_at_fault=False),
    _sign(
        # NCCL 2.27, bootstrap.cc, misc/socket.cc: said below the exception, as its last error.
        "nccl",
        r"no socket interface found"
        r"|socket\w{0,40} ?: [Cc]onnect to .{0,80} failed : (?:No route|Network is|Host is|Connection timed)",
        _NETWORK,
        image_at_fault=False,
    ),
    _sign(
        "undefined-symbol",
        r"undefined symbol|relocation error: |with link time reference",
        _REBUILD,
        as_warning=True,
    ),
    _sign(
        "missing-compiler",
        r"\b(?:nvcc|gcc|g\+\+|cc1plus|c\+\+|clang|ninja|cmake|ptxas|cicc|ld|as)['\"]?: (?:command )?not found"
        r"|[Cc]ould not find (?:nvcc|CUDA|any (?:C|CUDA) compiler)|Failed to find (?:a )?(?:C|CUDA) compiler"
        r"|fatal error: \S{1,200}: No such file or directory|cannot find -l\w|CUDA_HOME environment variable is not set"
        r"|Ninja is required to load C\+\+ extensions|(?:nvcc|ptxas|nvlink|cicc|fatbinary) fatal|cicc: error"
        r"|unsupported GNU version"
        r"|collect2: (?:fatal )?error|undefined reference to|ld returned \d+ exit status|InvalidCxxCompiler"
        r"|No such file or directory: '[^']{0,200}\b(?:nvcc|gcc|g\+\+|cc|c\+\+|ninja|ptxas|clang|cuobjdump|nvdisasm)'"
        r"|\S:\d{1,6}(?::\d{1,6}|\))?: (?:fatal )?error: |\(\d{1,6}\): (?:fatal )?error:? ",
        _COMPILER,
    ),
    _sign(
        "missing-library",
        r"cannot open shared object file|error while loading shared libraries|version `\w+_[\w.]+' not found"
        r"|version [\w.]+ not found \(required by",
        _LIBRARY,
        as_warning=True,
    ),
    _sign(
        "missing-op",
        r"'_OpNamespace' '\w+' object has no attribute|\bno such operator\b|Could not run '\w+::\w+' with"
        r"|operator \w+::\w+ does not exist|_OpNamespace\b",
        _REBUILD,
    ),
    _sign(
        "syntax-error",
        r"\b(?:SyntaxError|IndentationError|TabError): ",
        "correct the named file and build the image again",
    ),
    _sign(
        "import-error",
        r"\b(?:ModuleNotFoundError|ImportError): |python[\d.]*: No module named \w",
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
        # argparse, click, and clap of the Rust frontend.
        r"\berror: (?:unrecognized arguments|argument |the following arguments|ambiguous option|invalid choice)"
        r"|^Error: (?:No such option|Missing (?:option|argument|parameter)|Invalid value for|Got unexpected extra arg)"
        r"|^error: (?:unexpected argument|invalid value|unrecognized subcommand|a value is required"
        r"|the following required argument|the argument )",
        _OPTIONS,
    ),
    _sign(
        "bad-arguments",
        r"is greater than the derived max_model_len|larger than the (?:derived )?max_model_len"
        r"|longer than the maximum model|must be divisible by (?:tensor|pipeline) parallel size",
        "give a smaller --max-model-len, or a model with a longer context",
        image_at_fault=False,
    ),
    _sign(
        "entrypoint",
        r"executable file not found|[Ee]xec format error|exec:? .{0,200}no such file or directory|command not found",
        "check the image's entry point and that `vllm` is on its PATH",
    ),
    _sign(
        "entrypoint",
        r"unable to find (?:user|group) |no matching entries in (?:passwd|group) file",
        "name a user in the image's USER that its /etc/passwd has, or a number",
    ),
    _sign(
        # runc and containerd name their step; what is wrong with the image has a row above.
        "engine-refused",
        r"OCI runtime (?:create|exec|start|attempted)|failed to create (?:shim|containerd) task"
        r"|Error response from daemon"
        r"|cgroups?: (?:cgroup|cannot|cannot found)|unable to apply cgroup|error setting cgroup"
        r"|failed to write .{0,120}cgroup"
        r"|CreateContainerError|CreateContainerConfigError|RunContainerError|ImagePullBackOff|ErrImagePull"
        r"|Failed to pull image|nodes are available: ",
        "check the engine and the machine that it runs on: it did not start the container",
        image_at_fault=False,
        general=True,
    ),
    _sign(
        "gpu-unsupported",
        r"no kernel image is available|invalid device function|cudaErrorNoKernelImageForDevice",
        _OTHER_ARCHITECTURE,
        general=True,
    ),
    _sign(
        "gpu-unsupported",
        r"is not compatible with the current PyTorch installation|OutOfResources: |[Nn]o valid attention backend",
        _UNSUPPORTED,
        general=True,
    ),
    _sign(
        "compile-cache",
        r"corrupted compilation artifact",
        "remove the compile cache (~/.cache/vllm/torch_compile_cache), then test again to see what is behind it",
        general=True,
    ),
    _sign(
        "unsupported-model",
        r"Model architectures \[.{0,300}\] (?:are not supported|failed to be inspected)"
        r"|does not recognize this architecture",
        "check that the image's vLLM and transformers know the model, and that its module can be imported",
        general=True,
    ),
    _sign(
        "nccl",
        r"NCCL error.{0,200}(?:system error|remote|network|timeout)|ncclSystemError|ncclRemoteError"
        r"|NCCL WARN .{0,60}(?:[Ss]ocket|connect|bind|IB|NET)|Watchdog caught collective operation timeout",
        _NETWORK,
        image_at_fault=False,
        general=True,
    ),
    _sign(
        "nccl",
        r"NCCL error|ncclInternalError|ncclInvalidUsage|ncclUnhandledCudaError|NCCL failure|DistBackendError",
        "test again with NCCL_DEBUG=INFO: NCCL then says what failed",
        general=True,
    ),
    _sign(
        "nixl",
        r"NIXL_ERR_\w+|nixl\w*(?:Backend|NotFound|InvalidParam|Unknown)Error",
        "check that the image's NIXL and UCX fit each other, and that the container may use the RDMA devices",
        general=True,
    ),
    _sign(
        "nvshmem",
        r"nvshmem\S{0,120}: ?(?:non-zero status|NULL value)|nvshmem(?: setup|i?_\w+)?.{0,40}(?:failed|aborting|exiting)"
        r"|aborting due to error in nvshmem|NVSHMEM (?:ERROR|API called before)|ibv_\w+ failed|non-zero status: -?\d+",
        _NETWORK,
        image_at_fault=False,
        general=True,
    ),
    _sign(
        "ucx",
        r"\bUCX +(?:ERROR|FATAL)|\bUCXX?Error\b|ucp_\w+ failed|ibv_\w+\(.{0,80}\) failed",
        _NETWORK,
        image_at_fault=False,
        general=True,
    ),
    _sign(
        # Of another host alone: an address of this one is a process of the image that does not answer.
        "network",
        rf"{_HOST}.{{0,300}}(?:Max retries exceeded|Read timed out)|NameResolutionError|Failed to resolve '"
        r"|[Nn]ame resolution|Name or service not known|No route to host|Network is unreachable"
        r"|Cannot assign requested address|Gloo connectFullMesh failed|Unable to find address for: "
        rf"|gloo/transport/\S{{1,80}} connect \[{_AWAY}|failed to download or load vocab|Unable to locate credentials"
        r"|marked dead because the detector",
        _REACHED,
        image_at_fault=False,
        general=True,
    ),
    _sign("shm", r"\bBus error\b", _SHM, image_at_fault=False, general=True),
    _sign(
        "engine-died",
        r"[Ss]egmentation fault|Illegal instruction|LLVM ERROR|Floating point exception|Fatal Python error"
        r"|\bwhat\(\): |libc\+\+abi: terminating|pure virtual method called"
        r"|core dumped|double free or corruption|corrupted size vs\. prev_size|\bpanicked at\b"
        r"|(?:^|: )(?:free|malloc|realloc|calloc|munmap_chunk|malloc_consolidate)\(\): |stack smashing detected"
        r"|^Failed: Cuda error |Segfault encountered"
        r"|Assertion [`'].{0,200}' failed"
        r"|^Aborted$|Caught signal \d+|SIGSEGV|SIGABRT|SIGILL",
        _CRASHED,
        general=True,
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
        r"died(?: unexpectedly)?,? ?(?:with)? ?\(?exit ?code:? -9\b"
        r"|Failed (?:core|frontend) proc\(s\): \{[^}]{0,300}: -9\b"
        r"|exit ?code *: -9\b|[Ss]ignal 9 \(SIGKILL\)|killed by signal: 9|exitcode: -9",
        "free memory on the engine's machine: a process of the server was killed, most likely for memory",
        image_at_fault=False,
        consequence=True,
    ),
    _sign(
        "network",
        r"[Cc]lient socket has timed out",
        _REACHED,
        image_at_fault=False,
        consequence=True,
    ),
    _sign(
        "engine-died",
        PASSED_ON.pattern + r"|EngineCore failed to start|WorkerProc (?:failed to start|hit an exception)",
        "read the log around the named line: the engine's own process says there why it ended",
        consequence=True,
    ),
)
