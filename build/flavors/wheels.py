"""The search for precompiled wheels of vLLM's main, before a build spends hours without one.

Each commit, variant and package has a list of wheels at ``<address>/<commit>/<variant>/vllm/metadata.json``
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
"""Number of commits searched for a wheel (vLLM 0.32.0, setup.py, ``WHEEL_SEARCH_DEPTH``)."""

_ANSWER_TIMEOUT_S = 30
_ABSENT = (http.codes.not_found, http.codes.forbidden)
"""A bucket answers 403 for a missing object to clients that may not list it."""
_COMPILE = "wait (a wheel appears about an hour after its commit), or compile with --compile"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """The wheel with the binaries of a base.

    Attributes:
        commit: Commit that it was built from.
        variant: CUDA variant, such as ``cu130``; empty for the index's default; None if unknown.
        architecture: Processor in the form of ``uname -m``.
        address: URL of the file; None without a search.
        behind: Number of first-parent commits between its commit and the one to build.
        rule: Place of the wheel rule in the tree; None if the rule was not understood.
    """

    commit: str
    variant: str | None
    architecture: str
    address: str | None
    behind: int = 0
    rule: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the document for ``--json``. ``checked`` means that the tree's own script takes this wheel."""
        checked = self.address is not None and self.rule is not None
        told = {name: value for name, value in vars(self).items() if name != "rule"}
        return {**told, "variant": "default" if self.variant == "" else self.variant, "checked": checked}


class _BusyIndexError(Exception):
    """A temporary failure of the index."""


@dataclass(frozen=True, kw_only=True)
class WheelIndex:
    """An index of wheels.

    Attributes:
        address: Address without a trailing slash.
        bundle: Certificate bundle to trust instead of the default one.
    """

    address: str
    bundle: Path | None = None

    def find(self, commit: str, *, variant: str, architecture: str, tags: Sequence[str] | None = None) -> str | None:
        """Return the URL of the wheel of exactly this commit, variant and architecture, or None.

        Args:
            commit: Commit that it was built from.
            variant: Path below the commit; empty for the default variant.
            architecture: Processor.
            tags: Patterns of the accepted platform tags; None for any of the architecture.

        Raises:
            SourceError: The index does not answer, or does not serve a list of wheels.
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
                f"{base}metadata.json is not a list of wheels: {error!r}", hint="check the setting wheel_index"
            ) from error
        except (_BusyIndexError, http.RequestException) as error:
            raise SourceError(
                f"the wheel index {self.address} does not answer: {error}",
                hint="check the network and proxies; --no-preflight builds without looking for the wheel",
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
    """Return the wheel of a commit, else that of its newest ancestor with the same native sources.

    Args:
        index: Index of wheels.
        commit: Commit to build.
        variant: CUDA variant.
        architecture: Processor.
        rule: Wheel rule of the tree's script; None if it was not understood.
        ancestors: Returns the first-parent ancestors, the newest first; called only if the commit has no wheel.
        native: Returns the native sources in which the commit differs from an ancestor.

    Raises:
        SourceError: No wheel fits.
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
            f"{what}; the wheel of {wheel.commit}, {wheel.behind} commits older, was compiled from other versions of "
            f"{', '.join(differing[:5])}",
            hint=_COMPILE,
        )
    raise SourceError(f"{what}, and neither has any of its last {len(looked)} ancestors", hint=_COMPILE)


def native_differences(new: Target, old: Target) -> tuple[str, ...]:
    """Return the native sources in which two commits differ, sorted.

    Args:
        new: Commit to build.
        old: Commit of the wheel.
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
