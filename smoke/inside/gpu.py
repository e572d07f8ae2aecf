"""Look at the GPUs from within the server's container, with the image's own torch and vLLM.

A script for ``build/base/inside/apart.py``.
"""

from __future__ import annotations

import importlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from build.base.inside.apart import Report

STAGES = ("torch", "platform")

SIZE = 128
# Entries below 4: every sum is a whole number below 2048, which even the least exact of a GPU's formats holds.
BELOW = 4

_NODE = re.compile(r"/dev/nvidia\d+")


def torch_facts() -> dict[str, Any]:
    """What torch was built for and sees; for each device whether a matrix product is right."""
    torch = importlib.import_module("torch")
    available = bool(torch.cuda.is_available())
    count = torch.cuda.device_count() if available else 0
    return {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "available": available,
        "products": [product_is_right(torch, f"cuda:{number}") for number in range(count)],
    }


def product_is_right(torch: Any, device: str) -> bool:  # noqa: ANN401 - the image's module
    """Whether a device multiplies two matrices as the processor does."""
    entries = torch.arange(SIZE * SIZE) % BELOW
    one, other = entries.reshape(SIZE, SIZE), ((entries + 1) % BELOW).reshape(SIZE, SIZE)
    product = one.float().to(device) @ other.float().to(device)
    return bool(torch.equal(product.cpu().long(), one @ other))


def platform() -> str:
    """The device that vLLM chose, such as ``cuda``."""
    return str(importlib.import_module("vllm.platforms").current_platform.device_type)


def holders() -> dict[str, list[str]]:
    """GPUs that each process of the container but this one has open, as far as they can be looked into."""
    found: dict[str, list[str]] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with suppress(OSError):
                targets = {str(link.readlink()) for link in (process / "fd").iterdir()}
                if nodes := sorted(target for target in targets if _NODE.fullmatch(target)):
                    found[process.name] = nodes
    return found


def read(report: Report, arguments: Sequence[str]) -> bool:
    """Look at the processes."""
    del arguments
    report.say("holders", holders())
    return True


def look(report: Report, found: bool) -> None:  # noqa: FBT001 - called as any script is
    """Look at what torch and vLLM say, or why they say nothing."""
    del found
    for stage, find in (("torch", torch_facts), ("platform", platform)):
        try:
            report.say(stage, {"found": find(), "failure": ""})
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the image
            report.say(stage, {"found": None, "failure": f"{type(error).__name__}: {error}"[:2000]})
