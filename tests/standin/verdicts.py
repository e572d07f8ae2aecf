"""Verdicts as a smoke run of today's suite gives them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from build.gate import demands, fingerprints
from build.gate.verdict import Verdict

if TYPE_CHECKING:
    from build.engine.client import Image


def passing(image: Image, **configuration: Any) -> Verdict:  # noqa: ANN401 - any JSON value
    """A verdict that opens the gate, with another configuration if need be."""
    found = Verdict(
        image_id=image.id,
        diff_ids=image.diff_ids,
        passed=(),
        failed=(),
        configuration={"suite": fingerprints.rules(), "model": "f" * 64, "exact": True, "expect": [], **configuration},
        finished="2026-01-02T03:04:05Z",
    )
    return replace(found, passed=tuple(demands.missing(found, image)))
