"""One precedence for every setting, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from build.config import settings
from build.errors import UsageError


@pytest.fixture
def pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a checkout without settings of its own."""
    monkeypatch.setattr(settings, "REPOSITORY", tmp_path)
    file = tmp_path / "pyproject.toml"
    file.write_text("[project]\nname = 'x'\n")
    return file


def toml(file: Path, text: str) -> None:
    file.write_text(f"[tool.llm-d-dev]\n{text}\n")


def test_each_place_outweighs_the_one_before(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load({}).vllm_version == "0.32.0"
    toml(pyproject, "vllm_version = '0.32.1'")
    assert settings.load({}).vllm_version == "0.32.1"
    monkeypatch.setenv("LLM_D_DEV_VLLM_VERSION", "0.32.2")
    assert settings.load({}).vllm_version == "0.32.2"
    assert settings.load({"vllm_version": "0.32.3"}).vllm_version == "0.32.3"


def test_places_are_combined_key_by_key(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(pyproject, "nightly_expires_after = '7d'")
    monkeypatch.setenv("LLM_D_DEV_REGISTRY_PORT", "5001")
    loaded = settings.load({"install": False})
    assert (loaded.nightly_expires_after, loaded.registry_port, loaded.install) == ("7d", 5001, False)


def test_an_empty_variable_says_nothing(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(pyproject, "vllm_version = '0.32.1'")
    for name in ("STATE", "REGISTRY", "VLLM_VERSION"):
        monkeypatch.setenv(f"LLM_D_DEV_{name}", "")
    loaded = settings.load({})
    assert loaded.registry is None
    assert loaded.vllm_version == "0.32.1"
    assert loaded.folders.state.name == "llm-d-dev"


def test_folders_are_absolute(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(isolated)
    folders = settings.load({"state": "~/s", "cache": "c"}).folders
    assert (folders.state, folders.cache) == (isolated / "s", isolated / "c")


@pytest.mark.parametrize("text", ["no_such_key = 1", "verbose = true"])
def test_an_unknown_key_of_the_file_is_an_error(pyproject: Path, text: str) -> None:
    toml(pyproject, text)
    with pytest.raises(UsageError, match=text.partition(" ")[0]) as caught:
        settings.load({})
    assert caught.value.exit_code == 2


def test_an_unknown_variable_is_an_error_and_the_known_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_D_DEV_REGISTRI", "x")
    with pytest.raises(UsageError, match="LLM_D_DEV_REGISTRI is not a setting") as caught:
        settings.load({})
    assert "LLM_D_DEV_REGISTRY," in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("install", "perhaps"),
        ("registry_port", "0"),
        ("registry_port", "65536"),
        ("registry_port", "many"),
        ("start_timeout", "0"),
        ("vllm_version", "latest"),
        ("flavor", "rocm"),
        ("rebuild_days", "0"),
        ("vllm_version", "0.32.0; rm"),
        ("nightly_expires_after", "14"),
        ("overlay_expires_after", "0d"),
        ("repository", "UPPER"),
        ("repository", "a:b"),
        ("registry", "https://quay.io/x"),
        ("registry", "quay.io/x:tag"),
        ("registry", "quay.io"),
        ("registry", "llm-d-dev"),
        ("registry", "team/llm-d-dev"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_key_and_where_it_may_stand(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(f"LLM_D_DEV_{key.upper()}", value)
    with pytest.raises(UsageError, match=f"setting '{key}'") as caught:
        settings.load({})
    assert repr(value) in caught.value.what
    assert f"LLM_D_DEV_{key.upper()}" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("registry", "quay.io/tms/llm-d-dev"),
        ("registry", "localhost/x"),
        ("registry", "localhost:5000/x"),
        ("registry", "127.0.0.1:5000/x-1_2.3"),
        ("registry", "build:5000/team/x"),
        ("repository", "llm-d-dev"),
        ("repository", "quay.io/tms/llm-d-dev"),
        ("repository", "team/llm-d-dev"),
        ("vllm_version", "0.33.0rc1"),
        ("vllm_version", "0.33.0.post1"),
        ("vllm_version", "newest"),
        ("flavor", "auto"),
        ("flavor", "cuda"),
        ("nightly_expires_after", "2w"),
    ],
)
def test_good_values(key: str, value: str) -> None:
    loaded: Any = settings.load({key: value})
    assert getattr(loaded, key) == value


def test_a_file_that_cannot_be_read_is_an_error(pyproject: Path) -> None:
    pyproject.write_text("[tool.llm-d-dev\n")
    with pytest.raises(UsageError, match=r"pyproject\.toml cannot be read"):
        settings.load({})


def test_the_file_of_this_repository_is_good() -> None:
    assert settings.load({}).nightly_expires_after == "14d"


@pytest.mark.parametrize(
    ("value", "said"),
    [("notjson", "build_args"), ('{"1A": "x"}', "build_args.1A"), ('{"A": 1}', "build_args.A")],
)
def test_a_table_in_a_variable_is_json(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setenv("LLM_D_DEV_BUILD_ARGS", value)
    with pytest.raises(UsageError, match=said) as caught:
        settings.load({})
    assert "LLM_D_DEV_" in caught.value.hint
    monkeypatch.setenv("LLM_D_DEV_BUILD_ARGS", '{"A": "1"}')
    assert settings.load({}).build_args == {"A": "1"}


def test_the_webhooks_address_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_D_DEV_NOTIFY_URL", "https://hooks.example/hidden")
    loaded = settings.load({})
    assert loaded.notify_url is not None
    assert loaded.notify_url.get_secret_value() == "https://hooks.example/hidden"
    assert "hidden" not in f"{loaded!r} {loaded} {loaded.model_dump_json()}"


@pytest.mark.parametrize("value", ["'https://hooks.example/hidden'", "['hidden']"])
def test_a_secret_in_the_file_that_is_committed_is_refused_and_not_repeated(pyproject: Path, value: str) -> None:
    toml(pyproject, f"notify_url = {value}")
    with pytest.raises(UsageError, match=r"'notify_url' is a secret and must not be in pyproject\.toml") as caught:
        settings.load({})
    assert "hidden" not in f"{caught.value.what} {caught.value.hint}"


def test_paths_of_the_file_that_is_shared_are_relative_to_it(pyproject: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = pyproject.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("LLM_D_DEV_STATE")
    toml(pyproject, "state = 'state'\nnotify_url_file = 'hook'\nbuild_secrets = {a = 'b', c = '/d'}")
    made = settings.load({})
    assert made.folders.state == pyproject.parent / "state"
    assert made.notify_url_file == pyproject.parent / "hook"
    assert made.build_secrets == {"a": pyproject.parent / "b", "c": Path("/d")}


def test_a_tilde_that_no_shell_expanded(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_D_DEV_NOTIFY_URL_FILE", "~/hook")
    made = settings.load({"build_secrets": {"a": "~/b"}, "state": Path("~/s")})
    assert made.notify_url_file == isolated / "hook"
    assert made.build_secrets == {"a": isolated / "b"}
    assert made.folders.state == isolated / "s"
