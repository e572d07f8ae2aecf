"""Any exception as one of ours, so that it can be shown, kept and sent in the same words."""

from __future__ import annotations

import errno

import docker.errors
import requests

from build.errors import DiskError, EngineError, LlmdDevError

FROM_THE_ENGINE = (docker.errors.DockerException, requests.ConnectionError, requests.Timeout)
"""What the engine's client raises when the engine is what failed."""


_FULL = (errno.ENOSPC, errno.EDQUOT)


def as_ours(error: Exception) -> LlmdDevError:
    """An expected failure as it is; the engine's as one of the engine; a full disk as that; all else as a defect."""
    if isinstance(error, LlmdDevError):
        return error
    if isinstance(error, FROM_THE_ENGINE):
        return EngineError(f"the engine failed: {error}", hint="`python -m build engine status` shows whether it runs")
    if isinstance(error, OSError) and error.errno in _FULL:
        return DiskError(
            f"no space left on this machine: {error.filename or error.strerror}",
            hint="TMPDIR names the folder for temporary files, LLM_D_DEV_STATE and LLM_D_DEV_CACHE those of this tool",
        )
    what = f"{type(error).__name__}: {error}"
    return LlmdDevError(what, hint="this is a defect: report it with the log", see_log=True)
