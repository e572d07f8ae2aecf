"""The smoke suite on a server that already runs: no image, and no engine to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standin.source import VERSION
from tests.standin.trial import KEY, free_port, run_alone, run_url, serving

if TYPE_CHECKING:
    from pathlib import Path

# What cannot be known of a server that somebody else started.
_NOT_ASKED = {
    "server/version",
    *(
        f"openai/{name}"
        for name in ("completion_is_right", "chat_is_right", "echo", "penalty", "tools", "conversation")
    ),
    *("openai/prefix_cache", "openai/tokens"),
    *("numbers/steady", "numbers/as_base"),
    *("shutdown/no_traceback", "shutdown/no_key_in_log", "shutdown/sigterm"),
}


@pytest.mark.parametrize("way", ["file", "variable", "option"])
def test_server_that_runs_is_tested_without_an_engine(tmp_path: Path, way: str) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n", encoding="utf-8")
    options = {"file": ("--api-key-file", file), "variable": (), "option": ("--api-key", KEY)}[way]
    variables = {"VLLM_API_KEY": KEY} if way == "variable" else {}
    with serving(tmp_path / "vllm") as url:
        outcome = run_url(url, tmp_path / "report", *options, **variables)
    assert outcome.status == 0, outcome.text
    assert (outcome.report["result"], outcome.report["image_id"]) == ("pass", None)
    of_images = ("image/", "binaries/", "gpu/", "any_user/", "server/exp")
    skipped = {name for name in outcome.named("skipped") if not name.startswith(of_images)}
    assert {name.partition("[")[0] for name in skipped} == _NOT_ASKED
    assert outcome.verdict is None
    assert KEY not in outcome.text + "".join(path.read_text(encoding="utf-8") for path in outcome.folder.iterdir())


@pytest.mark.parametrize("route", ["/v1/models", "/v1/completions"])
def test_server_does_not_lead_to_others_that_only_the_caller_reaches(tmp_path: Path, route: str) -> None:
    with (
        serving(tmp_path / "other") as target,
        serving(tmp_path / "vllm", "redirects", STANDIN_LEADS=route, STANDIN_TARGET=f"{target}/version") as url,
    ):
        outcome = run_url(f"{url}/v1", tmp_path / "report", VLLM_API_KEY=KEY)
    assert outcome.status == 1, outcome.text
    assert f"a redirect to '{target}/version', which is not followed" in outcome.text
    assert VERSION not in (outcome.folder / "report.json").read_text(encoding="utf-8")


def test_address_at_which_nothing_answers(tmp_path: Path) -> None:
    outcome = run_url(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert outcome.status == 1, outcome.text
    assert "FAILED smoke/test_3_server.py::test_health" in outcome.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--url", "http://x", "--image", "y"), "not both"),
        (("--url", "127.0.0.1:8000"), "give an address such as"),
        (("--url", "http://x", "--api-key-file", "/nowhere"), "cannot be read"),
        (("--url", "http://x", "--gpus", "0"), "--gpus is for an image"),
        (("--url", "http://x", "--model", "org/name"), "--model is for an image"),
        (("--image", "x", "--api-key", "y"), "--api-key is for a server that already runs"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], said: str) -> None:
    status, text = run_alone(*options)
    assert status == 4
    assert said in text
