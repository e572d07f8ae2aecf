"""The plan of a cuda base: the wheel and the build arguments, which depend on each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from build.errors import SourceError
from build.flavors import wheels
from build.flavors.cuda_arguments import WHEEL_COMMIT
from build.flavors.wheels import Wheel
from build.llmd.tree import DOCKERFILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.console import Console
    from build.flavors.cuda_arguments import CudaArguments
    from build.flavors.cuda_source import CudaSource
    from build.flavors.wheels import WheelIndex
    from build.llmd.arguments import Arguments
    from build.llmd.wheel_rule import WheelRule


@dataclass(frozen=True, kw_only=True)
class CudaPlan:
    """The plan of one build.

    Attributes:
        oid: Commit to build.
        architecture: Processor of the image.
        arguments: Build arguments.
        wheel: Wheel with the binaries; None to compile.
        rule: Wheel rule of the tree's script; None if it was not understood.
        image_variant: Wheel variant for the image's CUDA version; None if the Dockerfile does not state it.
    """

    oid: str
    architecture: str
    arguments: Arguments
    wheel: Wheel | None
    rule: WheelRule | None
    image_variant: str | None

    @property
    def variant(self) -> str | None:
        """The variant of the wheel."""
        return self.rule.variant if self.rule else self.image_variant

    def remarks(self) -> Iterator[str]:
        """Yield a remark on the tree's wheel rule."""
        if self.wheel is None:
            return
        if self.rule is None:
            yield "wheel: the rule of the tree's scripts was not understood; they may take another wheel or none"
            return
        yield f"wheel: {self.rule.said}"
        if not self.rule.variant and self.image_variant:
            yield f"wheel: the default variant may be for another CUDA version than the image's {self.image_variant}"


@dataclass(frozen=True, kw_only=True)
class CudaPlanner:
    """The search for the wheel and its arguments.

    Attributes:
        arguments: Choice of the arguments.
        source: Commits of vLLM.
        index: Wheel index from the settings.
        follows_tree: Whether the index of the tree's script takes precedence.
        console: Console for steps.
    """

    arguments: CudaArguments
    source: CudaSource
    index: WheelIndex
    follows_tree: bool
    console: Console

    def plan(self, oid: str, *, architecture: str) -> CudaPlan:
        """Plan the build of a commit.

        Raises:
            SourceError: No wheel fits, the index does not answer, or the Dockerfile does not fit.
            UsageError: A requested argument is not valid.
        """
        if self.arguments.wishes.compile:
            return self._draft(oid, wheel=oid, architecture=architecture)
        asked = {one.name: one.value for one in self.arguments.asked}.get(WHEEL_COMMIT)
        draft = self._draft(oid, wheel=asked or oid, architecture=architecture)
        if not self.arguments.wishes.preflight:
            place = draft.rule.place if draft.rule else None
            wheel = Wheel(
                commit=asked or oid, variant=draft.variant, architecture=architecture, address=None, rule=place
            )
            return replace(draft, wheel=wheel)
        wheel = self._found(draft, asked)
        final = self._draft(oid, wheel=wheel.commit, architecture=architecture) if wheel.behind else draft
        return replace(final, wheel=wheel)

    def _draft(self, oid: str, *, wheel: str, architecture: str) -> CudaPlan:
        """Return the plan for the wheel of a commit, before the wheel is found."""
        chosen = self.arguments.choose(oid, wheel=wheel, architecture=architecture)
        return CudaPlan(
            oid=oid,
            architecture=architecture,
            arguments=chosen,
            wheel=None,
            rule=self.arguments.rule(chosen, commit=wheel, architecture=architecture),
            image_variant=self.arguments.variant(chosen),
        )

    def _found(self, draft: CudaPlan, asked: str | None) -> Wheel:
        """Return the requested wheel, else the commit's, else that of an ancestor with the same native sources."""
        oid = draft.oid
        if draft.variant is None:
            raise SourceError(
                f"{DOCKERFILE} does not state its CUDA version, and the wheel rule of its scripts was not understood",
                hint="--no-preflight builds without looking for the wheel",
            )
        with self.console.step("look for the wheel"):
            found = wheels.choose(
                self._index(draft.rule),
                asked or oid,
                variant=draft.variant,
                architecture=draft.architecture,
                rule=draft.rule,
                ancestors=lambda: () if asked else self.source.ancestors(oid),
                native=lambda ancestor: self.source.native(oid, ancestor),
            )
            if asked and (differing := self.source.native(oid, asked)):
                raise SourceError(
                    f"the wheel of {asked} was compiled from other versions of {', '.join(differing[:5])} than {oid}",
                    hint=f"leave {WHEEL_COMMIT} out",
                )
        if found.behind:
            self.console.note(f"{oid} has no wheel yet; the wheel of {found.commit} has the same native sources")
        return found

    def _index(self, rule: WheelRule | None) -> WheelIndex:
        return replace(self.index, address=rule.index) if rule and self.follows_tree else self.index
