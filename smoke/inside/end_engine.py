"""Kill the processes of vLLM's engine that run in this container; exit with 1 if there is none.

Run as ``python -I -S -c "$(cat end_engine.py)"`` inside. vLLM titles them ``VLLM::EngineCore``, with a suffix
where there are several (set_process_title in vllm/v1/engine/core.py, 0.32.0).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Kill them."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        # It may have ended, or be another user's.
        with contextlib.suppress(OSError):
            if b"::EngineCore" in (folder / "cmdline").read_bytes().partition(b"\0")[0]:
                os.kill(int(folder.name), signal.SIGKILL)
                found += 1
    sys.exit(not found)


main()
