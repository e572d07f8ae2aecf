"""The numbers that a base's verdict holds, for its overlays to be compared with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from build.config import settings
from build.gate import verdict, ways
from smoke.server.numbers import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from build.engine.image import Image

_FORM = TypeAdapter(Record)
_NAME = "record"


def place(host: str, flavor: str, gpus: Sequence[str]) -> str:
    """Digest of where an image runs, which tells nothing of that.

    Args:
        host: Address of the engine.
        flavor: What the image runs on.
        gpus: Product names of the GPUs, one each: what several share out has other numbers.
    """
    return hashlib.sha256(repr((host, flavor, sorted(gpus))).encode()).hexdigest()


def entry(record: Record) -> dict[str, Any]:
    """What is added to the configuration of a verdict about a base."""
    return {_NAME: _FORM.dump_python(record, mode="json")}


def of(verdicts: Path, base: Image | None, *, place: str) -> Record | str:
    """What a base answered, or in words why an image is not compared with it.

    Args:
        verdicts: Where verdicts are kept.
        base: The base with a current pass; None if there is none.
        place: Where the image runs (:attr:`smoke.server.numbers.Record.place`).
    """
    found = verdict.recall(verdicts, base.id, required=ways.required(settings.load({}))) if base else None
    if found is None:
        return "not compared: no base with a current pass"
    try:
        record = _FORM.validate_python(found.configuration.get(_NAME))
    except ValidationError:
        return "not compared: the verdict about the base holds no numbers"
    return record if record.place == place else "not compared: the base was tested on another engine or GPU"
