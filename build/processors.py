"""Processors that stay awake while two programs hand each other many small things.

Each hand-over wakes a thread. On a processor that sleeps when it has nothing to do, and above all in a virtual machine,
where that is an exit to the host, waking takes longer than what is to be done.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

LATENCY_REQUESTS = Path("/dev/cpu_dma_latency")
"""Takes requests on how long any processor may need to wake up (Linux, Documentation/power/pm_qos_interface.rst)."""

_AT_ONCE = bytes(4)
"""Microseconds, as the signed 32-bit number that the device reads."""


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Let no processor of this machine sleep while the block runs, which is to be short.

    The kernel holds to it as long as the device is open: it ends with the process, however that ends. Only root may
    ask; for others, and where there is no such device, the block runs as it would have.
    """
    with contextlib.ExitStack() as held:
        try:
            device = held.enter_context(LATENCY_REQUESTS.open("r+b", buffering=0))
            device.write(_AT_ONCE)
        except OSError as error:
            log.debug("processors may sleep: %s", error)
        yield
