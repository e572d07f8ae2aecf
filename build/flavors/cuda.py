"""The base image of the cuda flavor, from llm-d's own Dockerfile."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from build.base.store import NOT_IN_IMAGES
from build.engine import buildx, content, labels
from build.errors import BuildError
from build.flavors import cuda_arguments, cuda_fit, recipe
from build.flavors.cuda_arguments import CudaArguments
from build.flavors.cuda_build import CudaBuild
from build.flavors.cuda_plan import CudaPlanner
from build.flavors.cuda_source import CudaSource
from build.flavors.recipe import Recipe
from build.flavors.wheels import WheelIndex
from build.llmd.tree import DOCKERFILE, open_tree
from build.pypi.index import PackageIndex
from build.source.mirror import Mirror

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from build.context import Context
    from build.engine.client import Engine
    from build.flavors.cuda_plan import CudaPlan
    from build.flavors.cuda_wishes import CudaWishes
    from build.flavors.wheels import Wheel
    from build.host import process
    from build.llmd.tree import Tree
    from build.source.repository import Commit, Repository

log = logging.getLogger(__name__)

# Printed by llm-d's docker/scripts/cuda/runtime/install-vllm.sh before an hour of compiling (2025 and 2026).
_COMPILES = "Compiling fully from source"


@contextlib.contextmanager
def opened(context: Context, wishes: CudaWishes) -> Iterator[Cuda]:
    """Open the flavor with its llm-d tree.

    Raises:
        SourceError: The tree does not exist, or fetching it failed.
    """
    with open_tree(wishes.llm_d, wishes.llm_d_ref, cache=context.folders.cache, console=context.console) as tree:
        yield Cuda(context=context, wishes=wishes, tree=tree)


class Cuda:
    """The cuda flavor; a :class:`build.flavors.flavor.Flavor`.

    Args:
        context: Settings, console, engine.
        wishes: Options of the command line.
        tree: The llm-d tree.
    """

    name = "cuda"

    def __init__(self, *, context: Context, wishes: CudaWishes, tree: Tree) -> None:
        self._context = context
        self._settings = settings = context.settings
        self._wishes = wishes
        self._tree = tree
        # Git, curl and uv read the environment. pip's configuration is only for the cpu flavor's packages.
        network = PackageIndex.parse("", os.environ)
        mirror = Mirror(context.folders.mirror, console=context.console)
        self._source = CudaSource(mirror=mirror, remote=wishes.remote)
        self._arguments = CudaArguments(tree=tree, wishes=wishes, asked=wishes.asked(settings.build_args))
        self._build = CudaBuild(tree=tree, settings=settings, network=network, cache=context.folders.cache)
        self._planner = CudaPlanner(
            arguments=self._arguments,
            source=self._source,
            index=WheelIndex(address=settings.wheel_index, bundle=network.bundle),
            follows_tree=settings.wheel_index == type(settings).model_fields["wheel_index"].default,
            console=context.console,
        )
        self._wheel: Wheel | None = None

    @property
    def needed_bytes(self) -> int:
        """The disk from the settings."""
        return self._settings.cuda_disk_gb * 1_000_000_000

    @property
    def rebuild_after(self) -> dt.timedelta | None:
        """None: main moves every day, and each commit's build installs the packages of its day."""
        return None

    def commit(self) -> Commit:
        """Return the commit to build."""
        return self._source.commit(self._source.oid(self._wishes.commit))

    def source(self, commit: Commit) -> AbstractContextManager[Repository]:
        """Open the mirror, with the commit's files that a base holds."""
        return self._source.opened(commit)

    def fingerprint(self, commit: Commit) -> str:
        """Return a digest of commit, llm-d tree and arguments. The wheel that is found does not count."""
        chosen = self._arguments.choose(commit.id, wheel=commit.id, architecture=self._context.architecture)
        given = [one.document() for one in cuda_arguments.lasting(chosen)]
        parts = [commit.id, self._tree.digest(), json.dumps(given), *NOT_IN_IMAGES]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def recipe(self) -> Recipe:
        """Return the build to come. Needs the network for main without ``--commit``, and for the wheel preflight."""
        oid = self._source.oid(self._wishes.commit)
        plan = self._planner.plan(oid, architecture=self._context.architecture)
        remarks = [*self._remarks(plan), *self._arguments.remarks()]
        request = self._build.request(plan.arguments, dockerfile=self._tree.path / DOCKERFILE)
        wishes, settings = self._wishes, self._settings
        return Recipe(
            flavor=self.name,
            commit=oid,
            origin="--commit" if wishes.commit else f"main of {wishes.remote.name} ({wishes.remote.address})",
            parts={"llm-d": f"{self._tree.path} ({self._tree.revision})"},
            wheel=plan.wheel.document() if plan.wheel else None,
            arguments=plan.arguments,
            secrets=sorted({*request.secrets, *request.secret_variables}),
            labels={
                labels.KIND: "base",
                labels.FLAVOR: self.name,
                labels.COMMIT: oid,
                labels.QUAY_EXPIRES: settings.nightly_expires_after,
                **self._marks(plan.wheel),
            },
            tags=recipe.tags(oid, self.name, self._context),
            command=request.argv(metadata=Path("METADATA")),
            stage=request.target or "the last one",
            remarks=remarks,
        )

    def _remarks(self, plan: CudaPlan) -> Iterator[str]:
        """Yield remarks about the plan, after a check that tree and commit fit."""
        yield from plan.arguments.remarks
        if not self._context.knows_engine:
            yield f"architecture: {plan.architecture}, of this machine; the build uses the engine's"
        yield from plan.remarks()
        if self._wishes.preflight:
            yield from cuda_fit.require(self._arguments, plan, self._source.requires(plan.oid, self.name))

    def marks(self) -> Mapping[str, str]:
        """Return labels with the llm-d revision and the wheel's commit."""
        return self._marks(self._wheel)

    def _marks(self, wheel: Wheel | None) -> dict[str, str]:
        return {labels.LLM_D: self._tree.revision, **({labels.WHEEL: wheel.commit} if wheel else {})}

    def build(self, engine: Engine, commit: Commit) -> str:
        """Build the base, unsealed. Stop if the Dockerfile begins to compile although a wheel was found."""
        plan = self._planner.plan(commit.id, architecture=engine.architecture)
        self._wheel = plan.wheel
        for remark in self._remarks(plan):
            log.info("%s", remark)
        for one in plan.arguments.given:
            if one.name == cuda_arguments.COMPILED and one.remark:
                self._context.console.note(f"{one.name}={one.value}, {one.remark}; --compile decides")
        with self._context.console.step("base image") as progress, self._build.dockerfile() as file:
            request = self._build.request(plan.arguments, dockerfile=file)
            built = buildx.build(engine, request, progress=self._watched(progress))
            return content.mark(engine, built, progress=progress)

    def _watched(self, progress: process.OnLine) -> process.OnLine:
        def watch(line: str) -> None:
            if line.startswith(_COMPILES) and not self._wishes.compile:
                raise BuildError(
                    f"{DOCKERFILE} does not find the wheel and begins to compile vLLM without --compile",
                    hint="give --compile to compile, or another commit of llm-d with --llm-d-ref",
                )
            progress(line)

        return watch
