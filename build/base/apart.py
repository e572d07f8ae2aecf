"""What a script finds out inside an image, apart from what it looks at (``build/base/inside/apart.py``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from build.config.folders import INSIDE
from build.engine import confinement

if TYPE_CHECKING:
    from pathlib import Path

    from build.engine.client import Engine

Readers = Mapping[str, Callable[[Any], Any]]
"""For each stage what takes its finding, any JSON value, in the expected form; ValueError where it has another."""

_SHOWN = 200
_ERROR_SHOWN = 500


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a script found.

    Attributes:
        stages: Finding by stage; those that it did not come to are missing.
        end: How it broke off; None if it ran through.
    """

    stages: Mapping[str, Any]
    end: str | None

    @classmethod
    def parse(cls, output: bytes, *, status: int | None, errors: bytes, readers: Readers, repeated: str = "") -> Look:
        """From what the script printed. What comes before its first line is passed over.

        Args:
            output: Its standard output.
            status: Its exit status.
            errors: The end of its error output.
            readers: What takes the findings.
            repeated: The stage that may come again.
        """
        stages: dict[str, Any] = {}
        is_done = False
        for line in output.decode(errors="replace").splitlines():
            if not stages and not line.startswith("["):
                continue
            try:
                stage, finding = json.loads(line)
                is_done = is_done or stage == "done"
                if not is_done and stage in stages and stage != repeated:
                    return cls(stages=stages, end=f"its Python said twice what it was asked for: {line[:_SHOWN]!r}")
                stages |= {} if stage == "done" else {stage: readers[stage](finding)}
            except (ValueError, TypeError, KeyError, RecursionError):
                return cls(stages=stages, end=f"its Python printed something else than asked for: {line[:_SHOWN]!r}")
        if status:
            where = f" while it imported {stages[repeated]}" if repeated in stages else ""
            last = ["it said nothing", *filter(str.strip, errors.decode(errors="replace").splitlines())][-1]
            return cls(stages=stages, end=f"its Python ended with status {status}{where}: {last[:_ERROR_SHOWN]}")
        return cls(stages=stages, end=None if is_done else "its Python ended before it was done")


def words(python: str, script: Path, *arguments: str) -> list[str]:
    """The words that run a script inside an image.

    Args:
        python: The image's Python.
        script: A script as ``build/base/inside/apart.py`` takes it.
        arguments: Its arguments.
    """
    texts = (path.read_text(encoding="utf-8") for path in (INSIDE / "apart.py", script))
    return [python, "-I", "-S", "-c", *texts, *arguments]


def look(
    engine: Engine,
    image_id: str,
    argv: Sequence[str],
    *,
    readers: Readers,
    seconds: int,
    repeated: str = "",
    **options: Any,  # noqa: ANN401 - docker's own options
) -> Look:
    """Run a script in a container of its own.

    Args:
        engine: Where the image is.
        image_id: The image.
        argv: What runs the script (:func:`words`).
        readers: What takes the findings.
        seconds: What it may take.
        repeated: The stage that may come again.
        options: Of the container, as ``docker.containers.create`` has them.

    Raises:
        docker.errors.APIError: The engine cannot start it.
    """
    with engine.created(image_id, entrypoint=[*argv[:1]], command=[*argv[1:]], **options) as container:
        container.start()
        try:
            status = container.wait(timeout=seconds)["StatusCode"]
        except requests.RequestException:
            return Look(stages={}, end=f"its Python was not done after {seconds} s")
        output = confinement.printed(container, stdout=True, stderr=False)
        errors = confinement.printed(container, stdout=False, stderr=True, tail=20)
    return Look.parse(output, status=status, errors=errors, readers=readers, repeated=repeated)
