"""The expected failures, which are part of the interface.

Each category has one exit code and one word; ``build.cli.main`` is the only place that turns an error into text.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class LlmdDevError(Exception):
    """An expected failure: shown as two lines, never as a traceback.

    Args:
        what: What went wrong and why, one line.
        hint: What the user can do next, one line; shown after ``try:``.
        see_log: Whether the log tells more, so that its path is shown.
        may_pass: Whether a retry may succeed (:mod:`build.host.retry`).
        report: Folder of the report of the failed smoke test.
    """

    word = "internal"
    exit_code = 1

    def __init__(
        self, what: str, *, hint: str, see_log: bool = False, may_pass: bool = False, report: Path | None = None
    ) -> None:
        super().__init__(what)
        self.report = report
        self.may_pass = may_pass
        self.what = " ".join(what.split())
        self.hint = " ".join(hint.split())
        self.see_log = see_log


class UsageError(LlmdDevError):
    """The command line or a setting cannot be used."""

    word = "usage"
    exit_code = 2


class SourceError(LlmdDevError):
    """A path, ref, commit or release cannot be found or read."""

    word = "source"
    exit_code = 3


class IncompatibleError(LlmdDevError):
    """No base can carry the target."""

    word = "incompatible"
    exit_code = 4


class BuildError(LlmdDevError):
    """An image could not be made."""

    word = "build"
    exit_code = 5


class SmokeError(LlmdDevError):
    """An image was started and found broken."""

    word = "smoke"
    exit_code = 6


class GateError(LlmdDevError):
    """An image may not be pushed, or what arrived is not what was tested."""

    word = "gate"
    exit_code = 7


class RegistryError(LlmdDevError):
    """The registry does not answer, or refuses."""

    word = "registry"
    exit_code = 7


class EngineError(LlmdDevError):
    """No usable Docker Engine is available, or it failed."""

    word = "engine"
    exit_code = 8


class DiskError(LlmdDevError):
    """Not enough free disk for what was asked."""

    word = "disk"
    exit_code = 8


class BusyError(LlmdDevError):
    """Another run holds a lock that this run needs."""

    word = "busy"
    exit_code = 9


EXIT_INTERRUPTED = 130
"""The shell's convention for a process ended by Ctrl-C (128 + SIGINT)."""


# --- From any exception --------------------------------------------------------------------------------------------

# The last is the error of a limit on file sizes (setrlimit(2), RLIMIT_FSIZE).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = re.compile("|".join(re.escape(os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT)))
# Errors of files and folders that others changed, or that this user may not use.
_IN_THE_WAY = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
)
_DAMAGED = (errno.EIO, errno.EUCLEAN, errno.ESTALE)
_NO_FOLDER = "No usable temporary directory"
"""The start of tempfile's message (CPython 3.11) if no temporary folder is writable."""


def is_the_engines(error: Exception) -> bool:
    """Return whether the engine's client raises this error for a failed engine."""
    # Importing the client takes a fifth of a start's time, and runs without an engine never get here.
    import docker.errors  # noqa: PLC0415
    import requests  # noqa: PLC0415

    return isinstance(error, (docker.errors.DockerException, requests.ConnectionError, requests.Timeout))


def is_full(said: str) -> bool:
    """Return whether a program reports a full disk or an exhausted quota."""
    return _FULL_WORDS.search(said) is not None


def full(said: str) -> DiskError:
    """Return the error for a full disk of this machine.

    Args:
        said: The file that could not be written, or a program's message.
    """
    return DiskError(
        f"no space left on this machine: {said}",
        hint="`python -m build prune` frees some; TMPDIR names the folder for temporary files, LLM_D_DEV_STATE and "
        "LLM_D_DEV_CACHE those of this tool",
    )


def full_engine(what: str, said: str) -> DiskError | None:
    """Return the error for a full disk of the engine, or None for another message.

    Args:
        what: The image or file in the making.
        said: The engine's message, in Go's wording.
    """
    if "no space left on device" not in said and "disk quota exceeded" not in said:
        return None
    return DiskError(
        f"{what}: no space left on the engine's disk",
        hint="`docker buildx prune` and `docker image prune` free space; then run this again",
    )


def as_ours(error: Exception) -> LlmdDevError:
    """Convert an error: expected ones stay, those of the engine or a disk become its own, all others a defect."""
    if isinstance(error, LlmdDevError):
        return error
    if is_the_engines(error):
        return EngineError(f"the engine failed: {error}", hint="`python -m build engine status` shows whether it runs")
    if isinstance(error, OSError) and (found := _of_files(error)):
        return found
    what = f"{type(error).__name__}: {error}"
    return LlmdDevError(what, hint="this is a defect: report it with the log", see_log=True)


def _of_files(error: OSError) -> LlmdDevError | None:
    """Return the error for a bad file or disk, or None for another cause."""
    if error.errno in _FULL or _NO_FOLDER in str(error):
        return full(str(error.filename2 or error.filename or error.strerror or error))
    # A file is moved into place: the second name is the existing file.
    file = error.filename2 or error.filename
    if file is None:
        return None
    if error.errno in _DAMAGED:
        return DiskError(
            f"{file} cannot be read or written: {error.strerror}", hint="check that disk: `dmesg` tells more"
        )
    if error.errno in _IN_THE_WAY:
        return UsageError(
            f"{file} cannot be used: {error.strerror}",
            hint="see what is there: `ls -ld` it; move it away, or give this user the right to read and write it",
        )
    return None
