"""Whether an llm-d tree and a vLLM commit fit, and what would."""

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
    """Check that what the tree pins allows what the commit requires.

    Args:
        arguments: Those of the tree.
        plan: What is built.
        requires: Requirement lines of the commit.

    Returns:
        What could not be compared, or differs without failing the build.

    Raises:
        SourceError: A version differs; names both, and a commit of llm-d that fits if its history is there.
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
    unread = [f"{one} is not there to compare with" for one in requires if one.startswith("-r ")]
    return [*pins.unread, *unread, *(one.said for one in differing)]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What a commit requires.

    Attributes:
        plan: What is built.
        requires: Requirement lines.
        environment: What their markers are evaluated for.
    """

    plan: CudaPlan
    requires: Sequence[str]
    environment: Mapping[str, str]

    def differences(self, pins: Pins) -> list[Difference]:
        """Return where pins do not allow it."""
        return fit.differences(pins, self.requires, self.environment)


def _what_fits(arguments: CudaArguments, binding: Sequence[Difference], wanted: _Wanted) -> str:
    """Advice: a commit of llm-d, an argument that is enough."""
    ways = [f"--llm-d-ref {ref} fits"] if (ref := _fitting_ref(arguments, wanted)) else []
    if version := fit.flashinfer_that_fits(binding):
        ways.append(f"--build-arg {fit.FLASHINFER}={version}")
    return "; ".join((*ways, "--no-preflight goes on with what differs"))


def _fitting_ref(arguments: CudaArguments, wanted: _Wanted) -> str | None:
    """A commit of the tree's history that can be built from and whose pins fit."""
    oid, architecture = wanted.plan.oid, wanted.plan.architecture
    for tree in arguments.tree.past():
        other = replace(arguments, tree=tree)
        with contextlib.suppress(SourceError, UsageError):
            chosen = other.choose(oid, wheel=oid, architecture=architecture)
            pins = fit.pins(tree, other.file, chosen.values)
            if not any(one.pin.binding for one in wanted.differences(pins)):
                return tree.commit
    return None
