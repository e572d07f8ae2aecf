"""The contents of a base or an overlay, read through the engine without starting anything.

Everything here comes from the image under test: sizes are bounded, git reads only objects whose ids it computed
itself, and no configuration of the image's is used.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

import docker.errors

from build.base.store import DESCRIPTION, FACTS, MADE, Facts, has
from build.engine import labels
from build.errors import LlmdDevError
from build.host import scratch
from build.source.git import Git, GitError
from build.source.listing import EXECUTABLE, REGULAR, SUBMODULE, SYMLINK, Entry, Listing, blob_id
from build.source.repository import Repository
from build.vllm import version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from docker.models.containers import Container

    from build.engine.client import Engine
    from build.engine.image import Image

_LIMIT = 512 * 2**20
"""Bytes that are read of one path at most. vLLM's git directory is 15 MB, its Python 60 MB."""

_INDEX_S = 300
"""Seconds for the index of a pack, which takes one or two. Thousands of small differences may unpack to terabytes."""

_TEXT_BYTES = 16 * 2**20

_TOGETHER = 4
"""Wanted files of one folder from which on the folder is read as a whole: a request takes longer than their bytes."""

_NOTHING = Listing(files={}, trees={})

_OID = re.compile(r"[0-9a-f]{40}")


class UnreadableError(Exception):
    """An image lacks what every base and overlay has; the message says what."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a base or an overlay.

    Attributes:
        facts: Its base's ``base.json``.
        held: Source files of the base as sealing found them.
        made: What vLLM's build made in the base, with the ids of the contents.
        head: The commit that its git directory is at.
        subject: First line of that commit's message.
        tree: All files of that commit.
        changed: Those that it has otherwise than the base.
        found: Of the files that differ from the base's, what is in the image.
        base_texts: What the base had, by path, of files that were changed.
    """

    facts: Facts
    held: Listing
    made: Listing
    head: str
    subject: str
    tree: Listing
    changed: Mapping[str, Entry]
    found: Mapping[str, Entry]
    base_texts: Mapping[str, str]

    @classmethod
    def read(cls, engine: Engine, image: Image) -> Self:
        """Read an image.

        Raises:
            UnreadableError: Something is missing or cannot be understood.
        """
        with engine.created(image.id) as container, scratch.folder() as folder:
            sealed = _members(container, FACTS)
            facts, held, made = _sealed(sealed)
            source, place = facts.layout.source, facts.layout.git
            git = _members(container, place, skip=("index",))
            head = _head(git, place)
            with _repository(Path(folder), git, head, place) as repository:
                tree, subject = _tree(repository, head, place), repository.commit(head).subject
                absent = tree.top_level - held.top_level if facts.layout.editable else frozenset()
                carried = frozenset(name for name in absent if has(container, source / name))
                wanted = changed(held, tree, carried, made=made)
                if head == facts.commit:
                    # A base may have files of its own; sealing has looked at them.
                    wanted = {path: entry for path, entry in wanted.items() if path.partition("/")[0] in carried}
                gone = [path for path in held.files if path not in tree.files]
                texts = {path: _text(repository, held.files[path].oid) for path in wanted if path in held.files}
            found = _found(container, (*wanted, *gone), source)
        return cls(
            facts=facts,
            held=held,
            made=made,
            head=head,
            subject=subject,
            tree=tree,
            changed=wanted,
            found=found,
            base_texts=texts,
        )

    @property
    def files(self) -> dict[str, Entry]:
        """The source files that the image holds."""
        differ = (*self.changed, *self.deleted)
        kept = {path: entry for path, entry in self.held.files.items() if path not in set(differ)}
        return kept | {path: self.found[path] for path in differ if path in self.found}

    @property
    def deleted(self) -> tuple[str, ...]:
        """Files of the base that the commit has not."""
        return tuple(sorted(path for path in self.held.files if path not in self.tree.files))

    @property
    def wrong(self) -> tuple[str, ...]:
        """Changed files that the image has not as the commit has them."""
        return tuple(sorted(path for path, entry in self.changed.items() if self.found.get(path) != entry))

    @property
    def stale(self) -> tuple[str, ...]:
        """Files of the base that the commit deletes and the image still has."""
        return tuple(sorted(path for path in self.found if path not in self.tree.files))


def changed(
    held: Listing, tree: Listing, carried: frozenset[str] = frozenset(), *, made: Listing = _NOTHING
) -> dict[str, Entry]:
    """The files of a commit that differ from the base's.

    Args:
        held: What the base holds.
        tree: The commit.
        carried: Top-level entries that count although the base does not hold them.
        made: What vLLM's build made, which stays as it is.
    """
    folders = held.top_level | carried
    untouched = {version.FILE, *made.files}
    return {
        path: entry
        for path, entry in tree.files.items()
        if entry.mode != SUBMODULE
        and path.partition("/")[0] in folders
        and path not in untouched
        and held.files.get(path) != entry
    }


def is_ours(engine: Engine, image: Image) -> bool:
    """Whether an image is a base or an overlay, or made from one: by its labels or, if they deny it, by its files."""
    if image.labels.get(labels.KIND) in ("base", "overlay"):
        return True
    with engine.created(image.id) as container:
        return has(container, FACTS / DESCRIPTION)


# --- Reading from a container that never runs ------------------------------------------------------------


def _members(container: Container, path: PurePosixPath, *, skip: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Contents of the files below a folder, by path relative to it."""
    with _archive(container, path) as tar:
        wanted = [member for member in tar if member.isfile() and _below(member.name) not in skip]
        return {_below(member.name): _content(tar, member) for member in wanted}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    return content.read() if content else b""


def _below(name: str) -> str:
    """The name of an archive's member without the folder that was asked for."""
    return name.partition("/")[2]


@contextlib.contextmanager
def _archive(container: Container, path: PurePosixPath) -> Iterator[tarfile.TarFile]:
    try:
        stream, _ = container.get_archive(str(path))
    except docker.errors.NotFound as error:
        raise UnreadableError(f"the image has no {path}") from error
    kept = io.BytesIO()
    for chunk in stream:
        kept.write(chunk)
        if kept.tell() > _LIMIT:
            raise UnreadableError(f"{path} is larger than {_LIMIT >> 20} MiB")
    kept.seek(0)
    with tarfile.open(fileobj=kept) as tar:
        yield tar


def _sealed(files: Mapping[str, bytes]) -> tuple[Facts, Listing, Listing]:
    try:
        facts = Facts.parse(json.loads(files["base.json"]))
        return facts, Listing.parse(files["held.tree"]), Listing.parse(files[MADE])
    except KeyError as error:
        raise UnreadableError(f"{FACTS} has no {error.args[0]}") from error
    except ValueError as error:
        raise UnreadableError(f"{FACTS} cannot be read: {error}") from error


def _found(container: Container, paths: Iterable[str], source: PurePosixPath) -> dict[str, Entry]:
    """Mode and blob id of those paths below the source folder that the image has."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        # Two levels, not one: the compiled files lie directly below `vllm`.
        folders["/".join(path.split("/")[:2]) if path.count("/") > 1 else path].append(path)
    found: dict[str, Entry] = {}
    for folder, wanted in folders.items():
        places = [folder] if len(wanted) >= _TOGETHER else wanted
        for place in places:
            found |= {path: entry for path, entry in _entries(container, source, place) if path in set(wanted)}
    return found


def _entries(container: Container, source: PurePosixPath, path: str) -> Iterator[tuple[str, Entry]]:
    """Mode and blob id of a file, or of all files below a folder."""
    parent = path.rpartition("/")[0]
    try:
        with _archive(container, source / path) as tar:
            for member in tar:
                if entry := _entry(tar, member):
                    name = member.name.rstrip("/")
                    yield (f"{parent}/{name}" if parent else name), entry
    except UnreadableError:
        return


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry | None:
    if member.issym():
        return Entry(mode=SYMLINK, oid=blob_id(member.linkname.encode("utf-8", "surrogateescape")))
    if not member.isfile():
        return None
    mode = EXECUTABLE if member.mode & 0o100 else REGULAR
    return Entry(mode=mode, oid=blob_id(_content(tar, member)))


# --- Its git directory -----------------------------------------------------------------------------------


def _head(git: Mapping[str, bytes], place: PurePosixPath) -> str:
    """The commit that HEAD names, directly or through a branch."""
    text = git.get("HEAD", b"").decode(errors="replace").strip()
    if text.startswith("ref: "):
        text = git.get(text.removeprefix("ref: "), b"").decode(errors="replace").strip()
    if not _OID.fullmatch(text):
        raise UnreadableError(f"{place}/HEAD names no commit")
    return text


@contextlib.contextmanager
def _repository(folder: Path, git: Mapping[str, bytes], head: str, place: PurePosixPath) -> Iterator[Repository]:
    """The objects of an image's git directory in one of our own: nothing that the image configures counts."""
    own = Git.sealed(folder, name=str(place))
    own.output("init", "--quiet", "--bare")
    # Its parents are not there and not needed.
    (folder / "shallow").write_text(f"{head}\n", encoding="ascii")
    for number, (name, content) in enumerate(sorted(git.items())):
        if re.fullmatch(r"objects/pack/pack-[0-9a-f]+\.pack", name):
            pack = folder / f"objects/pack/pack-{number}.pack"
            pack.write_bytes(content)
            _index(own, pack, place / name)
    with contextlib.closing(Repository(folder)) as repository:
        yield repository


def _index(git: Git, pack: Path, place: PurePosixPath) -> None:
    """Compute the id of every object of a pack from its content, one that is damaged or endless excluded."""
    try:
        git.output("-c", "pack.threads=1", "index-pack", pack, seconds=_INDEX_S)
    except GitError as error:
        raise UnreadableError(f"{place} is damaged") from error
    except LlmdDevError as error:
        raise UnreadableError(f"{place}: {error.what}") from error


def _tree(repository: Repository, head: str, place: PurePosixPath) -> Listing:
    try:
        return repository.listing(repository.commit(head))
    except LlmdDevError as error:
        raise UnreadableError(f"{place} lacks the commit {head[:12]} or its trees") from error


def _text(repository: Repository, oid: str) -> str:
    """Text of a blob, no more than any of vLLM's has; empty where the git directory does not have it."""
    try:
        with repository.blob(oid) as (_, content):
            return content.read(_TEXT_BYTES).decode(errors="replace")
    except LlmdDevError:
        return ""
