"""Checks of the user's own, a tier of their own: what they are given, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smoke.results.findings import Tier
from smoke.server import openai_client
from smoke.suite.image_run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import openai

    from build.engine.image import Image
    from smoke.server.server import Server
    from smoke.suite.at_once import AtOnce
    from smoke.suite.url_run import UrlRun

# Beside the last tier that asks the server, and before the one that ends it.
TIER = Tier(number=5, name="checks")
"""Their tier."""


class OwnChecks:
    """A plugin of pytest: fixtures for checks that lie outside the suite, and why such checks cannot be read.

    Args:
        path: A file of checks, or a folder with them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.error: str | None = None
        self.run: Run | UrlRun | None = None
        self.at_once: AtOnce | None = None

    def holds(self, path: Path) -> bool:
        """Whether a file is one of them."""
        return path.resolve().is_relative_to(self.path)

    def name(self, item: pytest.Item) -> str:
        """What a check is called: no two of a folder are called the same."""
        *outer, last = item.nodeid.split("::")[1:]
        inside = item.path.resolve().relative_to(self.path).with_suffix("")
        return "::".join([*inside.parts, *outer, last.removeprefix("test_")])

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note why a file cannot be read."""
        if report.failed:
            said = [line.removeprefix("E ").strip() for line in report.longreprtext.splitlines() if line[:2] == "E "]
            # pytest's own account of it is a page long.
            report.longrepr = said[-1] if said else "it cannot be read"
            self.error = self.error or f"{report.nodeid}: {report.longrepr}"

    @pytest.fixture(scope="session")
    def server(self) -> Server:
        """The healthy server under test: ``url``, ``key``, ``model``, ``log()`` where it is a container's."""
        if self.run is None or self.run.server is None:
            pytest.skip("not verified: no server runs")
        return self.run.server

    @pytest.fixture(scope="session")
    def image(self) -> Image:
        """The image under test: ``id``, ``labels``, ``config``."""
        if not isinstance(self.run, Run):
            pytest.skip("not applicable: a server is tested that runs already")
        return self.run.image

    @pytest.fixture(scope="session")
    def model_name(self, server: Server) -> str:
        """What the server calls its model."""
        return server.model

    @pytest.fixture(scope="session")
    def client(self, server: Server) -> Iterator[openai.OpenAI]:
        """An openai client of the server. It repeats nothing and uses no proxy."""
        with openai_client.connect(server, server.key) as made:
            yield made

    @pytest.fixture(scope="session")
    def async_client(self, server: Server) -> Iterator[openai.AsyncOpenAI]:
        """The same for checks that are coroutines."""
        made = openai_client.connect_async(server)
        yield made
        assert self.at_once is not None, "a session has it"
        self.at_once.run(made.close())
