"""A view of a foreign repository: a git directory that this tool makes.

Git's files and objects are data, but its configuration and hooks name programs. The view has links to the data (like
git's contrib/workdir/git-new-workdir), no hooks, and a configuration that this tool writes. From the configurations of
the repository and the user, it takes only the settings that map files to contents. It leaves out filters, monitors,
helpers, remotes and includes, so that git on the view cannot start programs that the repository names.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import SourceError
from build.source.git import Git, GitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Settings for the mapping of files to contents, ignored files, and sparse checkouts (git-config(1)).
_TAKEN = (
    *("core.filemode", "core.ignorecase", "core.symlinks", "core.precomposeunicode"),
    *("core.autocrlf", "core.eol", "core.checkstat", "core.trustctime"),
    *("core.sparsecheckout", "core.sparsecheckoutcone"),
)
_TAKEN_FILES = ("core.excludesfile", "core.attributesfile")
_FORMAT = "core.repositoryformatversion"
_EXTENSION = re.compile(r"extensions\.[a-z0-9-]+")
# The first names a remote; the settings of the second are already included.
_EXTENSIONS_DONE = ("extensions.partialclone", "extensions.worktreeconfig")

_SHARED = ("objects", "refs", "packed-refs", "logs", "shallow", "reftable")
_OWN = ("refs", "logs", "reftable")
_PSEUDO_REF = re.compile(r"[A-Z][A-Z_]*")
_SHARED_INDEX = "sharedindex.*"

_ALTERNATES = 5
_CONFIG_BYTES = 2**20
_REF_BYTES = 2**16
_INFO_BYTES = 2**23
_TRUE = ("true", "yes", "on", "1")

_LINK = "gitdir:"

_HINT = "give the path of a vLLM clone: `dev -- PATH [REF]`"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The absolute paths of a repository's parts.

    Attributes:
        git_dir: Folder of ``HEAD`` and the index.
        common_dir: Folder of objects, refs and configuration; differs in a linked worktree.
        work_tree: Folder of the files; None for a bare repository, or if unknown.
        settings: Configuration by lower-case name, without included files.
    """

    git_dir: Path
    common_dir: Path
    work_tree: Path | None
    settings: Mapping[str, str]

    @property
    def is_users(self) -> bool:
        """Whether all parts belong to the user of this process."""
        places = (self.git_dir, self.common_dir, *([self.work_tree] if self.work_tree else ()))
        return all(place.stat().st_uid == os.geteuid() for place in places if place.exists())

    @property
    def is_sparse(self) -> bool:
        """Whether the working tree may be sparse."""
        return is_true(self.settings.get("core.sparsecheckout", ""))


def find(path: Path) -> Layout:
    """Find the repository of a path.

    Args:
        path: Working tree or a folder in it, its ``.git``, or a git directory.

    Raises:
        SourceError: The path does not exist, or is not in a repository.
    """
    if not path.exists():
        raise SourceError(f"there is no {path}", hint=_HINT)
    start = path.resolve()
    if path.name == ".git":
        # .git may be a symbolic link: the working tree is the folder of the link.
        folder = path.parent.resolve()
        return _in_folder(folder) if path.is_file() else _require(_named(folder / ".git"), path)
    folders = (start, *start.parents) if start.is_dir() else ()
    return _require(next(filter(None, map(_around, folders)), None), path)


def _require(found: Layout | None, path: Path) -> Layout:
    if found is None:
        raise SourceError(f"{path} is not a git repository", hint=_HINT)
    return found


def _around(folder: Path) -> Layout | None:
    """Return the repository whose working tree or git directory a folder is, or None."""
    if (folder / ".git").is_file():
        return _in_folder(folder)
    return _named(folder / ".git") or _named(folder)


def _in_folder(folder: Path) -> Layout:
    """Return the repository of a linked worktree, a submodule, or ``git init --separate-git-dir``.

    The working tree is the folder of the file ``.git``, like in git itself (gitrepository-layout(5)). The path in the
    git directory may be outdated after a move or copy of the folder.
    """
    text = _text(folder / ".git", _REF_BYTES)
    named = text.removeprefix(_LINK).strip()
    if not text.startswith(_LINK) or not named:
        raise SourceError(
            f"{folder} is not a git repository: its file .git {_why_no_link(text)}",
            hint=f"write `{_LINK} PATH_OF_THE_GIT_DIRECTORY` into it, or clone again",
        )
    git_dir = (folder / named).resolve()
    if not _is_git_dir(git_dir):
        raise SourceError(
            f"{folder} is not a git repository: its .git points to {named}",
            hint="if the folder was moved, run `git worktree repair` in its main repository",
        )
    return _place(git_dir, work_tree=folder)


def _why_no_link(text: str) -> str:
    """Return why git does not accept a file ``.git`` as a link (setup.c, read_gitfile_gently)."""
    if not text.strip():
        return "is empty"
    if os.fsencode(text).startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "begins with a byte order mark, which git does not read"
    return "names no folder" if text.startswith(_LINK) else f"does not begin with `{_LINK}`"


def _named(git_dir: Path) -> Layout | None:
    """Return the repository of a git directory, or None if it is not one."""
    return _place(git_dir, work_tree=None) if _is_git_dir(git_dir) else None


def _is_git_dir(folder: Path) -> bool:
    """Return whether a folder is a git directory (gitrepository-layout(5))."""
    known = (folder / "commondir").is_file() or _has_objects(folder)
    return known and ((folder / "HEAD").is_file() or (folder / "HEAD").is_symlink())


def _has_objects(folder: Path) -> bool:
    return (folder / "objects").is_dir() and (folder / "refs").is_dir()


def _place(git_dir: Path, *, work_tree: Path | None) -> Layout:
    common_dir = _common_dir(git_dir)
    settings = _settings(common_dir / "config")
    if is_true(settings.get("extensions.worktreeconfig", "")):
        settings |= _settings(git_dir / "config.worktree")
    found = work_tree or _work_tree(git_dir, common_dir, settings)
    return Layout(git_dir=git_dir, common_dir=common_dir, work_tree=found, settings=settings)


def _common_dir(git_dir: Path) -> Path:
    link = git_dir / "commondir"
    folder = (git_dir / _text(link, _REF_BYTES).strip()).resolve() if link.is_file() else git_dir
    if not (_is_git_dir(folder) and _has_objects(folder)):
        raise SourceError(f"{git_dir} is not a git repository: it belongs to {folder}, which is not one", hint=_HINT)
    return folder


def _work_tree(git_dir: Path, common_dir: Path, settings: Mapping[str, str]) -> Path | None:
    """Return the working tree that a git directory names, or None."""
    if git_dir != common_dir:
        return _linked(git_dir)
    if is_true(settings.get("core.bare", "")):
        return None
    if named := settings.get("core.worktree"):
        return (git_dir / named).resolve()
    return git_dir.parent if git_dir.name == ".git" else None


def _linked(git_dir: Path) -> Path | None:
    """Return the working tree of ``worktrees/<id>`` if it still exists, else None."""
    link = git_dir / _text(git_dir / "gitdir", _REF_BYTES).strip()
    pointed = link.parent / _text(link, _REF_BYTES).removeprefix("gitdir:").strip()
    return link.parent.resolve() if link.is_file() and pointed.resolve() == git_dir else None


def missing_alternates(objects: Path, *, depth: int = _ALTERNATES) -> list[Path]:
    """Return the missing folders among those that an object database borrows from (gitrepository-layout(5)).

    Args:
        objects: Folder of the database.
        depth: Maximum length of a chain of databases (the limit in git's object-file.c).
    """
    text = _text(objects / "info/alternates", _INFO_BYTES)
    named = [(objects / line).resolve() for line in text.splitlines() if line and not line.startswith("#")]
    if not depth:
        return []
    further = (folder for one in named if one.is_dir() for folder in missing_alternates(one, depth=depth - 1))
    return [*(one for one in named if not one.is_dir()), *further]


def is_true(value: str) -> bool:
    """Return whether a setting of git is true."""
    return value.lower() in _TRUE


def _settings(file: Path) -> dict[str, str]:
    """Return the settings of one file, without included files.

    Raises:
        SourceError: The file is unreadable.
    """
    if not file.exists():
        return {}
    _require_small(file, _CONFIG_BYTES)
    try:
        raw = Git.sealed(Path(os.devnull), name=str(file)).output(
            "config", "--file", file, "--no-includes", "--list", "-z"
        )
    except GitError as error:
        raise SourceError(
            f"{file} cannot be read: {error.last_line}", hint="run `git config --list` there to see why"
        ) from error
    return _parsed(raw)


def _parsed(raw: bytes) -> dict[str, str]:
    rows = (row.partition("\n") for row in raw.decode(errors="surrogateescape").split("\0") if row)
    # A name without a value is true.
    return {name: value if equals else "true" for name, equals, value in rows}


def _users_settings() -> dict[str, str]:
    """Return the user's settings for all repositories."""
    try:
        return _parsed(replace(Git.reaching(Path(os.devnull)), options=()).output("config", "--list", "-z"))
    except GitError:
        return {}


def write(folder: Path, place: Layout) -> Path:
    """Write a view of a repository.

    Args:
        folder: Empty folder.
        place: Layout of the repository.

    Returns:
        The git directory for git.
    """
    shared = folder / "git"
    shared.mkdir()
    _link(place.common_dir, shared, _SHARED)
    _copy_refs(place.common_dir, shared)
    _copy_info(place.common_dir, shared, ("exclude", "attributes"))
    (shared / "config").write_text(_config(place), encoding="utf-8", errors="surrogateescape")
    view = shared
    if place.git_dir != place.common_dir:
        view = folder / "linked"
        view.mkdir()
        (view / "commondir").write_text(f"{shared}\n", encoding="utf-8", errors="surrogateescape")
        _link(place.git_dir, view, _OWN)
        _copy_refs(place.git_dir, view)
    _link(place.git_dir, view, (file.name for file in place.git_dir.glob(_SHARED_INDEX)))
    _copy_info(place.git_dir, view, ("sparse-checkout",))
    return view


def _link(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        if (source / name).exists():
            (target / name).symlink_to(source / name)


def _copy_refs(source: Path, target: Path) -> None:
    """Copy ``HEAD`` and similar files. Git does not accept symbolic links for them."""
    for file in source.iterdir():
        if not _PSEUDO_REF.fullmatch(file.name):
            continue
        if file.is_symlink():
            text = f"ref: {file.readlink()}\n"
        elif file.is_file() and file.stat().st_size <= _REF_BYTES:
            text = _text(file, _REF_BYTES)
        else:
            continue
        (target / file.name).write_text(text, encoding="utf-8", errors="surrogateescape")


def _copy_info(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        file = source / "info" / name
        if file.is_file():
            (target / "info").mkdir(exist_ok=True)
            _require_small(file, _INFO_BYTES)
            (target / "info" / name).write_bytes(file.read_bytes())


def _config(place: Layout) -> str:
    given, users = place.settings, _users_settings()
    both = {**users, **given}
    taken = {key: both[key] for key in _TAKEN if key in both}
    taken |= {key: path for key in _TAKEN_FILES if key in both and (path := _file(both[key]))}
    taken |= {key: value for key, value in given.items() if _EXTENSION.fullmatch(key) and key not in _EXTENSIONS_DONE}
    taken |= {_FORMAT: given.get(_FORMAT, "0"), "core.splitindex": "false"}
    # New objects live only as long as the view, so no fsync is needed.
    taken["core.fsync"] = "none"
    if place.work_tree is None:
        taken["core.bare"] = "true"
    rows = (key.partition(".") for key in taken)
    return "".join(f"[{section}]\n\t{name} = {_quoted(taken[section + dot + name])}\n" for section, dot, name in rows)


def _file(value: str) -> str | None:
    """Return a configured path if it is a regular file, else None: git would wait for a pipe."""
    path = Path(os.path.expanduser(value))  # noqa: PTH111 - an unknown user's home is no error
    return str(path) if path.is_file() else None


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _text(file: Path, limit: int) -> str:
    """Return a small file's text up to a NUL byte, or an empty text without a file."""
    if not file.is_file():
        return ""
    with file.open("rb") as content:
        return os.fsdecode(content.read(limit).partition(b"\0")[0])


def _require_small(file: Path, limit: int) -> None:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        raise SourceError(f"{file} is not a file of at most {limit >> 20} MiB", hint="check it: git expects text there")
