"""Sealing: turns an image with vLLM at ``/opt/vllm-source`` into a base that can vouch for itself."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from build import base, buildx, gitdir, labels, requirements, scratch
from build.base import Facts
from build.compatibility import made_by_build
from build.errors import BuildError, SourceError
from build.folders import REPOSITORY
from build.gitdir import State
from build.listing import REGULAR, SUBMODULE, Entry, Listing
from build.tarball import Ownership, Tarball

if TYPE_CHECKING:
    from collections.abc import Mapping

    from build.console import Console
    from build.engine import Engine, Image
    from build.git import Commit, Repository

log = logging.getLogger(__name__)

DOCKERFILE = buildx.DOCKERFILES / "seal.Dockerfile"
INSIDE = REPOSITORY / "build" / "inside"

_PROBE_TIMEOUT_S = 300
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
) -> str:
    """Add what makes an image a base, after checking that it holds what it is said to hold.

    Args:
        engine: Where the image is.
        image: The image, unsealed.
        flavor: ``cpu`` or ``cuda``.
        source: A repository that has the commit and its blobs.
        commit: The commit that the image is said to be built from.
        marks: Further labels.
        console: For progress.

    Returns:
        ID of the sealed image.

    Raises:
        SourceError: It is no vLLM image, or it does not hold this commit.
        BuildError: A step failed.
    """
    with console.step("seal") as progress:
        progress("reading what the image holds")
        found = probe(engine, image)
        tree = source.listing(commit)
        held = _held(found, commit, tree)
        with (
            scratch.folder() as folder,
            scratch.folder() as git_folder,
            engine.temporary_tag(image.id) as name,
        ):
            progress("writing its description and git directory")
            state = State(commit=commit.id, tree=tree, present=frozenset(held.files))
            git = Path(git_folder) / ".git"
            write = gitdir.write_shared_index if found["has_repository"] else gitdir.write_full
            index = write(git, source=source, state=state)
            facts = _facts(found, flavor=flavor, source=source, state=state, held=held, shared_index=index)
            files = {**base.files(facts, held, tree), base.MADE: _made(found, facts).serialize()}
            with (Path(folder) / "seal.tar").open("wb") as stream:
                _write_tar(stream, files, git, facts=facts, timestamp=commit.timestamp)
            request = buildx.Request(
                dockerfile=DOCKERFILE,
                context=Path(folder),
                contexts={"inside": INSIDE},
                arguments={"BASE": name, "BASE_USER": image.config.get("User") or "root"},
                labels={**_labels(facts), **marks},
            )
            return buildx.build(engine, request, progress=progress)


def probe(engine: Engine, image: Image) -> dict[str, Any]:
    """What an image holds, as ``build/inside/probe.py`` prints it.

    Raises:
        SourceError: It has no vLLM where a base has it.
        BuildError: The probe did not run through.
    """
    script = (INSIDE / "probe.py").read_text(encoding="utf-8")
    options = {
        "entrypoint": [str(base.PYTHON)],
        "command": ["-c", script, str(base.SOURCE)],
        "network_mode": "none",
    }
    with engine.created(image.id, **options) as container:
        try:
            container.start()
        except Exception as error:
            raise SourceError(
                f"{image.short_id} has no {base.PYTHON}: {error}",
                hint="a base needs vLLM editable at /opt/vllm-source and its environment at /opt/vllm",
            ) from error
        status = container.wait(timeout=_PROBE_TIMEOUT_S)["StatusCode"]
        if status:
            last = container.logs(tail=1).decode(errors="replace").strip()
            raise BuildError(
                f"{image.short_id} could not be looked at: {last}",
                hint="a base needs vLLM editable at /opt/vllm-source and its environment at /opt/vllm",
            )
        found: dict[str, Any] = json.loads(container.logs(stdout=True, stderr=False))
    expected = str(base.SOURCE / "vllm")
    if found["vllm"] != expected:
        raise SourceError(
            f"{image.short_id} imports vllm from {found['vllm']}, not from {expected}",
            hint="install vLLM there with `pip install --editable`",
        )
    return found


def _held(found: Mapping[str, Any], commit: Commit, tree: Listing) -> Listing:
    """What of the commit's tree is in the image.

    Raises:
        SourceError: Python of the package is missing or differs: the image is not made from this commit.
    """
    files = {path: Entry(mode=mode, oid=oid) for path, mode, oid in found["files"]}
    held = {path: entry for path, entry in files.items() if path in tree.files}
    modified = _modified(held, tree)
    runs = {path for path, entry in tree.files.items() if _runs(path) and entry.mode != SUBMODULE}
    wrong = sorted((runs - held.keys()) | (runs & set(modified)))
    if wrong:
        names = ", ".join(wrong[:_NAMED])
        raise SourceError(
            f"the image does not hold {commit.short}: {len(wrong)} files differ or are missing ({names})",
            hint="name the commit that the image was built from",
        )
    for path in modified:
        log.warning("the image has its own %s", path)
    return Listing(files=held, trees={})


def _modified(held: Mapping[str, Entry], tree: Listing) -> list[str]:
    return sorted(path for path, entry in held.items() if entry.oid != tree.files[path].oid)


def _facts(
    found: Mapping[str, Any], *, flavor: str, source: Repository, state: State, held: Listing, shared_index: str
) -> Facts:
    """What is to be known of the base."""
    tree = state.tree
    pyproject = _text(source, tree, "pyproject.toml")
    wanted = requirements.of_tree(lambda path: _text(source, tree, path), flavor)
    return Facts(
        flavor=flavor,
        commit=state.commit,
        version=found["version"],
        python=found["python"],
        torch=found["torch"]["version"],
        cuda=found["torch"]["cuda"],
        distributions=found["distributions"],
        owner=Ownership(
            uid=found["uid"],
            gid=found["gid"],
            file_mode=found["file_mode"],
            folder_mode=found["folder_mode"],
        ),
        folders=_folders(found),
        made_by_build=tuple(sorted(path for path, _, _ in found["files"] if path not in held.files)),
        modified=tuple(_modified(held.files, tree)),
        build_requires=requirements.build_requires(pyproject),
        unmet=tuple(requirements.unmet(wanted, found["distributions"], python=found["python"])),
        metadata=found["metadata"],
        entry_points=requirements.entry_points(pyproject),
        own_git=found["has_repository"],
        shared_index=shared_index,
    )


def _folders(found: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Permissions, user and group of the folders that differ from the source's root."""
    usual = [found["folder_mode"], found["uid"], found["gid"]]
    pairs = ((path.lstrip("/"), (mode, uid, gid)) for path, (mode, uid, gid) in found["folders"].items())
    return {path: marks for path, marks in sorted(pairs) if path and list(marks) != usual}


def _made(found: Mapping[str, Any], facts: Facts) -> Listing:
    """What is in the source folder and not of the commit."""
    made = set(facts.made_by_build)
    files = {path: Entry(mode=mode, oid=oid) for path, mode, oid in found["files"] if path in made}
    return Listing(files=files, trees={})


def _runs(path: str) -> bool:
    return path.startswith("vllm/") and path.endswith(".py") and not made_by_build(path)


def _text(source: Repository, tree: Listing, path: str) -> str:
    """Content of a text file of the tree; empty where there is none."""
    if path not in tree.files:
        return ""
    with source.blob(tree.files[path].oid) as (_, content):
        return content.read().decode(errors="replace")


def _write_tar(stream: IO[bytes], files: Mapping[str, bytes], git: Path, *, facts: Facts, timestamp: int) -> None:
    """Write what sealing adds: the description, and the git directory or what is laid over the image's own."""
    root = base.SOURCE.relative_to("/")
    existing = {"opt", str(root), *([f"{root}/.git"] if facts.own_git else ())}
    with Tarball(stream, owner=facts.owner, timestamp=timestamp, existing=frozenset(existing)) as tarball:
        for name, content in files.items():
            tarball.add_bytes(base.FACTS.relative_to("/") / name, content, mode=REGULAR)
        tarball.add_tree(root / ".git", git, mode=REGULAR)


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
