"""The suite's command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from build.config.expectation import Expectation
from build.errors import UsageError
from smoke.suite import suite_options

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("word", "route", "text"),
    [
        ("/v1/models=vllm", "/v1/models", "vllm"),
        ('/version={"version": "a=b"}', "/version", '{"version": "a=b"}'),
    ],
)
def test_expectation(word: str, route: str, text: str) -> None:
    parsed = Expectation.parse(word)
    assert (parsed.route, parsed.text, str(parsed)) == (route, text, word)


@pytest.mark.parametrize(
    "word", ["", "/v1/models", "/v1/models=", "/v1/models= ", "=x", "v1/models=x", "/v1 /models=x"]
)
def test_bad_expectation(word: str) -> None:
    with pytest.raises(UsageError, match="is not ROUTE=TEXT"):
        suite_options.expectations([word])


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://models.example/v1/", "https://models.example"),
        ("http://127.0.0.1:8000/below/v1", "http://127.0.0.1:8000/below"),
    ],
)
def test_address(url: str, address: str) -> None:
    assert suite_options._address(url) == address


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://me:secret@x", "http://x?key=secret"])
def test_bad_address_is_not_repeated(url: str) -> None:
    with pytest.raises(pytest.UsageError, match="without user and password") as refused:
        suite_options._address(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "config.json", "sub"])
def test_model_that_the_user_in_the_container_may_not_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert suite_options._model(str(folder)) == folder
    (folder / name).chmod(0o700)
    with pytest.raises(pytest.UsageError, match="must be readable by everyone"):
        suite_options._model(str(folder))


@pytest.mark.parametrize(
    ("word", "shown"), [("org/name", "org/name@main"), ("org/na.me@refs/pr/1", "org/na.me@refs/pr/1")]
)
def test_model_on_the_hub(word: str, shown: str) -> None:
    assert str(suite_options._model(word)) == shown


@pytest.mark.parametrize("word", ["/nowhere", "name", "../name", "a/b/c", "a/b@", "a/b@-x", "a/b?c"])
def test_what_is_neither_a_folder_nor_a_model(word: str) -> None:
    with pytest.raises(pytest.UsageError, match=r"not a folder with a config\.json"):
        suite_options._model(word)
