"""The findings of a script that runs inside an image, apart from what it examines (``build/base/inside/apart.py``)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import requests

from build.config.folders import INSIDE
from build.engine import confinement

if TYPE_CHECKING:
    from pathlib import Path

    from docker.models.containers import Container

    from build.engine.client import Engine

Readers = Mapping[str, Callable[[Any], Any]]
"""A reader for each stage: takes the finding, any JSON value, and raises ValueError for an unexpected form."""

CUT_SHORT = "what was found until then was enough"
"""How a look ended that was broken off."""

_POLL_S = 0.5

_SHOWN = 200
_ERROR_SHOWN = 500


@dataclass(frozen=True, kw_only=True)
class Look:
    """The findings of a script.

    Attributes:
        stages: Finding by stage, without the stages that the script did not reach.
        end: How the script failed; None if it finished.
    """

    stages: Mapping[str, Any]
    end: str | None

    @classmethod
    def parse(cls, output: bytes, *, status: int | None, errors: bytes, readers: Readers, repeated: str = "") -> Look:
        """Parse a script's output. Text before its first line is ignored.

        Args:
            output: Standard output.
            status: Exit code.
            errors: End of the error output.
            readers: Readers of the findings.
            repeated: The stage that may come repeatedly.
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
                    return cls(stages=stages, end=f"its Python printed a stage twice: {line[:_SHOWN]!r}")
                stages |= {} if stage == "done" else {stage: readers[stage](finding)}
            except (ValueError, TypeError, KeyError, RecursionError):
                return cls(stages=stages, end=f"its Python printed unexpected output: {line[:_SHOWN]!r}")
        if status:
            where = f" while it imported {stages[repeated]}" if repeated in stages else ""
            last = ["it printed no error", *filter(str.strip, errors.decode(errors="replace").splitlines())][-1]
            return cls(stages=stages, end=f"its Python ended with status {status}{where}: {last[:_ERROR_SHOWN]}")
        return cls(stages=stages, end=None if is_done else "its Python ended before it was done")


def words(python: str, script: Path, *arguments: str) -> list[str]:
    """Return the command line that runs a script inside an image.

    Args:
        python: Python of the image.
        script: A script for ``build/base/inside/apart.py``.
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
    is_enough: Callable[[], bool] | None = None,
    **options: Any,  # noqa: ANN401 - docker's own options
) -> Look:
    """Run a script in a container of its own.

    Args:
        engine: The engine that has the image.
        image_id: ID of the image.
        argv: Command line of the script (:func:`words`).
        readers: Readers of the findings.
        seconds: Time limit.
        repeated: The stage that may come repeatedly.
        is_enough: Asked now and then; True ends the look with what was found so far, and with :data:`CUT_SHORT`.
        options: Arguments of ``docker.containers.create``.

    Raises:
        docker.errors.APIError: The engine cannot start the container.
    """
    with engine.created(image_id, entrypoint=[*argv[:1]], command=[*argv[1:]], **options) as container:
        container.start()
        status = _awaited(container, seconds, is_enough)
        is_cut_short = status is None and is_enough is not None and is_enough()
        if status is None and not is_cut_short:
            return Look(stages={}, end=f"its Python did not end within {seconds} s")
        output = confinement.printed(container, stdout=True, stderr=False)
        errors = confinement.printed(container, stdout=False, stderr=True, tail=20)
    found = Look.parse(output, status=status, errors=errors, readers=readers, repeated=repeated)
    return replace(found, end=CUT_SHORT) if is_cut_short else found


def _awaited(container: Container, seconds: int, is_enough: Callable[[], bool] | None) -> int | None:
    """Wait for a container's end and return its exit code; None if it still runs."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return int(container.wait(timeout=_POLL_S if is_enough else seconds)["StatusCode"])
        except requests.RequestException:
            if is_enough is None or is_enough() or time.monotonic() >= deadline:
                return None
