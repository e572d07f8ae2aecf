"""The gate: pushes an image that passed, and exactly that image."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker.errors
import requests
import urllib3.exceptions

from build.engine import labels, names, uploads
from build.engine.client import CALL_TIMEOUT_S
from build.errors import EngineError, GateError, RegistryError
from build.gate import demands, verdict
from build.gate.ways import STANDARD
from build.host import turn
from build.host.retry import can_get_better, patiently
from build.registry.client import Registry
from build.registry.refusal import advice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image
    from build.gate.verdict import Verdict
    from build.gate.ways import Way
    from build.registry.manifest import Manifest
    from build.registry.repository_name import RepositoryName


# Limit for a whole push: ten minutes, plus the time of a slow line.
_UPLOAD_S = 600
_SLOWEST_BYTES_PER_S = 500_000
_NO_PROGRESS = f"no progress for {CALL_TIMEOUT_S // 60} minutes"


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A pushed image.

    Attributes:
        names: ``repository:tag``, in the order of the push.
        digest: Digest of the manifest behind all names.
        size: Bytes of all layers, compressed.
    """

    names: tuple[str, ...]
    digest: str
    size: int


def require_passed(folder: Path, image: Image, *, rules: str, required: Way = STANDARD) -> Verdict:
    """Return the verdict that opens the gate for an image (:func:`build.gate.demands.shortcoming`).

    Args:
        folder: Folder of verdicts.
        image: The image.
        rules: Fingerprint of the current rules.
        required: The way of testing that is asked for.

    Raises:
        GateError: The image has no such verdict.
    """
    if why := demands.shortcoming(folder, image, rules=rules, required=required):
        raise GateError(f"{image.name} {why}", hint=f"`python -m build smoke {image.name}` tests it")
    found = verdict.recall(folder, image.id, required=required)
    assert found is not None  # noqa: S101 - for the type checker: a verdict without shortcoming is there
    return found


def require_same_native(image: Image) -> None:
    """Refuse an overlay whose binaries were compiled from other sources than it holds.

    Raises:
        GateError: The image is such an overlay.
    """
    differing = image.labels.get(labels.NATIVE, "0")
    if differing != "0":
        raise GateError(
            f"{image.name} was made although {differing} native sources differ from its base's",
            hint=f"`python -m build push --allow-native {image.name}` pushes it all the same",
        )


def push(
    engine: Engine,
    image: Image,
    repository: RepositoryName,
    tags: Sequence[str],
    *,
    locks: Path,
    require_allowed: Callable[[], object],
    progress: Callable[[str], None],
) -> Pushed:
    """Give an image its names in a registry.

    The image is uploaded under a candidate name of this push. Once the registry is known to hold exactly the image,
    with all its content, each name moves to the bytes of that manifest, in order, and is checked before the next. Locks
    keep other runs of this machine from moving the names meanwhile.

    Args:
        engine: The engine that has the image.
        image: An image that passed.
        repository: Target repository.
        tags: Tags, the moving one last, so that it never names an incomplete image.
        locks: Folder of lock files.
        require_allowed: Called right before the names move. Raises if the image may no longer have them.
        progress: Called with lines about the transfer.

    Raises:
        GateError: What the registry serves is not the image that was tested.
        RegistryError: The registry does not answer, or refuses.
        EngineError: The engine went away.
        BusyError: Another run has pushed the image, or under one of the names, for 10 minutes.
    """
    registry = Registry(repository, insecure=engine.is_insecure(repository.host))
    registry.require_reachable()
    if not tags:
        example = names.Stem.local("<commit>").of(names.flavor_of(image) or names.CUDA)
        raise GateError(
            f"{image.short_id} has no tag to be pushed under",
            hint=f"give it one: `docker tag IMAGE llm-d-dev:{example}`",
        )
    with _turns(image, tags, locks, progress):
        work = _Push(
            engine=engine,
            image=image,
            registry=registry,
            candidate=str(uploads.of(image, locks)),
            progress=progress,
        )
        manifest = work.carry_out(tags, require_allowed)
    return Pushed(names=tuple(f"{repository}:{tag}" for tag in tags), digest=manifest.digest, size=manifest.size)


@contextlib.contextmanager
def _turns(image: Image, tags: Sequence[str], locks: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Lock the image and the names against other runs of this machine."""
    with contextlib.ExitStack() as stack:
        # In one order, or two runs could wait for each other.
        for name in sorted({uploads.lock_name(one) for one in (image.short_id, *tags)}):
            console = turn.Spoken(note=progress)
            stack.enter_context(turn.taken(locks, name, doing=f"pushing {image.short_id}", console=console))
        yield


@dataclass(frozen=True, kw_only=True)
class _Push:
    """One push.

    Attributes:
        engine: The engine that has the image.
        image: The image.
        registry: Target repository.
        candidate: Tag of the upload.
        progress: Called with lines about the transfer.
    """

    engine: Engine
    image: Image
    registry: Registry
    candidate: str
    progress: Callable[[str], None]

    def carry_out(self, tags: Sequence[str], require_allowed: Callable[[], object]) -> Manifest:
        """Give the image its names. Return the manifest behind them."""
        try:
            with self._there(tags) as manifest:
                require_allowed()
                for tag in tags:
                    self._move(tag, manifest)
            # Another client may have moved a name since, or the registry may have removed more than the candidate.
            for tag in tags:
                self._require_served(tag, manifest)
            # These names say that the registry has the image.
            for tag in tags:
                self.engine.tag(self.image.id, f"{self.registry.name}:{tag}")
        finally:
            # Last: when an image loses its last name in a repository, the engine forgets what it pushed there.
            self.engine.release(f"{self.registry.name}:{self.candidate}")
        return manifest

    @contextlib.contextmanager
    def _there(self, tags: Sequence[str]) -> Iterator[Manifest]:
        """Yield the image's manifest in the registry: that of an existing name, else that of a candidate."""
        for tag in tags:
            served = self.registry.manifest(tag)
            if served and not self._difference(served):
                yield served
                return
        arrived = patiently(self._arrived, say=self.progress)
        try:
            yield arrived
        finally:
            # Where a registry cannot delete, the image's own label lets the name expire. An interrupt does not wait.
            if not isinstance(sys.exception(), KeyboardInterrupt):
                with contextlib.suppress(RegistryError):
                    self.registry.untag(self.candidate)

    def _arrived(self) -> Manifest:
        """Upload the candidate and return its manifest."""
        # Always by ID: a local tag may have moved since the test.
        self.engine.tag(self.image.id, f"{self.registry.name}:{self.candidate}")
        _upload(self.engine, self.image, self.registry, self.candidate, self.progress)
        served = self.registry.manifest(self.candidate)
        what = self._difference(served) if served else "nothing"
        if served is None or what:
            raise self._not_served(self.candidate, str(what))
        return served

    def _move(self, tag: str, manifest: Manifest) -> None:
        served = self.registry.manifest(tag)
        if served is None or served.digest != manifest.digest:
            self.registry.put_manifest(tag, manifest.content, manifest.media_type)
            self._require_served(tag, manifest)

    def _require_served(self, tag: str, manifest: Manifest) -> None:
        served = self.registry.manifest(tag)
        if served is None or served.digest != manifest.digest:
            raise self._not_served(tag, f"manifest {served.digest}" if served else "nothing")

    def _difference(self, served: Manifest) -> str | None:
        # Asked again: during the push, the engine learns which manifest it made of the image.
        return difference(served, self.engine.image(self.image.id), self.registry)

    def _not_served(self, tag: str, what: str) -> GateError:
        return GateError(
            f"{self.registry.name}:{tag} is not the tested image {self.image.short_id}: the registry serves {what}",
            hint="another client moves this tag, or the registry rewrites or loses images; push again, then compare",
        )


def difference(served: Manifest, image: Image, registry: Registry) -> str | None:
    """Return how the registry's image differs from the engine's; None if it is the same and complete.

    The image ID is the digest of the configuration in the classic image store, and of the manifest in containerd's.
    Only the engine knows which compressed layers it made of the image: it keeps the digests of the manifests that it
    pushed or pulled.

    Args:
        served: Manifest in the registry.
        image: The image, as the engine describes it now.
        registry: Repository that must hold the layers.

    Raises:
        RegistryError: The registry does not answer, or refuses.
    """
    if not served.is_of_one_image:
        return f"not an image manifest but {served.media_type or 'a document of unknown type'}"
    if image.id not in {served.config, served.digest}:
        return f"config {served.config}"
    if len(served.layers) != len(image.diff_ids):
        return f"{len(served.layers)} layers instead of {len(image.diff_ids)}"
    if served.digest != image.id and not any(name.endswith(f"@{served.digest}") for name in image.digests):
        return f"manifest {served.digest}, whose layers are not known to be the image's"
    lost = [digest for digest in (served.config, *served.layers) if digest and not registry.has_blob(digest)]
    return f"a manifest with missing content ({lost[0]})" if lost else None


def _upload(engine: Engine, image: Image, registry: Registry, tag: str, progress: Callable[[str], None]) -> None:
    name = str(registry.name)
    deadline = time.monotonic() + _UPLOAD_S + image.size / _SLOWEST_BYTES_PER_S
    standstill = _Standstill()
    try:
        rows = engine.client.api.push(
            str(registry.name), tag=tag, stream=True, decode=True, auth_config=registry.stored.for_engine()
        )
        for row in rows:
            if "error" in row:
                raise _failure(registry, name, str(row["error"]))
            if time.monotonic() >= deadline:
                raise _failure(registry, name, "it took too long")
            if standstill.lasts(row):
                raise _failure(registry, name, f"{_NO_PROGRESS}, but {_describe(row)!r}")
            progress(_describe(row))
    except docker.errors.APIError as error:
        raise _failure(registry, name, str(error.explanation)) from error
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        # Not retried: it would be as slow again.
        raise _failure(registry, name, f"{_NO_PROGRESS}, and the engine reported nothing") from error
    except urllib3.exceptions.HTTPError as error:
        raise EngineError(
            f"the engine went away during the push to {name}: {error}",
            hint="`python -m build engine status` shows whether it runs",
        ) from error


class _Standstill:
    """The time since a transfer last made progress: another step of a layer, or more bytes."""

    def __init__(self) -> None:
        self._seen: dict[object, int] = {}
        self._since = time.monotonic()

    def lasts(self, row: dict[str, Any]) -> bool:
        """Return whether the standstill is too long with this row."""
        step = (row.get("id"), row.get("status"))
        current = int((row.get("progressDetail") or {}).get("current") or 0)
        if current > self._seen.get(step, -1):
            self._seen[step] = current
            self._since = time.monotonic()
        return time.monotonic() - self._since >= CALL_TIMEOUT_S


def _failure(registry: Registry, name: str, said: str) -> RegistryError:
    trouble = registry.stored.trouble
    return RegistryError(
        f"push to {name} failed: {said}" + (f" ({trouble})" if trouble else ""),
        hint=advice(said, registry.name.host),
        may_pass=can_get_better(said),
    )


def _describe(row: dict[str, Any]) -> str:
    detail = row.get("progressDetail") or {}
    # The containerd image store leaves out `current` while it is 0.
    amount = f" {detail.get('current', 0) / 1e6:.0f}/{detail['total'] / 1e6:.0f} MB" if detail.get("total") else ""
    return f"{row.get('status', '')} {row.get('id', '')}{amount}".strip()
