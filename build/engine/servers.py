"""The servers that run on the engine now, started by smoke tests and `serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.engine import labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container

    from build.engine.client import Engine
    from build.engine.image import Image


def running(engine: Engine, image: Image | None = None) -> list[Container]:
    """Return the containers that serve a model for this tool, newest first.

    Args:
        engine: The engine.
        image: Image of the containers; None for any.
    """
    wanted = f"{labels.SERVER}={image.id}" if image else labels.SERVER
    found = engine.client.containers.list(filters={"label": wanted})
    return [each for each in found if labels.are_own(each.labels, each.name)]


def printed(container: Container) -> Iterator[str]:
    """Yield the lines of a server's output until it ends, without its API key."""
    variables = dict(each.partition("=")[::2] for each in container.attrs["Config"]["Env"] or ())
    key = variables.get("VLLM_API_KEY")
    rest = b""
    for chunk in container.logs(stream=True, follow=True):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            yield text.replace(key, "[redacted]") if key else text
