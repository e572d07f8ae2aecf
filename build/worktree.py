"""Uncommitted work as a commit that is in no repository.

The working tree is taken as it is: staged, unstaged and new files that are not ignored, deletions, modes. The
user's index and objects stay as they are: git works on a copy of the index and writes objects to a throw-away
folder that has the repository's as alternates.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build import command, scratch
from build.errors import SourceError
from build.git import ISOLATED, Commit, Repository, quoted
from build.names import Stem

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fixed, so that the same work has the same id: that is how an image of it is recognised.
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "uncommitted work"), ("EMAIL", "dirty@localhost"))
}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A working tree at one moment.

    Attributes:
        source: The repository together with the snapshot's objects; usable while the snapshot is open.
        commit: The work as a commit on top of ``head``.
        head: What was checked out.
        tree: Id of its tree.
    """

    source: Repository
    commit: Commit
    head: Commit
    tree: str

    @property
    def name(self) -> Stem:
        """What its image is called."""
        return Stem.local(self.head.id, tree=self.tree)


@contextlib.contextmanager
def snapshot(repository: Repository) -> Iterator[Snapshot]:
    """The working tree of a repository as a commit, while the block runs.

    Args:
        repository: A clone or worktree with files checked out.

    Raises:
        SourceError: It is bare, has no commit yet, or is in the middle of a merge.
    """
    folder = repository.work_tree
    if folder is None:
        raise SourceError(f"{repository.path} is bare: it has no uncommitted work", hint="leave out --dirty")
    head = repository.commit("HEAD")
    with scratch.folder() as name:
        place = Path(name)
        (place / "objects").mkdir()
        if repository.index.exists():
            # With its time stamps: git then need not read the files that did not change.
            shutil.copy2(repository.index, place / "index")
        git = _Git(folder=folder, git_dir=repository.git_dir, scratch=place, objects=repository.objects)
        # Asked first: adding would take the files for resolved, markers and all.
        if unmerged := git("ls-files", "--unmerged", "-z"):
            raise SourceError(
                f"{folder} is in the middle of a merge: {unmerged.split(chr(0))[0].partition(chr(9))[2]} has conflicts",
                hint="resolve the conflicts, then run this again",
            )
        sparse = git("config", "--type=bool", "--default=false", "core.sparseCheckout") == "true"
        # Whatever lies there, also where a sparse checkout would have nothing.
        git("add", "--all", *(["--sparse"] if sparse else ()))
        tree = git("write-tree")
        date = {f"GIT_{who}_DATE": f"@{head.timestamp} +0000" for who in ("AUTHOR", "COMMITTER")}
        subject = f"Uncommitted work on {head.short}"
        oid = git("commit-tree", tree, "-p", head.id, "-m", subject, **_IDENTITY, **date)
        commit = Commit(id=oid, subject=subject, timestamp=head.timestamp)
        with contextlib.closing(Repository(repository.path, more_objects=place / "objects")) as source:
            yield Snapshot(source=source, commit=commit, head=head, tree=tree)


@dataclass(frozen=True, kw_only=True)
class _Git:
    """Git on a working tree, writing to the scratch folder only."""

    folder: Path
    git_dir: Path
    scratch: Path
    objects: tuple[Path, ...]

    def __call__(self, *words: str, **variables: str) -> str:
        env = {
            **ISOLATED,
            "GIT_DIR": str(self.git_dir),
            "GIT_WORK_TREE": str(self.folder),
            "GIT_INDEX_FILE": str(self.scratch / "index"),
            "GIT_OBJECT_DIRECTORY": str(self.scratch / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.pathsep.join(map(quoted, self.objects)),
        }
        # A split index would be written next to the user's own; waiting for the disk would be for nothing, because
        # nothing of this outlives the run.
        options = ["core.splitIndex=false", "core.fsync=none", "commit.gpgSign=false"]
        # Nor are hooks started: git has one for whatever changes an index. A filter of git-lfs keeps what it reads.
        options += [f"core.hooksPath={os.devnull}", f"lfs.storage={self.scratch / 'lfs'}"]
        argv = ["git", "-C", str(self.folder), *(word for option in options for word in ("-c", option)), *words]
        try:
            return command.output(argv, env=env | variables).decode(errors="surrogateescape").strip()
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip()
            raise SourceError(
                f"the uncommitted work in {self.folder} cannot be read: {said}",
                hint=f"see whether `git -C {self.folder} status` works",
            ) from error
