"""The server starts and says what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build import labels

if TYPE_CHECKING:
    from build.engine import Image
    from smoke.options import Expectation
    from smoke.server import Server

_SHOWN = 300


def test_health(server: Server) -> None:
    """The server becomes healthy in time."""
    assert server.healthy(), "/health does not answer 200 any more"


def test_version(server: Server, image: Image) -> None:
    """The server's /version is what the image's label says."""
    expected = image.labels.get(labels.VERSION)
    if not expected:
        pytest.skip(f"not applicable: the image has no label {labels.VERSION}")
    answer = server.get("/version").json()
    assert answer == {"version": expected}, f"/version says {answer}, the label {expected!r}"


def test_expectation(server: Server, expectation: Expectation) -> None:
    """The server shows each text that the run expects: the change that the image was made for."""
    answer = server.get(expectation.route)
    shown = f"{answer.status_code} {answer.text[:_SHOWN]!r}"
    assert answer.ok, f"GET {expectation.route} answered {shown}"
    assert expectation.text in answer.text, f"{expectation.text!r} is not in GET {expectation.route}: {shown}"
