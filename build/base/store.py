"""Sealed base images: what an overlay can stand on."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from packaging.version import Version
from pydantic import AfterValidator, ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked

from build.engine import labels, names
from build.engine.content import trouble
from build.errors import IncompatibleError, SourceError
from build.host import stored
from build.layer.archive import Ownership
from build.source.listing import Listing
from build.vllm.requirements import Installed

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image

SOURCE = PurePosixPath("/opt/vllm-source")
"""Where every base has vLLM's source, installed editable."""
PYTHON = PurePosixPath("/opt/vllm/bin/python")
"""The Python of every base's virtual environment."""
FACTS = PurePosixPath("/opt/llm-d-dev")
"""Where sealing puts what it found out."""

NOT_IN_IMAGES = ("tests", "docs")
"""Top-level folders that are left out of bases: llm-d's CUDA image deletes them, and so does the cpu flavor."""


def _is_a_version(text: str) -> str:
    Version(text)
    return text


def _is_absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("not an absolute path")
    return path


VersionText = Annotated[str, AfterValidator(_is_a_version)]
"""A version as PEP 440 has it."""
AbsolutePath = Annotated[str, AfterValidator(_is_absolute)]
"""A path inside an image."""

SCHEMA = 7
"""Of what sealing writes, the git directory included. Another number, and the next nightly makes a new base."""

_FORMER = {6: {"shared_index"}}
"""Schemas that overlays can still stand on, and what their descriptions say besides."""


class AnotherSchemaError(ValueError):
    """Another version of this tool wrote a description."""


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Facts:
    """What sealing found out about an image: ``base.json``.

    Attributes:
        flavor: ``cpu`` or ``cuda``.
        commit: Full id of the vLLM commit whose source it holds.
        version: What ``vllm.__version__`` says.
        python: Version of its Python.
        torch: Version of torch, None without one.
        cuda: CUDA version that torch was built for, None on the CPU.
        machine: Processor that it is for, as ``uname -m`` has it.
        distributions: Version of every installed distribution, by normalised name.
        extras: Extras of them whose own requirements are met.
        owner: Owner and permissions of its source files.
        folders: Permissions, user and group of the folders that differ from that, by path below the root.
        made_by_build: Files in the source folder that are not the commit's.
        modified: Files of the commit that the image has with other content.
        build_requires: ``build-system.requires`` of its pyproject.toml.
        unmet: Lines of its requirement files that it does not meet itself.
        metadata: Folder of the installed distribution's metadata; None if it was not found.
        entry_points: Its ``entry_points.txt`` as its pyproject.toml makes it.
        programs: Which of the programs that it declares are installed.
        own_git: Whether it brought a git directory, which then need not know where to fetch what it lacks.
    """

    flavor: str
    commit: str
    version: VersionText
    python: VersionText
    torch: str | None
    cuda: str | None
    machine: str
    distributions: Mapping[str, str]
    extras: Mapping[str, tuple[str, ...]]
    owner: Ownership
    folders: Mapping[str, tuple[int, int, int]]
    made_by_build: tuple[str, ...]
    modified: tuple[str, ...]
    build_requires: tuple[str, ...]
    unmet: tuple[str, ...]
    metadata: AbsolutePath | None
    entry_points: str
    programs: tuple[str, ...]
    own_git: bool

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "owner": vars(self.owner), "schema": SCHEMA}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Facts:
        """From JSON values.

        Raises:
            AnotherSchemaError: Another version of this tool wrote them.
            ValueError: Something is missing, or not what it should be.
        """
        if not isinstance(document, dict):
            raise ValueError("no description")  # noqa: TRY004 - a value that makes no sense, as the others
        schema = document.get("schema")
        if schema not in (SCHEMA, *_FORMER):
            raise AnotherSchemaError(f"schema {schema!r}, not {SCHEMA}")
        dropped = {"schema", *_FORMER.get(schema, ())}
        return TypeAdapter(cls).validate_python({key: value for key, value in document.items() if key not in dropped})

    @property
    def installed(self) -> Installed:
        """What requirements are compared with."""
        return Installed(distributions=self.distributions, extras=self.extras, python=self.python, machine=self.machine)

    @property
    def has_rust(self) -> bool:
        """Whether it ships binaries compiled from vLLM's ``rust/``."""
        return any(path.startswith(("vllm/vllm-rs", "vllm/_rust_")) for path in self.made_by_build)


@dataclass(frozen=True, kw_only=True)
class BaseContents:
    """What a base holds, as far as a delta needs to know.

    Attributes:
        facts: Its ``base.json``.
        held: Source files of the commit as found in the image.
        tree: All files and trees of the commit.
    """

    facts: Facts
    held: Listing
    tree: Listing


@dataclass(frozen=True, kw_only=True)
class Base(BaseContents):
    """A sealed image and what it holds.

    Attributes:
        image: The image.
        name: What to call it.
        compiled: Bytecode below the source folder, by path relative to it.
    """

    image: Image
    name: str
    compiled: frozenset[str]

    @property
    def user(self) -> str:
        """The user that containers run as."""
        return self.image.config.get("User") or "root"


MADE = "made.tree"
"""File of :data:`FACTS` that lists what vLLM's build made, so that a smoke test sees whether it is still that."""

_COMPILED = "compiled.paths"
"""File of :data:`FACTS` that lists bytecode, each path ended by a zero byte (build/base/inside/bytecode.py)."""

DESCRIPTION = "base.json"
"""File of :data:`FACTS` that holds the facts."""

_DESCRIPTION = (DESCRIPTION, "held.tree", "commit.tree")
_FILES = (*_DESCRIPTION, _COMPILED)

_LIMIT_BYTES = 64 * 2**20
"""Of what is read of an image: a base's own are a megabyte or two."""


def files(facts: Facts, held: Listing, tree: Listing) -> dict[str, bytes]:
    """What sealing writes below :data:`FACTS`, by file name."""
    text = json.dumps(facts.document(), indent=2, sort_keys=True) + "\n"
    return dict(zip(_DESCRIPTION, (text.encode(), held.serialize(), tree.serialize()), strict=True))


def load(engine: Engine, image: Image, cache: Path, *, name: str | None = None) -> Base:
    """Read what a base holds, from the image the first time and from the cache after that.

    Args:
        engine: Where the image is.
        image: A sealed base.
        cache: Cache folder. The image ID names the copy, so that it cannot be stale.
        name: What to call it; by default what the image is called first.

    Raises:
        SourceError: The image is no sealed base, or was made from one.
    """
    if image.labels.get(labels.KIND) != "base":
        raise _no_base(image)
    if why := trouble(image):
        raise SourceError(
            f"{image.name} {why}", hint="name the base that it was made from; `python -m build nightly` makes a new one"
        )
    folder = cache / "bases" / image.id.removeprefix("sha256:")
    known = stored.read_files(folder, _FILES)
    try:
        if known and (base := _described(image, known, name)):
            return base
        content = _read(engine, image)
        stored.write_files(folder, content)
        return _parsed(image, content, name)
    except ValueError as error:
        flavor = f" --flavor {found}" if (found := names.flavor_of(image)) else ""
        raise SourceError(
            f"{image.short_id} was sealed by another version of this tool ({error})",
            hint=f"`python -m build nightly{flavor}` makes a new base",
        ) from error


def _described(image: Image, content: Mapping[str, bytes], name: str | None) -> Base | None:
    """A base by the copy in the cache; None if that makes no sense, and the image is to be asked again."""
    try:
        return _parsed(image, content, name)
    except AnotherSchemaError:
        raise
    except ValueError:
        return None


def _parsed(image: Image, content: Mapping[str, bytes], name: str | None) -> Base:
    json_text, held, tree, compiled = (content[file] for file in _FILES)
    return Base(
        image=image,
        name=name or image.name,
        facts=Facts.parse(stored.value(json_text)),
        held=Listing.parse(held),
        tree=Listing.parse(tree),
        compiled=frozenset(os.fsdecode(path) for path in compiled.split(b"\0") if path),
    )


def _read(engine: Engine, image: Image) -> dict[str, bytes]:
    with engine.created(image.id) as container:
        stream, _ = container.get_archive(str(FACTS))
        kept = bytearray()
        for chunk in stream:
            kept += chunk
            if len(kept) > _LIMIT_BYTES:
                raise _no_base(image)
        with tarfile.open(fileobj=io.BytesIO(kept)) as tar:
            members = {PurePosixPath(member.name).name: member for member in tar if member.isfile()}
            if not set(_FILES) <= set(members):
                raise _no_base(image)
            return {name: tar.extractfile(members[name]).read() for name in _FILES}  # type: ignore[union-attr]


def _no_base(image: Image) -> SourceError:
    return SourceError(
        f"{image.name} is no base: it carries no sealed description of its source",
        hint="`python -m build status` lists the bases; `python -m build nightly` makes one",
    )


def candidates(engine: Engine, repository: str) -> list[Image]:
    """Sealed bases on the engine that were promoted, newest first.

    Args:
        engine: Where.
        repository: Local repository name; promotion gives a base a name in it.
    """
    return [image for image in engine.images(kind="base") if names.promoted(image, repository)]


def require_any(found: list[Image]) -> None:
    """Refuse to go on without a base.

    Raises:
        IncompatibleError: There is none.
    """
    if not found:
        raise IncompatibleError(
            "there is no base image on this engine",
            hint="`python -m build nightly` (or quickstart) makes one",
        )
