"""Any exception as one of ours, so that it can be shown, kept and sent in the same words."""

from __future__ import annotations

import errno

from build.errors import DiskError, EngineError, LlmdDevError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_the_engines(error: Exception) -> bool:
    """Whether the engine's client raises this when the engine is what failed."""
    # A fifth of the time that a start takes, and what needs no engine never comes here.
    import docker.errors  # noqa: PLC0415
    import requests  # noqa: PLC0415

    return isinstance(error, (docker.errors.DockerException, requests.ConnectionError, requests.Timeout))


def as_ours(error: Exception) -> LlmdDevError:
    """An expected failure as it is; the engine's as one of the engine; a full disk as that; all else as a defect."""
    if isinstance(error, LlmdDevError):
        return error
    if is_the_engines(error):
        return EngineError(f"the engine failed: {error}", hint="`python -m build engine status` shows whether it runs")
    if isinstance(error, OSError) and error.errno in _FULL:
        return DiskError(
            f"no space left on this machine: {error.filename or error.strerror}",
            hint="TMPDIR names the folder for temporary files, LLM_D_DEV_STATE and LLM_D_DEV_CACHE those of this tool",
        )
    what = f"{type(error).__name__}: {error}"
    return LlmdDevError(what, hint="this is a defect: report it with the log", see_log=True)
