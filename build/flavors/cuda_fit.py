"""The check that an llm-d tree and a vLLM commit fit, with advice if they do not."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from build.errors import SourceError, UsageError
from build.llmd import fit
from build.vllm.requirements import Installed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.flavors.cuda_arguments import CudaArguments
    from build.flavors.cuda_plan import CudaPlan
    from build.llmd.fit import Difference, Pins


def require(arguments: CudaArguments, plan: CudaPlan, requires: Sequence[str]) -> list[str]:
    """Check that the tree's pins allow the commit's requirements.

    Args:
        arguments: Arguments of the tree.
        plan: Plan of the build.
        requires: Requirement lines of the commit.

    Returns:
        Remarks on pins that were not compared, or differ without failing the build.

    Raises:
        SourceError: A version differs. The message names both; the hint names a fitting commit of llm-d if the tree's
            history has one.
    """
    python = arguments.file.environment(plan.arguments.values).get("PYTHON_VERSION") or "3.12"
    installed = Installed(distributions={}, extras={}, python=python, machine=plan.architecture)
    wanted = _Wanted(plan=plan, requires=requires, environment=installed.environment)
    pins = fit.pins(arguments.tree, arguments.file, plan.arguments.values)
    differing = wanted.differences(pins)
    if binding := [one for one in differing if one.pin.binding]:
        raise SourceError(
            f"llm-d {arguments.tree.revision[:12]} does not fit {plan.oid[:12]}: {fit.said(binding)}",
            hint=_what_fits(arguments, binding, wanted),
        )
    unread = [f"{one} was not compared: the file is missing" for one in requires if one.startswith("-r ")]
    return [*pins.unread, *unread, *(one.said for one in differing)]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The requirements of a commit.

    Attributes:
        plan: Plan of the build.
        requires: Requirement lines.
        environment: Environment for their markers.
    """

    plan: CudaPlan
    requires: Sequence[str]
    environment: Mapping[str, str]

    def differences(self, pins: Pins) -> list[Difference]:
        """Return the pins that do not allow the requirements."""
        return fit.differences(pins, self.requires, self.environment)


def _what_fits(arguments: CudaArguments, binding: Sequence[Difference], wanted: _Wanted) -> str:
    """Return advice: a commit of llm-d, or an argument that is enough."""
    ways = [f"--llm-d-ref {ref} fits"] if (ref := _fitting_ref(arguments, wanted)) else []
    if version := fit.flashinfer_that_fits(binding):
        ways.append(f"--build-arg {fit.FLASHINFER}={version}")
    return "; ".join((*ways, "--no-preflight builds with the difference"))


def _fitting_ref(arguments: CudaArguments, wanted: _Wanted) -> str | None:
    """Return a commit of the tree's history with fitting arguments and pins, or None."""
    oid, architecture = wanted.plan.oid, wanted.plan.architecture
    for tree in arguments.tree.past():
        other = replace(arguments, tree=tree)
        with contextlib.suppress(SourceError, UsageError):
            chosen = other.choose(oid, wheel=oid, architecture=architecture)
            pins = fit.pins(tree, other.file, chosen.values)
            if not any(one.pin.binding for one in wanted.differences(pins)):
                return tree.commit
    return None
