"""Checks of the user's own, on a server that is started for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standin import trial

if TYPE_CHECKING:
    from build.engine.client import Engine

FIRST = '''
import pytest

def test_client(client, model_name):
    """The model answers."""
    assert client.completions.create(model=model_name, prompt="Hello", max_tokens=4).choices[0].text

async def test_coroutine(async_client, model_name):
    answer = await async_client.completions.create(model=model_name, prompt="Hello", max_tokens=4)
    assert answer.usage.completion_tokens == 4

@pytest.mark.parametrize("part", ["id", "labels"])
def test_image(image, part):
    assert getattr(image, part) is not None
'''
SECOND = """
def test_client(server):
    assert server.url == "somewhere else"
"""


@pytest.fixture(scope="module")
def outcome(engine: Engine, standin: str, tmp_path_factory: pytest.TempPathFactory) -> trial.Outcome:
    folder = tmp_path_factory.mktemp("own")
    (folder / "test_first.py").write_text(FIRST)
    (folder / "test_second.py").write_text(SECOND)
    return trial.run(engine, standin, tmp_path_factory.mktemp("report"), "--checks", str(folder))


def test_own_checks_run_after_the_suites_and_are_called_by_their_file(outcome: trial.Outcome) -> None:
    names = [check["name"] for check in outcome.report["checks"]]
    own = [name for name in names if name.startswith("checks/")]
    assert own == [
        *("checks/test_first::client", "checks/test_first::coroutine", "checks/test_first::image[id]"),
        *("checks/test_first::image[labels]", "checks/test_second::client"),
    ], outcome.text
    assert names.index(own[0]) > max(names.index(name) for name in names if name.startswith(("openai/", "numbers/")))


def test_an_own_check_that_fails_fails_the_run(outcome: trial.Outcome) -> None:
    assert outcome.named("failed") == {"checks/test_second::client"}, outcome.text
    assert (outcome.status, outcome.report["result"]) == (1, "fail")
    assert "test_second.py:3" in outcome.text
    assert outcome.verdict
    configuration = {one["name"]: one["annotations"]["value"] for one in outcome.verdict["predicate"]["configuration"]}
    assert len(configuration["checks"]) == 64
