"""The NVIDIA GPUs that an engine knows as CDI devices.

https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KIND = "nvidia.com/gpu"
"""The kind of a GPU in the specifications of NVIDIA's container toolkit."""

# https://docs.docker.com/reference/api/engine/version-history/: v1.50 (Docker 28.2) adds DiscoveredDevices to /info.
_TELLS_SINCE = (1, 50)

# The toolkit writes YAML, flat and with one key a line (`nvidia-ctk cdi generate`).
_KIND_LINE = re.compile(rf"""^["']?kind["']?:\s*["']?{re.escape(KIND)}["']?\s*(?:#.*)?$""", re.MULTILINE)
_DEVICE_LINE = re.compile(r"""^devices:\s*(?:#.*)?\n(?:\s*(?:#.*)?\n)*\s*-\s""", re.MULTILINE)


def has_gpus(info: Mapping[str, Any], *, api_version: str, is_here: bool) -> bool:
    """Return whether an engine knows a device of :data:`KIND`.

    Args:
        info: The engine's ``GET /info``. Docker 28.2 and newer list the devices that they found.
        api_version: The newest version of the engine's API.
        is_here: Whether the engine runs on this machine. Specifications on another machine cannot be read.
    """
    if "DiscoveredDevices" in info or tuple(map(int, api_version.split("."))) >= _TELLS_SINCE:
        found = info.get("DiscoveredDevices") or ()
        return any(one.get("Source") == "cdi" and one.get("ID", "").startswith(f"{KIND}=") for one in found)
    return is_here and any(map(_describes_gpus, _specifications(info.get("CDISpecDirs") or ())))


def _specifications(folders: Iterable[str]) -> Iterator[Path]:
    for folder in folders:
        try:
            yield from sorted(path for path in Path(folder).iterdir() if path.suffix in (".json", ".yaml"))
        except OSError:
            continue


def _describes_gpus(path: Path) -> bool:
    """Return whether a specification lists a GPU. The engine ignores unreadable files, and so does this function."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    try:
        document = json.loads(text)
    except ValueError:
        return bool(_KIND_LINE.search(text) and _DEVICE_LINE.search(text))
    return isinstance(document, dict) and document.get("kind") == KIND and bool(document.get("devices"))
