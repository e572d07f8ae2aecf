"""The ways in which the stand-in can be broken.

A fault of :data:`AT_START` prints the log of a real failure and ends; the others are looked up by name in
:mod:`tests.standin.server`. This file is part of the stand-in's source tree: standard library only.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Ending(NamedTuple):
    """What a server prints before it ends, and how it ends."""

    exit_code: int
    log: str


AT_START = {
    "crash": Ending(
        1,
        """\
(APIServer pid=1) INFO 11-23 18:00:01 [model.py:1650] Using max model len 512
Traceback (most recent call last):
  File "/opt/vllm/bin/vllm", line 10, in <module>
    sys.exit(main())
  File "/opt/vllm-source/vllm/config/model.py", line 412, in __post_init__
    self.hf_config = broken()
RuntimeError: this is the reason""",
    ),
    "syntax-error": Ending(
        1,
        """\
Traceback (most recent call last):
  File "/opt/vllm/bin/vllm", line 4, in <module>
    from vllm.entrypoints.cli.main import main
  File "/opt/vllm-source/vllm/entrypoints/cli/serve.py", line 17
    def cmd(args: argparse.Namespace) -> None
                                             ^
SyntaxError: expected ':'""",
    ),
    "import-error": Ending(
        1,
        """\
(APIServer pid=1) ERROR 11-23 18:00:01 [registry.py:880] Error in inspecting model architecture
Traceback (most recent call last):
  File "/opt/vllm-source/vllm/model_executor/models/llama.py", line 33, in <module>
    from vllm.attention.layer import Attention
ModuleNotFoundError: No module named 'vllm.attention'
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.""",
    ),
    "missing-op": Ending(
        1,
        """\
WARNING 11-23 18:00:01 [cpu.py:62] Failed to import from vllm._C: \
ImportError('/opt/vllm-source/vllm/_C.abi3.so: undefined symbol: _ZNK3c1010TensorImpl27throw_access_errorEv')
(EngineCore pid=77) ERROR 11-23 18:00:51 [core.py:1144] EngineCore failed to start.
(EngineCore pid=77) AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.""",
    ),
    "no-driver": Ending(
        1,
        """\
WARNING 11-23 18:00:01 [cuda.py:242] Failed to import from vllm._C_stable_libtorch: \
ImportError('libcuda.so.1: cannot open shared object file: No such file or directory')
(APIServer pid=1) RuntimeError: Failed to infer device type""",
    ),
    "no-permission": Ending(
        1, "PermissionError: [Errno 13] Permission denied: '/home/vllm/.cache/vllm/torch_compile_cache'"
    ),
    "bad-arguments": Ending(2, "usage: vllm serve\nvllm: error: unrecognized arguments: --enforce-eager"),
    "no-memory": Ending(137, "(APIServer pid=1) INFO 11-23 18:00:01 [model.py:1650] Loading weights"),
    "hub": Ending(
        1,
        """\
huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/api
OSError: We couldn't connect to 'https://huggingface.co' to load the files.""",
    ),
    "no-gpu-memory": Ending(
        1,
        "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU memory "
        "utilization (0.1, 7.9 GiB). Decrease GPU memory utilization.",
    ),
}

RUNNING = (
    "hangs",
    "wrong-version",
    "no-route",
    "no-metrics",
    "wrong-model",
    "wrong-tokens",
    "wrong-usage",
    "wrong-text",
    "wrong-role",
    "wrong-chat",
    "broken-stream",
    "stream-in-one-piece",
    "too-short",
    "wavers",
    "miscounts",
    "counts-wrong",
    "no-done",
    "more-after-usage",
    "numbers-wrongly",
    "positive-logprobs",
    "logprobs-out-of-order",
    "logprobs-of-others",
    "wrong-prompt-logprobs",
    "stale-prefix",
    "breaks-letters",
    "cuts-arguments",
    "drops-a-message",
    "drops-spaces",
    "works-on",
    "open-to-delete",
    "breaks-messages",
    "logs-key",
    "wrong-response",
    "mixes-up",
    "keeps-cancelled",
    "no-seeds-among-many",
    "takes-too-long",
    "no-400",
    "bare-400",
    "no-404",
    "no-auth",
    "any-key",
    "traceback",
    "dies-at-completion",
    "dies-of-memory",
    "unsteady",
    "unhealthy",
    "healthy-without-engine",
    "ignores-sigterm",
    "bad-exit",
    "writes-to-its-source",
    "asks-who-it-is",
    "looks-at-home",
    "hangs-for-anybody",
    "writes-at-completion",
    "prints-without-end",
    "redirects",
    "drips",
    "floods",
    "streams-without-end",
    "says-nothing",
    "packs",
    "commands-the-terminal",
)


_IGNORES = "ignores-"
"""Before the name of a parameter that the server then ignores."""


def active() -> frozenset[str]:
    """The faults that this server shall have: each by name, and ``@`` the way to ask if it is one of that way alone.

    Raises:
        ValueError: There is no such fault.
    """
    names = frozenset(filter(None, os.environ.get("STANDIN_FAULT", "").split(",")))
    known = {*AT_START, *RUNNING}
    if unknown := {name for name in names if name.partition("@")[0] not in known and not name.startswith(_IGNORES)}:
        raise ValueError(f"no fault {', '.join(unknown)!r}")
    return names
