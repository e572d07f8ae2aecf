"""A small vLLM repository to try things on: a clone of the release, with one commit on top."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.errors import SourceError
from build.host import stored
from build.source.git import Git, GitError

if TYPE_CHECKING:
    from pathlib import Path

    from build.console import Console
    from build.context import Context
    from build.source.repository import Commit

# The sample commit's change: the owner in GET /v1/models (vLLM 0.32.0).
_FILE = "vllm/entrypoints/serve/engine/protocol.py"
_OLD = 'owned_by: str = "vllm"'
OWNER = "llm-d-dev-sample"

EXPECTATION = f"/v1/models={OWNER}"
"""Expectation of the smoke suite for an overlay of the sample commit."""

_BRANCH = "sample"
# Fixed, so that the commit has the same ID on every machine.
_IDENTITY = {
    "GIT_AUTHOR_NAME": "llm-d-dev",
    "GIT_AUTHOR_EMAIL": "sample@localhost",
    "GIT_COMMITTER_NAME": "llm-d-dev",
    "GIT_COMMITTER_EMAIL": "sample@localhost",
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The sample repository.

    Attributes:
        path: Its working tree.
        ref: The branch with the sample commit.
    """

    path: Path
    ref: str


def ensure(context: Context, commit: Commit) -> Sample:
    """Return the sample repository of a release, made if it is missing. The user's later work in it stays.

    Args:
        context: Settings and console.
        commit: The release's commit.

    Raises:
        SourceError: Git could not make it, or the release lacks the line to change.
    """
    path = context.folders.state / "sample" / "vllm"
    if _has_sample(path) and not _is_of(path, commit):
        # The repository of another release stays.
        path = path.with_name(f"vllm-{commit.short}")
    if not _has_sample(path):
        if os.path.lexists(path):
            _move_away(path, context.console)
        with context.console.step("sample repository"):
            _create(context.folders.releases, path, commit)
    return Sample(path=path, ref=_BRANCH)


def _has_sample(path: Path) -> bool:
    return _git(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{_BRANCH}") is not None


def _is_of(path: Path, commit: Commit) -> bool:
    return _git(path, "merge-base", "--is-ancestor", commit.id, f"refs/heads/{_BRANCH}") is not None


def _create(releases: Path, path: Path, commit: Commit) -> None:
    """Make the repository under a temporary name, so that a killed run leaves only that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    stored.clear(new)
    _fill(releases, new, commit)
    new.rename(path)


def _move_away(path: Path, console: Console) -> None:
    """Move a damaged sample aside, since the user may have worked on it."""
    aside = path.with_name(f"{path.name}.before-{secrets.token_hex(4)}")
    path.rename(aside)
    console.warn(f"{path} had no branch {_BRANCH!r} and was moved to {aside}")


def _fill(releases: Path, path: Path, commit: Commit) -> None:
    _require(None, "clone", "--quiet", "--no-checkout", releases, path)
    _require(path, "checkout", "--quiet", "--detach", commit.id)
    file = path / _FILE
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if text.count(_OLD) != 1:
        raise SourceError(f"this vLLM has no {_OLD!r} in {_FILE}", hint="set vllm_version to 0.32.0")
    file.write_text(text.replace(_OLD, f'owned_by: str = "{OWNER}"'), encoding="utf-8")
    date = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), f"{commit.timestamp} +0000")
    message = "Name another owner of the model"
    _require(
        path,
        # The user's own settings for commits would change the ID.
        "-c",
        "commit.gpgSign=false",
        "-c",
        "core.hooksPath=/dev/null",
        "commit",
        "--quiet",
        "-am",
        message,
        env=_IDENTITY | date,
    )
    _require(path, "checkout", "--quiet", "-b", _BRANCH)


def _git(path: Path, *words: str | Path) -> bytes | None:
    """Return a git command's output, or None if it failed."""
    if not (path / ".git").exists():
        return None
    try:
        return _in(path).output(*words)
    except GitError:
        return None


def _require(path: Path | None, *words: str | Path, env: dict[str, str] | None = None) -> None:
    try:
        _in(path).given(env or {}).output(*words)
    except GitError as error:
        raise SourceError(
            f"the sample repository could not be made: {error.text}",
            hint="check the free disk below the state folder, then run this again",
        ) from error


def _in(path: Path | None) -> Git:
    """Return git on the sample, which this tool has made."""
    # The clone's source is the repository of releases, a local folder.
    own = {"GIT_ALLOW_PROTOCOL": "file"}
    if path is None:
        return Git.sealed(None, name="the sample").given(own)
    return Git.sealed(path / ".git", name=str(path)).given({**own, "GIT_WORK_TREE": str(path)}, cwd=path)
