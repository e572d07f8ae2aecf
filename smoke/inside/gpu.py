"""Look at the GPUs from within the server's container, with the image's own torch and vLLM.

Run as ``python -c "$(cat gpu.py)"``; prints one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

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


def main() -> None:
    """Print what is found, each finding or why it is missing."""
    # What libraries print meanwhile goes to the error output.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    findings: dict[str, Any] = {"holders": holders()}
    for name, find in (("torch", torch_facts), ("platform", platform)):
        try:
            findings[name] = find()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the image
            findings[name] = None
            findings[f"{name}_failure"] = f"{type(error).__name__}: {error}"[:2000]
    output.write(json.dumps(findings) + "\n")
    output.flush()


main()
