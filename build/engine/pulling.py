"""Images from registries, pulled by the engine with the logins of this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import docker.auth
import docker.errors
import docker.utils
import requests

from build.engine import credentials
from build.host.secrets import redacted

if TYPE_CHECKING:
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.host import process


def pulled(engine: Engine, image: str, progress: process.OnLine) -> Image | str:
    """Return an image by its registry name: pulled, or the engine's own copy if no registry answers.

    Args:
        engine: The engine.
        image: The name.
        progress: Called with lines about the transfer.

    Returns:
        The image, or the reason in words why it cannot be pulled.
    """
    repository, tag = docker.utils.parse_repository_tag(image)
    login = credentials.stored(docker.auth.resolve_repository_name(repository)[0], os.environ)
    try:
        # The SDK's own method drops an error in the middle of the answer.
        for row in engine.client.api.pull(
            repository, tag=tag or "latest", stream=True, decode=True, auth_config=login.for_engine()
        ):
            if "error" in row:
                return _loaded_or_why(engine, image, str(row["error"]))
            progress(f"{row.get('status', '')} {row.get('id', '')}".strip())
    except docker.errors.APIError as error:
        return _loaded_or_why(engine, image, str(error.explanation or error))
    except requests.RequestException as error:
        return _loaded_or_why(engine, image, str(error))
    return _loaded_or_why(engine, image, "the engine pulled it but does not have it")


def _loaded_or_why(engine: Engine, image: str, said: str) -> Image | str:
    """Return the engine's image of this name (possibly loaded by hand), else why it was not pulled."""
    return engine.find_image(image) or f"{image} cannot be pulled here ({redacted(' '.join(said.split()))})"
