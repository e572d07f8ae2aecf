"""The last lines of a verb about its image: a permanent name, and the command that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.config import model_name
from build.engine import serving

if TYPE_CHECKING:
    from pathlib import Path

    from build.context import Context
    from build.engine.image import Image
    from build.gate.transfer import Pushed


def ending(
    context: Context, image: Image, *, pushed: Pushed | None = None, model: Path | None = None
) -> dict[str, str]:
    """Return the lines of a verb's result about its image.

    Args:
        context: The engine.
        image: The image.
        pushed: The pushed image, if it was pushed.
        model: Folder or hub name of the tested model; None for the suite's own.
    """
    name = pinned(image, pushed)
    chosen = model_name.chosen(model) if model else None
    line = serving.line(image, name=name, model=chosen, machine=context.engine.capabilities)
    return {"pinned": name, "run": line}


def pinned(image: Image, pushed: Pushed | None = None) -> str:
    """Return a permanent name of an image: its digest in the registry, else its ID on this engine."""
    if pushed:
        return f"{pushed.names[0].rpartition(':')[0]}@{pushed.digest}"
    return image.called if image.called and "@" in image.called else image.id
