"""The benchmarks: what is measured, and the goal of each."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from build.base.store import OWN_LAYOUT
from build.engine import buildx
from build.layer.archive import Tarball
from build.overlay import overlay
from build.source.repository import Repository
from tests.bench.figures import Figure, medians
from tests.bench.ground import Clone, Ground
from tests.bench.suite import smoke

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from build.overlay.overlay import Overlay

ORIGINAL = Path(__file__).with_name("original.Dockerfile")
ORIGINAL_BASE = Path(__file__).with_name("original_base.Dockerfile")

TIMES_FASTER, TIMES_FASTER_MANY, TIMES_FASTER_RELEASE = 50.0, 30.0, 3.0
TIMES_WHEN_GROWN = 1.1
TIMES_FLOOR = 0.5
DEV_S = 0.8
PLAN_S = 0.6
MORE_THAN_DELTA_KB = 350.0
# A git index and the trees of a release each have 20 bytes that do not compress for every file: 8,513 in vLLM 0.33.0.
MORE_THAN_DELTA_RELEASE_KB = 550.0
PEAK_MB = 200.0

MANY = 100
GROWN_BYTES = 1_000_000_000
BIG_DELTA_BYTES = 50_000_000


def _silent(_line: str) -> None:
    """Takes a line of a build."""


def _layer(ground: Ground, made: Overlay) -> Path:
    """The archive of an overlay's layer."""
    folder = Path(tempfile.mkdtemp(dir=ground.folder))
    overlay.write(ground.context, made, folder)
    return folder / overlay.ARCHIVE


def _engine_step(ground: Ground, change: Callable[[], str]) -> Callable[[], object]:
    made, folder = ground.overlay(change()), Path(tempfile.mkdtemp(dir=ground.folder))
    overlay.write(ground.context, made, folder)
    return lambda: overlay.make(ground.context, made, folder, tag=ground.tag(), progress=_silent)


def _originals_way(ground: Ground, base: str, change: Callable[[], str]) -> Callable[[], object]:
    return functools.partial(_build, ground, ORIGINAL, {"BASE": base, "COMMIT": change()}, ground.tag())


def _originals_base(ground: Ground) -> str:
    """Name of the base with an ordinary clone in it."""
    # Names of their own: an overlay that is built removes the temporary one of the same base.
    sealed, tag, branch = ground.tag(), ground.tag(), "base"
    ground.engine.tag(ground.base.image.id, sealed)
    # Only a branch or tag can be cloned shallowly.
    ground.clone.git("branch", branch, ground.commit)
    _build(ground, ORIGINAL_BASE, {"BASE": sealed, "BRANCH": branch}, tag)
    return tag


def _build(ground: Ground, dockerfile: Path, arguments: Mapping[str, str], tag: str) -> None:
    """Build an image with the clone's whole git directory mounted."""
    request = buildx.ImageBuild(
        dockerfile=dockerfile,
        context=Path(tempfile.mkdtemp(dir=ground.folder)),
        contexts={"git": ground.clone.path / ".git"},
        tags=(tag,),
        arguments=arguments,
    )
    buildx.build(ground.engine, request, progress=_silent)


def step(ground: Ground, runs: int) -> Iterator[Figure]:
    """The engine's step against the original's way."""
    # As in vLLM's own history; imported releases have no parents, and fetching would take all of them.
    newer = ground.clone.child(ground.commit, ground.newer)
    changes: dict[str, tuple[float, Callable[[], str]]] = {
        "1 file": (TIMES_FASTER, lambda: ground.clone.edited(ground.commit, files=1)),
        f"{MANY} files": (TIMES_FASTER_MANY, lambda: ground.clone.edited(ground.commit, files=MANY)),
        "next release, forced": (TIMES_FASTER_RELEASE, lambda: ground.clone.edited(newer, files=1)),
    }
    base = _originals_base(ground)
    for name, (goal, change) in changes.items():
        took = medians(
            runs,
            ours=functools.partial(_engine_step, ground, change),
            original=functools.partial(_originals_way, ground, base, change),
        )
        yield Figure(
            name=f"engine step, {name}: times faster than the original's way",
            value=took["original"] / took["ours"],
            goal=goal,
            unit="x",
            at_least=True,
            detail=f"{took['ours']:.2f} s, original {took['original']:.2f} s, "
            f"repository {ground.clone.size / 1e6:.0f} MB",
        )


def grown(ground: Ground, runs: int) -> Iterator[Figure]:
    """`dev` in a repository that is padded to 1 GB, against the same without."""
    small, large = (Clone(ground.folder / name) for name in ("small", "large"))
    for clone in (small, large):
        ground.clone.git("clone", "--quiet", "--no-hardlinks", "--no-checkout", ".", str(clone.path))
    # Work tree and another branch: what a user's repository grows by, and no overlay needs.
    padding = large.with_random_files(ground.commit, size=GROWN_BYTES, count=200, folder="padding")
    large.git("branch", "padding", padding)
    took = medians(
        runs,
        small=lambda: _dev(ground, small, small.edited(ground.commit, files=1)),
        large=lambda: _dev(ground, large, large.edited(ground.commit, files=1)),
    )
    yield Figure(
        name="dev in a repository of 1 GB, against the same without",
        value=took["large"] / took["small"],
        goal=TIMES_WHEN_GROWN,
        unit="x",
        detail=f"{took['large']:.2f} s, small {took['small']:.2f} s, {large.size / 1e6:.0f} MB",
    )


def floor(ground: Ground, runs: int) -> Iterator[Figure]:
    """The engine's step against the least that an engine needs for the same archive."""
    change = functools.partial(ground.clone.edited, ground.commit, files=1)
    took = medians(
        runs,
        ours=functools.partial(_engine_step, ground, change),
        floor=functools.partial(_floor, ground, change),
    )
    yield Figure(
        name="engine step, 1 file, against create + put_archive + commit",
        value=took["ours"] / took["floor"],
        goal=TIMES_FLOOR,
        unit="x",
        detail=f"{took['ours'] * 1e3:.0f} ms, floor {took['floor'] * 1e3:.0f} ms",
    )


def _floor(ground: Ground, change: Callable[[], str]) -> Callable[[], object]:
    archive = _layer(ground, ground.overlay(change())).read_bytes()
    repository, _, tag = ground.tag().rpartition(":")

    def timed() -> None:
        with ground.engine.created(ground.base.image.id) as container:
            ground.engine.client.api.put_archive(str(container.id), "/", archive)
            ground.engine.client.api.commit(str(container.id), repository, tag)

    return timed


def dev(ground: Ground, runs: int) -> Iterator[Figure]:
    """`dev` from process start to tagged image, one file changed."""
    took = medians(runs, dev=lambda: _dev(ground, ground.clone, ground.clone.edited(ground.commit, files=1)))
    yield Figure(name="dev --no-smoke --no-push, 1 file", value=took["dev"], goal=DEV_S, unit="s")


def _dev(ground: Ground, clone: Clone, commit: str) -> Callable[[], object]:
    return lambda: ground.dev(clone, commit)


def size(ground: Ground, _runs: int) -> Iterator[Figure]:
    """What an overlay adds to a registry against the changed files alone, both compressed."""
    changes = {
        "1 file": (MORE_THAN_DELTA_KB, ground.clone.edited(ground.commit, files=1)),
        f"{MANY} files": (MORE_THAN_DELTA_KB, ground.clone.edited(ground.commit, files=MANY)),
        "next release, forced": (MORE_THAN_DELTA_RELEASE_KB, ground.newer),
    }
    for name, (goal, commit) in changes.items():
        made = ground.overlay(commit)
        layer, delta = _compressed(_layer(ground, made)), _compressed(_files_alone(ground, made))
        yield Figure(
            name=f"compressed layer beyond the compressed delta, {name}",
            value=(layer - delta) / 1e3,
            goal=goal,
            unit="kB",
            detail=f"layer {layer / 1e3:.0f} kB, delta {delta / 1e3:.0f} kB",
        )


def _files_alone(ground: Ground, made: Overlay) -> Path:
    """An archive of what the delta writes."""
    archive = ground.folder / "files.tar"
    facts, commit = ground.base.facts, made.target.commit
    with (
        archive.open("wb") as stream,
        Tarball(stream, owner=facts.owner, timestamp=commit.timestamp, existing=frozenset()) as tarball,
        contextlib.closing(Repository(ground.clone.path)) as source,
    ):
        for path, entry in sorted(made.delta.written.items()):
            with source.blob(entry.oid) as (length, content):
                tarball.add(OWN_LAYOUT.source.relative_to("/") / path, length, content, mode=entry.mode)
    return archive


def _compressed(archive: Path) -> int:
    """Bytes of a file as a registry gets it: gzip at its usual level, as the engine compresses layers."""
    compressor, total = zlib.compressobj(wbits=31), 0
    with archive.open("rb") as content:
        while chunk := content.read(1 << 20):
            total += len(compressor.compress(chunk))
    return total + len(compressor.flush())


def plan(ground: Ground, runs: int) -> Iterator[Figure]:
    """`plan` from one release to the next, on a base that is only assumed."""
    # With a flavor no engine is asked.
    words = ("plan", ground.clone.path, ground.newer, "--base-commit", ground.commit, "--flavor", "cpu")
    took = medians(runs, plan=lambda: lambda: ground.cli(*words))
    yield Figure(name="plan --base-commit, one release to the next", value=took["plan"], goal=PLAN_S, unit="s")


def memory(ground: Ground, _runs: int) -> Iterator[Figure]:
    """The peak memory of `dev` where 50 MB of files are new."""
    commit = ground.clone.with_random_files(ground.commit, size=BIG_DELTA_BYTES, count=10)
    peak = ground.dev(ground.clone, commit).peak
    yield Figure(name="dev, peak memory for a delta of 50 MB", value=peak / 1e6, goal=PEAK_MB, unit="MB")


ALL: Mapping[str, Callable[[Ground, int], Iterator[Figure]]] = {
    "step": step,
    "grown": grown,
    "floor": floor,
    "dev": dev,
    "size": size,
    "plan": plan,
    "memory": memory,
    "smoke": smoke,
}
"""Benchmarks by name. Each takes the ground and how many repetitions there are to be, and yields figures."""
