"""Sealing: turns an image with vLLM into a base with a verified description."""

from __future__ import annotations

import logging
import stat
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from build.base import store
from build.base.probe import probe
from build.base.store import Facts
from build.config.folders import INSIDE
from build.engine import buildx, content, labels
from build.errors import SourceError
from build.host import scratch
from build.layer import gitdir
from build.layer.archive import Ownership, Tarball
from build.layer.gitdir import State
from build.source.listing import REGULAR, SUBMODULE, Entry, Listing
from build.source.target import Target
from build.vllm import requirements
from build.vllm.paths import made_by_build
from build.vllm.requirements import Installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from build.base.probe import Found
    from build.console import Console
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.source.repository import Commit, Repository

log = logging.getLogger(__name__)

DOCKERFILE = buildx.DOCKERFILES / "seal.Dockerfile"

_NAMED = 5


def seal(
    engine: Engine,
    image: Image,
    *,
    flavor: str,
    source: Repository,
    commit: Commit,
    marks: Mapping[str, str],
    console: Console,
    found: Found | None = None,
    modified: bool = False,
) -> str:
    """Turn an image into a base, after a check of its contents.

    Args:
        engine: The engine that has the image.
        image: The image, unsealed.
        flavor: ``cpu`` or ``cuda``.
        source: Repository with the commit and its blobs.
        commit: Commit that the image was built from.
        marks: Further labels.
        console: Console for progress.
        found: What the image holds, if it was examined before.
        modified: Whether the image may have other contents of the commit's files.

    Returns:
        ID of the sealed image.

    Raises:
        SourceError: The image does not have vLLM, or does not hold this commit.
        BuildError: A step failed.
    """
    with console.step("seal") as progress:
        progress("reading what the image holds")
        found = found or probe(engine, image)
        target = Target.of(source, commit)
        held = _held(found, commit, target.tree, modified=modified)
        with scratch.folder() as folder, engine.temporary_tag(image.id) as name:
            progress("writing its description and git directory")
            with (Path(folder) / "seal.tar").open("wb") as stream:
                facts = _write(stream, found, flavor=flavor, target=target, held=held)
            request = buildx.ImageBuild(
                dockerfile=DOCKERFILE,
                context=Path(folder),
                contexts={"inside": INSIDE},
                arguments={
                    "BASE": name,
                    "BASE_USER": image.config.get("User") or "root",
                    "PYTHON": str(found.layout.python),
                    "SOURCE": str(found.layout.source),
                    "INSTALLED": "editable" if found.layout.editable else "wheel",
                },
                labels={**_labels(facts), **marks},
            )
            return content.mark(engine, buildx.build(engine, request, progress=progress), progress=progress)


def recipe_texts() -> list[str]:
    """Return the texts that decide what sealing adds: the Dockerfile and the scripts that run inside."""
    return [path.read_text(encoding="utf-8") for path in (DOCKERFILE, *sorted(INSIDE.glob("*.py")))]


def _write(stream: IO[bytes], found: Found, *, flavor: str, target: Target, held: Listing) -> Facts:
    """Write the archive of the files that sealing adds. Return the facts about the base."""
    tree, commit = target.tree, target.commit
    with scratch.folder() as folder:
        git = Path(folder) / "git"
        if not found.has_repository:
            state = State(commit=commit.id, tree=tree, present=frozenset(held.files))
            gitdir.write_full(git, source=target.source, state=state)
        facts = _facts(found, flavor=flavor, target=target, held=held)
        files = {**store.files(facts, held, tree), store.MADE: _made(found, facts).serialize()}
        _write_tar(stream, files, git, facts=facts, timestamp=commit.timestamp)
    return facts


def _held(found: Found, commit: Commit, tree: Listing, *, modified: bool) -> Listing:
    """Return the files of the commit's tree that are in the image.

    Raises:
        SourceError: The package's files are missing or differ: the image was built from another commit, or changed. In
            an editable checkout only Python files count, as llm-d's build changes others. Or an installed wheel has
            modules of its own.
    """
    files = {path: Entry(mode=mode, oid=oid) for path, mode, oid in found.files}
    held = {path: _as_tracked(entry, tree.files[path], found) for path, entry in files.items() if path in tree.files}
    differ = _modified(held, tree)
    counts = _runs if found.layout.editable else _is_packaged
    whole = {path for path, entry in tree.files.items() if counts(path) and entry.mode != SUBMODULE}
    wrong = sorted((whole - held.keys()) | (whole & set(differ)))
    if wrong and not modified:
        names = ", ".join(wrong[:_NAMED])
        raise SourceError(
            f"the image does not hold {commit.short}: {len(wrong)} files differ or are missing ({names})",
            hint="--commit names the commit that the image was built from; --modified of `adopt` takes it as it is",
        )
    if added := sorted(path for path in files.keys() - tree.files.keys() if _is_added(path, found)):
        names = ", ".join(added[:_NAMED])
        raise SourceError(
            f"the image has {len(added)} modules that {commit.short} does not have ({names})",
            hint="take an image without them, or name the commit that has them with --commit",
        )
    for path in differ:
        log.warning("the image has its own %s", path)
    return Listing(files=held, trees={})


def _as_tracked(entry: Entry, tracked: Entry, found: Found) -> Entry:
    """Return a file with the commit's mode if only that differs: a wheel's installation does not keep modes."""
    return tracked if not found.layout.editable and entry.oid == tracked.oid else entry


def _modified(held: Mapping[str, Entry], tree: Listing) -> list[str]:
    return sorted(path for path, entry in held.items() if entry.oid != tree.files[path].oid)


def _facts(found: Found, *, flavor: str, target: Target, held: Listing) -> Facts:
    """Return the facts about the base."""
    installed = _installed(found)
    return Facts(
        flavor=flavor,
        commit=target.commit.id,
        version=found.version,
        python=found.python,
        machine=found.machine,
        torch=found.torch.version,
        cuda=found.torch.cuda,
        distributions=installed.distributions,
        extras=installed.extras,
        owner=Ownership(
            uid=found.uid,
            gid=_group(found),
            file_mode=_sealed(found, found.file_mode),
            folder_mode=_sealed(found, found.folder_mode),
        ),
        folders=_folders(found),
        made_by_build=tuple(sorted(path for path, _, _ in found.files if path not in held.files)),
        modified=tuple(_modified(held.files, target.tree)),
        build_requires=target.pyproject.build_requires,
        unmet=tuple(requirements.unmet(target.requires(flavor), installed)),
        metadata=found.metadata,
        entry_points=target.pyproject.entry_points_text,
        programs=tuple(sorted(target.pyproject.programs.keys() & set(found.programs))),
        own_git=found.has_repository,
        layout=found.layout,
        record=found.record,
    )


def _installed(found: Found) -> Installed:
    installed = Installed(distributions=found.distributions, extras={}, python=found.python, machine=found.machine)
    extras = requirements.met_extras(installed, provided=found.provided, requires=found.requires)
    return replace(installed, extras=extras)


def _folders(found: Found) -> dict[str, tuple[int, int, int]]:
    """Return permissions, user and group of the folders that differ from the source's root after sealing."""
    usual = (_sealed(found, found.folder_mode), found.uid, _group(found))
    pairs = ((PurePosixPath(path), marks) for path, marks in found.folders.items())
    sealed = {
        str(path).lstrip("/"): (_sealed(found, mode), uid, _group(found))
        if found.layout.editable and path.is_relative_to(found.layout.source)
        else (mode, uid, gid)
        for path, (mode, uid, gid) in pairs
    }
    return {path: marks for path, marks in sorted(sealed.items()) if path and marks != usual}


def _group(found: Found) -> int:
    """Return the group of the source after sealing, which opens an editable checkout to group 0."""
    return 0 if found.layout.editable else found.gid


def _sealed(found: Found, mode: int) -> int:
    """Return permissions after sealing. ``inside/group.py`` gives the group of an editable checkout the owner's."""
    return mode | (mode & stat.S_IRWXU) >> 3 if found.layout.editable else mode


def _made(found: Found, facts: Facts) -> Listing:
    """Return the files in the source folder that are not of the commit."""
    made = set(facts.made_by_build)
    files = {path: Entry(mode=mode, oid=oid) for path, mode, oid in found.files if path in made}
    return Listing(files=files, trees={})


def _runs(path: str) -> bool:
    return path.startswith("vllm/") and path.endswith(".py") and not made_by_build(path)


def _is_added(path: str, found: Found) -> bool:
    """Return whether an untracked file of an installed wheel is a module that vLLM's build does not make."""
    return not found.layout.editable and path.endswith(".py") and _is_packaged(path)


def _is_packaged(path: str) -> bool:
    return path.startswith("vllm/") and not made_by_build(path)


def _write_tar(stream: IO[bytes], files: Mapping[str, bytes], git: Path, *, facts: Facts, timestamp: int) -> None:
    """Write the files that sealing adds: the description, and a git directory unless the image has one."""
    place = facts.layout.git.relative_to("/")
    existing = frozenset({"opt", *(str(folder) for folder in facts.layout.source.relative_to("/").parents)})
    existing |= {str(facts.layout.source.relative_to("/"))}
    with Tarball(stream, owner=facts.owner, timestamp=timestamp, existing=existing) as tarball:
        for name, content in files.items():
            tarball.add_bytes(store.FACTS.relative_to("/") / name, content, mode=REGULAR)
        tarball.add_tree(place, git, mode=REGULAR)


def _labels(facts: Facts) -> dict[str, str]:
    return {
        labels.KIND: "base",
        labels.FLAVOR: facts.flavor,
        labels.COMMIT: facts.commit,
        labels.VERSION: facts.version,
        labels.OCI_REVISION: facts.commit,
        labels.OCI_SOURCE: "https://github.com/vllm-project/vllm",
        labels.OCI_TITLE: "vLLM base image",
    }
