"""Containers of a run go with it."""

from __future__ import annotations

from typing import cast

import docker.errors
import pytest

from build.engine.client import Engine


class MadeUpEngine:
    """An engine on which a container appears after some attempts to remove it. It is all the clients it has."""

    def __init__(self, *, appears_at: int | None) -> None:
        self.looks = 0
        self.removed = 0
        self.client = self.api = self
        self._appears_at = appears_at

    def remove_container(self, name: str, **_: object) -> None:
        self.looks += 1
        if self.looks != self._appears_at:
            raise docker.errors.NotFound(name)
        self.removed += 1


@pytest.mark.parametrize(
    ("patience", "appears_at", "looks", "removed"),
    [(0.0, 1, 1, 1), (0.0, 2, 1, 0), (5.0, 3, 3, 1), (0.1, None, 2, 0)],
)
def test_container_that_is_still_being_created_is_waited_for(
    patience: float, appears_at: int | None, looks: int, removed: int
) -> None:
    engine = MadeUpEngine(appears_at=appears_at)
    Engine.remove_container(cast("Engine", engine), "x", patience=patience)
    assert (engine.looks, engine.removed) == (looks, removed)
