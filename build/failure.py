"""Any exception as one of ours, so that it can be shown, kept and sent in the same words."""

from __future__ import annotations

import docker.errors
import requests

from build.errors import EngineError, LlmdDevError

FROM_THE_ENGINE = (docker.errors.DockerException, requests.ConnectionError)
"""What the engine's client raises when the engine is what failed."""


def as_ours(error: Exception) -> LlmdDevError:
    """An expected failure as it is; the engine's as one of the engine; anything else as a defect."""
    if isinstance(error, LlmdDevError):
        return error
    if isinstance(error, FROM_THE_ENGINE):
        return EngineError(f"the engine failed: {error}", hint="`python -m build engine status` shows whether it runs")
    what = f"{type(error).__name__}: {error}"
    return LlmdDevError(what, hint="this is a defect: report it with the log", see_log=True)
