"""A network of one's own, so that a second engine does not disturb the bridge and firewall of the first."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.host import process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.engine.client import Engine

_CLONE_NEWNET = 0x40000000
"""From sched.h. Python has os.unshare from 3.12 on."""

IMAGE = "programs:1"


@contextlib.contextmanager
def entered() -> Iterator[None]:
    """A new network namespace for this thread and what it starts, with nothing but a loopback interface."""
    if os.geteuid() != 0:
        pytest.skip("only root can start an engine")
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as outside:
        if libc.unshare(_CLONE_NEWNET):
            pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            process.output(["ip", "link", "set", "lo", "up"])
            yield
        finally:
            assert libc.setns(outside.fileno(), _CLONE_NEWNET) == 0


def listeners() -> list[str]:
    """Addresses of this network that accept TCP connections, in the hexadecimal of proc(5)."""
    tables = (Path("/proc/thread-self/net") / name for name in ("tcp", "tcp6"))
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return sorted(row[1] for row in rows if row[3] == "0A")


def load_image(engine: Engine) -> None:
    """Put an image with a shell and a few programs of this machine onto an engine."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for path in sorted({file for name in ("sh", "sleep", "env") for file in _with_libraries(f"/bin/{name}")}):
            tar.add(path, arcname=path)
    repository, _, tag = IMAGE.partition(":")
    engine.client.api.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)


def _with_libraries(path: str) -> list[str]:
    text = process.output(["ldd", path]).decode()
    return [path, *re.findall(r"(/\S+) \(0x", text)]
