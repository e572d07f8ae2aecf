"""Sealed base images, which overlays are built on."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import docker.errors
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

    from docker.models.containers import Container

    from build.engine.client import Engine
    from build.engine.image import Image

FACTS = PurePosixPath("/opt/llm-d-dev")
"""The folder of the facts that sealing wrote."""

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
"""A version by PEP 440."""
AbsolutePath = Annotated[str, AfterValidator(_is_absolute)]
"""A path inside an image."""


def _is_a_place(path: PurePosixPath) -> PurePosixPath:
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError("not an absolute path")
    return path


_Place = Annotated[PurePosixPath, AfterValidator(_is_a_place)]


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Layout:
    """The places of vLLM in an image.

    Attributes:
        source: Folder with the package ``vllm``: an editable checkout, or a folder of installed packages.
        python: The Python that imports vLLM.
        programs: Folder of the programs that vLLM's distribution installed.
        editable: Whether vLLM is installed editable; otherwise from a wheel.
    """

    source: _Place
    python: _Place
    programs: _Place
    editable: bool

    @property
    def git(self) -> PurePosixPath:
        """The git directory of the source. Beside installed packages it would make all of them look like a checkout."""
        return self.source / ".git" if self.editable else FACTS / "source.git"

    def document(self) -> dict[str, Any]:
        """Return the layout as JSON values."""
        places = {name: str(getattr(self, name)) for name in ("source", "python", "programs")}
        return {**places, "editable": self.editable}


OWN_LAYOUT = Layout(
    source=PurePosixPath("/opt/vllm-source"),
    python=PurePosixPath("/opt/vllm/bin/python"),
    programs=PurePosixPath("/opt/vllm/bin"),
    editable=True,
)
"""The layout of the bases that this tool builds."""

SCHEMA = 8
"""The schema of sealed files, the git directory included. With another number, the next nightly builds a new base."""

_FORMER: Mapping[int, set[str]] = {6: {"shared_index"}, 7: set()}
"""Older schemas that overlays accept, with additional facts for their descriptions."""


class AnotherSchemaError(ValueError):
    """A description was written by another version of this tool."""


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Facts:
    """The facts that sealing found about an image: ``base.json``.

    Attributes:
        flavor: ``cpu`` or ``cuda``.
        commit: Full ID of the vLLM commit in the image.
        version: Value of ``vllm.__version__``.
        python: Version of its Python.
        torch: Version of torch; None without torch.
        cuda: CUDA version that torch was built for; None on the CPU.
        machine: Processor in the form of ``uname -m``.
        distributions: Version of every installed distribution, by normalised name.
        extras: Extras of distributions with all requirements met.
        owner: Owner and permissions of its source files.
        folders: Permissions, user and group of the folders that differ from ``owner``, by path below the root.
        made_by_build: Files in the source folder that are not of the commit.
        modified: Files of the commit with other content in the image.
        build_requires: ``build-system.requires`` of its pyproject.toml.
        unmet: Lines of its requirement files that the image does not meet.
        metadata: Metadata folder of the installed distribution; None if it was not found.
        entry_points: ``entry_points.txt``, as its pyproject.toml defines it.
        programs: Declared programs that are installed.
        own_git: Whether the image brought its own git directory, which may not know its remotes.
        layout: The places of vLLM. Bases of former schemas have the layout of the bases that this tool builds.
        record: ``RECORD`` of the installed wheel, which overlays rewrite; empty if vLLM is installed editable.
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
    layout: Layout = OWN_LAYOUT
    record: str = ""

    def document(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return {**vars(self), "owner": vars(self.owner), "layout": self.layout.document(), "schema": SCHEMA}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Facts:
        """Parse JSON values.

        Raises:
            AnotherSchemaError: Another version of this tool wrote them.
            ValueError: A fact is missing or invalid.
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
        """The installed packages to compare requirements with."""
        return Installed(distributions=self.distributions, extras=self.extras, python=self.python, machine=self.machine)

    @property
    def has_rust(self) -> bool:
        """Whether the base has binaries compiled from vLLM's ``rust/``."""
        return any(path.startswith(("vllm/vllm-rs", "vllm/_rust_")) for path in self.made_by_build)


@dataclass(frozen=True, kw_only=True)
class BaseContents:
    """The contents of a base that a delta depends on.

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
    """A sealed image and its contents.

    Attributes:
        image: The image.
        name: Name to show.
        compiled: Bytecode below the source folder, by path relative to it.
    """

    image: Image
    name: str
    compiled: frozenset[str]

    @property
    def user(self) -> str:
        """The user of its containers."""
        return self.image.config.get("User") or "root"


MADE = "made.tree"
"""File of :data:`FACTS` that lists the build's files, so that a smoke test can find changes to them."""

_COMPILED = "compiled.paths"
"""File of :data:`FACTS` that lists bytecode, each path ended by a zero byte (build/base/inside/bytecode.py)."""

DESCRIPTION = "base.json"
"""File of :data:`FACTS` with the facts."""

_DESCRIPTION = (DESCRIPTION, "held.tree", "commit.tree")
_FILES = (*_DESCRIPTION, _COMPILED)

_LIMIT_BYTES = 64 * 2**20
"""Limit for the files read from an image; a base's own take a megabyte or two."""


def files(facts: Facts, held: Listing, tree: Listing) -> dict[str, bytes]:
    """Return the files that sealing writes below :data:`FACTS`, by name."""
    text = json.dumps(facts.document(), indent=2, sort_keys=True) + "\n"
    return dict(zip(_DESCRIPTION, (text.encode(), held.serialize(), tree.serialize()), strict=True))


def load(engine: Engine, image: Image, cache: Path, *, name: str | None = None) -> Base:
    """Read a base's contents from the cache, or from the image the first time.

    Args:
        engine: The engine that has the image.
        image: A sealed base.
        cache: Cache folder. The image ID names the copy, so that it cannot be stale.
        name: Name to show. Default: the image's first name.

    Raises:
        SourceError: The image is not a sealed base, or was derived from one.
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
    """Return the base in the cache's copy, or None if the copy is invalid and the image must be read again."""
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


def has(container: Container, path: PurePosixPath) -> bool:
    """Return whether the image of a container, which need not run, has something at a path."""
    try:
        container.get_archive(str(path))[0].close()  # type: ignore[attr-defined]
    except docker.errors.NotFound:
        return False
    return True


def _no_base(image: Image) -> SourceError:
    return SourceError(
        f"{image.name} is not a base: it has no sealed description of its source",
        hint=f"`python -m build adopt {image.name}` makes it one if it has vLLM; `python -m build status` lists bases",
    )


def candidates(engine: Engine, repository: str) -> list[Image]:
    """Return the engine's promoted bases, newest first.

    Args:
        engine: The engine.
        repository: Local repository name. Promotion names a base in it.
    """
    return [image for image in engine.images(kind="base") if names.promoted(image, repository)]


def require_any(found: list[Image]) -> None:
    """Raise an error without a base.

    Raises:
        IncompatibleError: There is no base.
    """
    if not found:
        raise IncompatibleError(
            "there is no base image on this engine",
            hint="`python -m build nightly` (or quickstart) makes one",
        )
