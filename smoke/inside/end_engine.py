"""Kill the processes of vLLM's engine that run in this container; exit with 1 without any.

Run as ``python -I -S -c "$(cat end_engine.py)"`` inside. vLLM titles them ``VLLM::EngineCore``, with a suffix
where there are several (set_process_title in vllm/v1/engine/core.py, 0.32.0).

A child kills them, a second later: the server may end with its engine, and the container with the server, and then the
engine that runs containers knows no end of a command in it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LATER_S = 1.0


def main() -> None:
    """Have them killed."""
    found = list(engines())
    if found and not os.fork():
        os.setsid()
        for descriptor in range(3):
            os.close(descriptor)
        time.sleep(LATER_S)
        for number in found:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        os._exit(0)
    sys.exit(not found)


def engines() -> Iterator[int]:
    """Yield the process IDs of the engine."""
    for folder in Path("/proc").glob("[0-9]*"):
        # It may have ended, or be another user's.
        with contextlib.suppress(OSError):
            if b"::EngineCore" in (folder / "cmdline").read_bytes().partition(b"\0")[0]:
                yield int(folder.name)


main()
