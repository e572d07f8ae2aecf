"""A git repository to try things on, with git itself doing everything."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS = {
    "user.name": "t",
    "user.email": "t@localhost",
    "init.defaultBranch": "main",
    # Waiting for the disk takes longer than all the rest.
    "core.fsync": "none",
    # No sample hooks, which are most of the files of a new repository.
    "init.templateDir": "",
    "commit.gpgSign": "false",
    "protocol.file.allow": "always",
    "advice.detachedHead": "false",
}


def git(folder: Path, *words: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
    """Output of a git command in a folder."""
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    done = subprocess.run(
        ["git", *settings, *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **(env or {})},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@dataclass(frozen=True, kw_only=True)
class Work:
    """A repository and its working tree."""

    path: Path

    @classmethod
    def new(cls, path: Path) -> Self:
        path.mkdir(parents=True)
        git(path, "init", "--quiet")
        return cls(path=path)

    def copied(self, path: Path) -> Self:
        """A copy, much faster than making another."""
        shutil.copytree(self.path, path, symlinks=True)
        return type(self)(path=path)

    def git(self, *words: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        return git(self.path, *words, stdin=stdin, env=env).decode(errors="surrogateescape").strip()

    def write(self, name: str, text: str = "", *, mode: int = 0o644) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        file.chmod(mode)
        return file

    def commit(self, message: str = "x", **files: str) -> str:
        """Commit everything as it stands, these top-level files too; returns the id."""
        for name, text in files.items():
            self.write(name, text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


def contents(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything about the files below a folder that a write could change; times of access do not count."""
    found: dict[str, tuple[object, ...]] = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = path.readlink()
            elif path.is_file():
                content = path.read_bytes()
            found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ino, content)
    return found
