"""What a user goes on with when a verb has ended with an image: a name that stays, and the line that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.config import model_name
from build.engine import serving

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from build.engine.client import Image
    from build.gate.transfer import Pushed


def ending(
    context: Context, image: Image, *, pushed: Pushed | None = None, model: Path | None = None
) -> dict[str, str]:
    """Lines of a verb's result about its image.

    Args:
        context: The engine.
        image: The image.
        pushed: Where it is now, if it was pushed.
        model: Folder of the model that it was tested with, or its name on the hub; None for the suite's own.
    """
    name = pinned(image, pushed)
    chosen = model_name.chosen(model) if model else None
    line = serving.line(image, name=name, model=chosen, machine=context.engine.capabilities)
    return {"pinned": name, "run": line}


def pinned(image: Image, pushed: Pushed | None = None) -> str:
    """A name that means this image for good: by its digest in the registry, else by its ID on this engine."""
    if pushed:
        return f"{pushed.names[0].rpartition(':')[0]}@{pushed.digest}"
    return image.called if image.called and "@" in image.called else image.id
