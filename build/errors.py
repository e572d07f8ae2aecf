"""What can go wrong, as part of the interface.

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
        hint: What the user can do next, one line; shown behind ``try:``.
        see_log: Whether the log tells more, so that its path is shown too.
        may_pass: Whether the same may work in a while (:mod:`build.host.retry`).
        report: Folder of the report of a smoke test that this comes from.
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
    """A path, ref, commit or release cannot be had."""

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
    """No usable Docker Engine, or it failed."""

    word = "engine"
    exit_code = 8


class DiskError(LlmdDevError):
    """Not enough free disk for what was asked."""

    word = "disk"
    exit_code = 8


class BusyError(LlmdDevError):
    """Another run holds what this one needs."""

    word = "busy"
    exit_code = 9


EXIT_INTERRUPTED = 130
"""The shell's convention for a process ended by Ctrl-C (128 + SIGINT)."""


# --- From any exception --------------------------------------------------------------------------------------------

# The last is what a limit on the size of files gives (setrlimit(2), RLIMIT_FSIZE).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = re.compile("|".join(re.escape(os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT)))
# Of a file or folder that is not what this tool left there, or that this user may not use.
_IN_THE_WAY = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
)
_DAMAGED = (errno.EIO, errno.EUCLEAN, errno.ESTALE)
_NO_FOLDER = "No usable temporary directory"
"""How tempfile (CPython 3.11) begins what it says where no folder for temporary files can be written to."""


def is_the_engines(error: Exception) -> bool:
    """Return whether the engine's client raises this when the engine is what failed."""
    # A fifth of the time that a start takes, and what needs no engine never comes here.
    import docker.errors  # noqa: PLC0415
    import requests  # noqa: PLC0415

    return isinstance(error, (docker.errors.DockerException, requests.ConnectionError, requests.Timeout))


def is_full(said: str) -> bool:
    """Return whether a program says that a disk is full, or a quota used up."""
    return _FULL_WORDS.search(said) is not None


def full(said: str) -> DiskError:
    """The failure that a full disk of this machine is.

    Args:
        said: Which file could not be written, or what a program said.
    """
    return DiskError(
        f"no space left on this machine: {said}",
        hint="`python -m build prune` frees some; TMPDIR names the folder for temporary files, LLM_D_DEV_STATE and "
        "LLM_D_DEV_CACHE those of this tool",
    )


def full_engine(what: str, said: str) -> DiskError | None:
    """The failure that a full disk of the engine is; None if the engine's words say something else.

    Args:
        what: What was to be made.
        said: The engine's words, which have Go's spelling.
    """
    if "no space left on device" not in said and "disk quota exceeded" not in said:
        return None
    return DiskError(
        f"{what}: no space left on the engine's disk",
        hint="`docker buildx prune` and `docker image prune` free space; then run this again",
    )


def as_ours(error: Exception) -> LlmdDevError:
    """An expected failure as it is; the engine's as one of the engine; a disk's as that; all else as a defect."""
    if isinstance(error, LlmdDevError):
        return error
    if is_the_engines(error):
        return EngineError(f"the engine failed: {error}", hint="`python -m build engine status` shows whether it runs")
    if isinstance(error, OSError) and (found := _of_files(error)):
        return found
    what = f"{type(error).__name__}: {error}"
    return LlmdDevError(what, hint="this is a defect: report it with the log", see_log=True)


def _of_files(error: OSError) -> LlmdDevError | None:
    """What a file or a disk is to blame for; None if the operating system says something else."""
    if error.errno in _FULL or _NO_FOLDER in str(error):
        return full(str(error.filename2 or error.filename or error.strerror or error))
    # A file is moved into its place: what is there is the second name.
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
