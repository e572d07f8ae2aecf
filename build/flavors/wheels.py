"""Precompiled wheels of vLLM's main: whether there is one, before hours are spent without it.

One index a commit, variant and package: ``<address>/<commit>/<variant>/vllm/metadata.json``, a list of wheels
(vLLM 0.32.0, setup.py, ``precompiled_wheel_utils``; docs.vllm.ai, "Nightly Builds of vLLM Wheels").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests as http
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from build.errors import SourceError
from build.vllm.paths import PathClass, classify
from build.vllm.pyproject import torch_pins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from build.llmd.wheel_rule import WheelRule
    from build.source.target import Target

SEARCHED = 20
"""Commits that are looked at for one with a wheel (vLLM 0.32.0, setup.py, ``WHEEL_SEARCH_DEPTH``)."""

_ANSWER_TIMEOUT_S = 30
_ABSENT = (http.codes.not_found, http.codes.forbidden)
"""A bucket answers 403 for what it does not have to whoever may not list it."""
_COMPILE = "wait (wheels come about an hour after their commit), or compile with --compile"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """The wheel whose binaries a base gets.

    Attributes:
        commit: What it was built from.
        variant: Of CUDA, such as ``cu130``; empty for the index's default; None where it cannot be told.
        architecture: Processor, as ``uname -m`` has it.
        address: Of the file; None where it was not looked for.
        behind: First-parent commits between it and the commit that is built.
        rule: Where in the tree it stands which wheel is taken; None where that cannot be read.
    """

    commit: str
    variant: str | None
    architecture: str
    address: str | None
    behind: int = 0
    rule: str | None = None

    def document(self) -> dict[str, Any]:
        """For ``--json``. A wheel is checked where it is the one that the tree's own script takes."""
        checked = self.address is not None and self.rule is not None
        told = {name: value for name, value in vars(self).items() if name != "rule"}
        return {**told, "variant": "default" if self.variant == "" else self.variant, "checked": checked}


class _BusyIndexError(Exception):
    """The answer may be another next time."""


@dataclass(frozen=True, kw_only=True)
class WheelIndex:
    """Where wheels are.

    Attributes:
        address: Without a slash at the end.
        bundle: Certificate bundle to trust instead of the default one.
    """

    address: str
    bundle: Path | None = None

    def find(self, commit: str, *, variant: str, architecture: str, tags: Sequence[str] | None = None) -> str | None:
        """Address of the wheel of exactly this commit, variant and architecture; None if there is none.

        Args:
            commit: What it was built from.
            variant: Path below the commit; empty for the default variant.
            architecture: Processor.
            tags: Patterns of the platform tags that count; None for any of the architecture.

        Raises:
            SourceError: The index does not answer, or with something else.
        """
        base = f"{self.address}/{commit}/{variant}/vllm/" if variant else f"{self.address}/{commit}/vllm/"
        ends = [rf"_{re.escape(architecture)}"] if tags is None else tags
        try:
            rows = self._rows(f"{base}metadata.json")
            fitting = [
                row
                for row in rows
                if row["package_name"] == "vllm" and any(re.search(f"(?:{end})$", row["platform_tag"]) for end in ends)
            ]
            return urljoin(base, fitting[0]["path"]) if fitting else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(
                f"{base}metadata.json is no list of wheels: {error!r}", hint="check the setting wheel_index"
            ) from error
        except (_BusyIndexError, http.RequestException) as error:
            raise SourceError(
                f"the wheels at {self.address} cannot be looked at: {error}",
                hint="check the network and proxies; --no-preflight goes on without looking",
            ) from error

    @retry(
        retry=retry_if_exception_type((_BusyIndexError, http.ConnectionError, http.Timeout)),
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=1, max=8),
        reraise=True,
    )
    def _rows(self, address: str) -> list[dict[str, Any]]:
        answer = http.get(address, timeout=_ANSWER_TIMEOUT_S, verify=str(self.bundle) if self.bundle else True)
        if answer.status_code in _ABSENT:
            return []
        if answer.status_code == http.codes.too_many_requests or answer.status_code >= http.codes.server_error:
            raise _BusyIndexError(f"HTTP {answer.status_code}")
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows


def choose(
    index: WheelIndex,
    commit: str,
    *,
    variant: str,
    architecture: str,
    rule: WheelRule | None = None,
    ancestors: Callable[[], Sequence[str]],
    native: Callable[[str], Sequence[str]],
) -> Wheel:
    """The wheel of a commit, else that of its newest ancestor whose native sources are the same.

    Args:
        index: Where wheels are.
        commit: The commit that is built.
        variant: Of CUDA.
        architecture: Processor.
        rule: What the tree's script takes; None where that cannot be read.
        ancestors: Gives the commit's first-parent ancestors, the newest first; asked only where there is no wheel.
        native: Gives the native sources in which the commit differs from an ancestor.

    Raises:
        SourceError: There is none; compiling is for who asks for it.
    """

    def found(candidate: str, behind: int) -> Wheel | None:
        tags = rule.tags if rule else None
        address = index.find(candidate, variant=variant, architecture=architecture, tags=tags)
        if address is None:
            return None
        return Wheel(
            commit=candidate,
            variant=variant,
            architecture=architecture,
            address=address,
            behind=behind,
            rule=rule.place if rule else None,
        )

    if wheel := found(commit, 0):
        return wheel
    looked = [*ancestors()]
    refused: tuple[Wheel, Sequence[str]] | None = None
    for behind, ancestor in enumerate(looked, start=1):
        wheel = found(ancestor, behind)
        differing = native(ancestor) if wheel else ()
        if wheel and not differing:
            return wheel
        if wheel and not refused:
            refused = wheel, differing
    what = f"{commit} has no precompiled wheel for {variant or 'the default variant'} on {architecture}"
    what += f" with the tag {' or '.join(rule.tags)}, which {rule.place} takes" if rule and rule.tags else ""
    if refused:
        wheel, differing = refused
        raise SourceError(
            f"{what}; that of {wheel.commit}, {wheel.behind} commits older, was compiled from other "
            f"{', '.join(differing[:5])}",
            hint=_COMPILE,
        )
    raise SourceError(f"{what}, nor has one of its last {len(looked)} ancestors", hint=_COMPILE)


def native_differences(new: Target, old: Target) -> tuple[str, ...]:
    """Native sources in which two commits differ, sorted: the binaries of one are not those of the other.

    Args:
        new: The commit that is built.
        old: The commit of the wheel.
    """
    here, there = new.tree.files, old.tree.files
    found = {
        path
        for path in here.keys() | there.keys()
        if here.get(path) != there.get(path)
        and classify(path, has_rust=True, tracked=path in there) is PathClass.NATIVE
    }
    pins = [torch_pins(one.pyproject.build_requires) for one in (new, old)]
    return tuple(sorted(found | ({"pyproject.toml"} if pins[0] != pins[1] else set())))
