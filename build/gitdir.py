"""The small git directory that images carry at ``/opt/vllm-source/.git``.

Holds one commit, its trees and the blobs of the files that are in the image, so that ``git status``, ``git diff``
and ``git log -1`` work without a network. Files that the image leaves out are marked in the index. Everything is
made next to the source repository, with its objects as alternates: the source is only read.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from build import command, scratch
from build.listing import SUBMODULE, Listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from build.git import Commit, Repository

REMOTES: Mapping[str, str] = {
    "vllm": "https://github.com/vllm-project/vllm.git",
    "njhill": "https://github.com/njhill/vllm.git",
    "tms": "https://github.com/tlrmchlsmth/vllm.git",
    "nm": "https://github.com/neuralmagic/vllm.git",
}
"""Git remotes set up in every image."""

BASE_REF = "refs/llm-d-dev/base"
"""Names the base's commit inside an image: ``git diff llm-d-dev/base`` shows what an overlay changed."""


def write_full(target: Path, *, source: Repository, commit: Commit, tree: Listing, present: frozenset[str]) -> None:
    """Write the git directory of a base.

    Args:
        target: The new ``.git`` folder.
        source: Repository that has the commit.
        commit: What ``HEAD`` is to be.
        tree: The commit's files and trees.
        present: Paths of the tree that the image holds.
    """
    for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
        (target / folder).mkdir(parents=True)
    (target / "config").write_text(_config(), encoding="utf-8")
    (target / "info" / "sparse-checkout").write_text(_sparse(tree, present), encoding="utf-8", errors="surrogateescape")
    blobs = (entry.oid for path, entry in tree.files.items() if path in present and entry.mode != SUBMODULE)
    with _Workshop(source) as workshop:
        workshop.pack([commit.id, *tree.trees.values(), *blobs], target / "objects" / "pack")
        workshop.index(commit, tree, present, target / "index")
    _write_head(target, commit=commit, base=commit.id, shallow=[commit.id])


def write_move(  # noqa: D417 - `source` and `commit` are as above
    target: Path,
    *,
    source: Repository,
    commit: Commit,
    tree: Listing,
    present: frozenset[str],
    base_commit: str,
    known: frozenset[str],
) -> None:
    """Write those files of a git directory that move a base's one to another commit.

    Args:
        target: Folder that is laid over the base's ``.git``.
        tree: The new commit's files and trees.
        present: Paths of the tree that the image will hold.
        base_commit: The base's commit.
        known: Ids of the trees and blobs that the base's git directory has.
    """
    (target / "objects" / "pack").mkdir(parents=True)
    wanted = [*tree.trees.values(), *(tree.files[path].oid for path in sorted(present))]
    with _Workshop(source) as workshop:
        if commit.id != base_commit:
            workshop.pack([commit.id, *(oid for oid in wanted if oid not in known)], target / "objects" / "pack")
        workshop.index(commit, tree, present, target / "index")
    shallow = sorted({base_commit, commit.id})
    _write_head(target, commit=commit, base=base_commit, shallow=shallow)


def _write_head(target: Path, *, commit: Commit, base: str, shallow: Iterable[str]) -> None:
    (target / "HEAD").write_text(f"{commit.id}\n", encoding="ascii")
    (target / "shallow").write_text("".join(f"{oid}\n" for oid in shallow), encoding="ascii")
    (target / BASE_REF).parent.mkdir(parents=True, exist_ok=True)
    (target / BASE_REF).write_text(f"{base}\n", encoding="ascii")


def _config() -> str:
    lines = ["[core]", "\trepositoryformatversion = 1", "\tfilemode = true", "\tbare = false"]
    # Files that the image leaves out stay left out when another commit is checked out.
    lines += ["\tsparseCheckout = true", "\tsharedRepository = group"]
    # Objects that are not here are promised by the first remote, fetched only when something asks for them.
    lines += ["[extensions]", "\tpartialClone = vllm"]
    for name, address in REMOTES.items():
        lines += [
            f'[remote "{name}"]',
            f"\turl = {address}",
            f"\tfetch = +refs/heads/*:refs/remotes/{name}/*",
        ]
        lines += ["\tpromisor = true", "\tpartialclonefilter = blob:none"]
    return "\n".join(lines) + "\n"


def _sparse(tree: Listing, present: frozenset[str]) -> str:
    """Patterns that keep what the image holds, whole top-level entries at once (gitignore(5) syntax)."""
    kept = {path.partition("/")[0] for path in present}
    absent = {path for path in tree.files if path not in present and path.partition("/")[0] in kept}
    # Characters of patterns stand for themselves.
    names = (re.sub(r"([*?\[\\ ])", r"\\\1", name) for name in sorted((tree.top_level - kept) | absent))
    return "/*\n" + "".join(f"!/{name}\n" for name in names)


class _Workshop:
    """A throw-away git directory that sees the source's objects."""

    def __init__(self, source: Repository) -> None:
        self._source = source
        self._folder = scratch.folder()

    def __enter__(self) -> Self:
        self._dir = Path(self._folder.name) / "git"
        for name in ("objects/info", "refs"):
            (self._dir / name).mkdir(parents=True)
        (self._dir / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
        alternates = b"".join(os.fsencode(folder) + b"\n" for folder in self._source.objects)
        (self._dir / "objects" / "info" / "alternates").write_bytes(alternates)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _git(self, *words: str | Path, lines: bytes = b"", index: Path | None = None) -> None:
        with tempfile.TemporaryFile() as stdin:
            stdin.write(lines)
            stdin.seek(0)
            # Not the user's settings: core.splitIndex, say, would leave half of the index here.
            env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
            env |= {"GIT_DIR": str(self._dir), "GIT_NO_LAZY_FETCH": "1"}
            env |= {"GIT_INDEX_FILE": str(index)} if index else {}
            # What is made here lives for seconds: waiting for the disk would be for nothing.
            command.output(["git", "-c", "core.fsync=none", *words], env=env, cwd=self._dir, stdin=stdin)

    def pack(self, oids: Iterable[str], folder: Path) -> None:
        """Write exactly these objects as a promisor pack: what they refer to may be missing."""
        lines = "".join(f"{oid}\n" for oid in dict.fromkeys(oids)).encode("ascii")
        # One thread and no bitmap: the same objects give the same bytes.
        self._git("pack-objects", "--quiet", "--threads=1", "--delta-base-offset", folder / "pack", lines=lines)
        for pack in folder.glob("pack-*.pack"):
            pack.with_suffix(".promisor").touch()

    def index(self, commit: Commit, tree: Listing, present: frozenset[str], target: Path) -> None:
        """Write an index of the whole tree in which what the image leaves out is marked skip-worktree."""
        self._git("read-tree", commit.id, index=target)
        absent = sorted(path for path in tree.files if path not in present)
        lines = b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for path in absent)
        if absent:
            self._git("update-index", "--skip-worktree", "-z", "--stdin", lines=lines, index=target)
        # Version 4 stores paths by their difference to the one before: two thirds of the size.
        self._git("update-index", "--index-version", "4", index=target)
