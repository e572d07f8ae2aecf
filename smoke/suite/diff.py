"""The source files of two images, compared by what the images say of themselves; nothing of them runs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from build.config import settings
from build.engine import client, embedded
from build.errors import LlmdDevError
from smoke.image.contents import Contents, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.source.listing import Entry


def differing(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> dict[str, str]:
    """What became of each file that is not in both alike: ``added``, ``deleted`` or ``modified``, by path."""
    paths = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    return {path: "added" if path not in old else "deleted" if path not in new else "modified" for path in paths}


def main(argv: Sequence[str]) -> int:
    """Print how the second of two images on the engine differs from the first.

    Args:
        argv: Their IDs.

    Returns:
        0, or 1 when one does not say what it holds.
    """
    engine = client.find(embedded_socket=str(embedded.socket(settings.load({}).folders)))
    try:
        assert engine is not None, "whoever starts this has found the engine"
        old, new = (Contents.read(engine, engine.image(name)) for name in argv)
    except (UnreadableError, LlmdDevError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    document = {"commits": [old.head, new.head], "files": differing(old.files, new.files)}
    sys.stdout.write(json.dumps(document))
    return 0
