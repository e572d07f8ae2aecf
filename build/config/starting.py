"""How a server is started beside what the suite says: further arguments of vLLM, further variables."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from build.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CARRIER = "LLMD_SMOKE_ENV"
"""Variable that hands variables on to the suite's process, as a JSON list. The list of processes shows arguments."""

RESERVED_ARGUMENTS = (
    *("--model", "--model-tag", "--served-model-name", "--api-key", "--host", "--port", "--uds", "--root-path"),
    *("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--config", "--headless"),
)
"""What the suite says itself, and what would lead its requests elsewhere (vllm/entrypoints, 0.32.0)."""

RESERVED_VARIABLES = frozenset(
    (
        *("VLLM_API_KEY", "VLLM_HOST_IP", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "HF_HUB_OFFLINE"),
        *("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "TORCH_COMPILE_DISABLE", "VLLM_CPU_KVCACHE_SPACE"),
    )
)
"""What the suite sets itself."""

_ARGUMENT = re.compile(r"(?P<name>--?[A-Za-z][\w.-]*)(?:=.*)?", re.DOTALL)
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>[^\0]*)")
# Of a digest that goes into verdicts: enough to see that a value changed, too little to find a value by trying.
_DIGITS = 4


def argument(word: str) -> str:
    """Check an argument of vLLM.

    Raises:
        UsageError: It is not one word such as ``--name=value``, or the suite says it itself.
    """
    match = _ARGUMENT.fullmatch(word)
    if not match:
        raise UsageError(
            f"--serve-arg {word!r} is not an option", hint="name and value in one: --serve-arg=--name=value"
        )
    name = match["name"].replace("_", "-")
    # vLLM takes an option by its beginning.
    if name.startswith("--") and any(reserved.startswith(name) for reserved in RESERVED_ARGUMENTS):
        raise UsageError(f"--serve-arg {name} is the suite's own", hint="leave it out: it has to find the server")
    return word


def variable(word: str) -> str:
    """Check a variable of the server. No error tells a value.

    Raises:
        UsageError: It is not ``NAME=VALUE``, or the suite sets it itself.
    """
    match = _VARIABLE.fullmatch(word)
    if not match:
        raise UsageError("--env: a word is not NAME=VALUE", hint="such as --env VLLM_USE_TRITON_AWQ=1")
    if match["name"] in RESERVED_VARIABLES:
        raise UsageError(f"--env {match['name']} is the suite's own", hint="leave it out")
    return word


def variables(words: Sequence[str]) -> dict[str, str]:
    """Variables by name; of two with one name the last counts."""
    return {match["name"]: match["value"] for word in words if (match := _VARIABLE.fullmatch(word))}


def marks(found: Mapping[str, str]) -> tuple[str, ...]:
    """What stands for variables where their values must not show: name and a few digits of a digest of the value."""
    return tuple(f"{name}:{hashlib.sha256(found[name].encode()).hexdigest()[:_DIGITS]}" for name in sorted(found))
