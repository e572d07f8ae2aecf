"""What a run of the suite is told on the command line."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from build.config import settings, starting
from build.config.expectation import Expectation
from build.config.gpus import HELP, Selection
from build.config.model_name import ModelName, chosen
from build.config.own_checks import own_checks
from build.errors import UsageError
from smoke.server.profile import PROFILES
from smoke.server.server import ANSWER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_START_TIMEOUT_S = 600.0
"""Seconds that a server has to become healthy; one that is given less has not failed when it needs more."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, validated.

    Attributes:
        image: Name, tag or ID of the image under test; None if a server is tested that already runs.
        url: Address of that server, without a path.
        key: Its API key; None if it wants none.
        gpus: GPUs that the container gets.
        model: Folder of the model to serve, or its name on the hub; None for the embedded one.
        report: Folder that the results are written to; None to write nothing.
        expect: What the server must show.
        start_timeout: Seconds that the server has to become healthy.
        any_user: Whether it is also started as an arbitrary user if the image is no base.
        answer_timeout: Seconds that one answer of the server may take in all.
        network: Whether the server gets the engine's network, for a model that fetches something itself.
        checks: The user's own checks: a file or a folder.
        profile: ``fast`` or ``real``; None for the device's default.
        serve_args: Further arguments of vLLM.
        env: Further variables of the server, by name; their values show nowhere.
        numbers_changed: Whether the image is to compute other numbers than its base.
    """

    image: str | None
    url: str | None
    key: str | None
    gpus: Selection
    model: Path | ModelName | None
    report: Path | None
    expect: tuple[Expectation, ...]
    start_timeout: float
    any_user: bool
    answer_timeout: float
    network: bool
    numbers_changed: bool
    checks: Path | None = None
    profile: str | None = None
    serve_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


def add(parser: pytest.Parser) -> None:
    """Declare the options to pytest."""
    group = parser.getgroup("smoke", "image under test")
    group.addoption("--image", metavar="IMAGE", help="name, tag or ID of the image to test (this or --url is required)")
    group.addoption(
        "--url",
        metavar="URL",
        help="test a server that already runs, such as http://127.0.0.1:8000: what its API shows, without any engine",
    )
    group.addoption(
        "--api-key",
        metavar="K",
        help="its API key. Shows in the list of processes; --api-key-file and the variable VLLM_API_KEY do not",
    )
    group.addoption("--api-key-file", metavar="FILE", type=_path, help="file whose first line is its API key")
    group.addoption(
        "--gpus",
        metavar="GPUS",
        default="auto",
        help=f"GPUs the container gets. {HELP}. Default: %(default)s",
    )
    group.addoption(
        "--model",
        metavar="DIR|ID[@REVISION]",
        help="model to serve, with a chat template: its folder, readable by everyone, or its name on Hugging Face's "
        "hub, from where it is fetched once. Default: a tiny one made on the spot",
    )
    group.addoption(
        "--report",
        metavar="DIR",
        type=_path,
        help="folder to write report.json, report.html, junit.xml, the server's logs and, of a conclusive run, "
        "verdict.json to. Default: nothing is written",
    )
    group.addoption(
        "--expect",
        metavar="ROUTE=TEXT",
        action="append",
        default=[],
        help="the answer to GET ROUTE must contain TEXT; may be given several times",
    )
    group.addoption(
        "--start-timeout",
        metavar="S",
        type=float,
        default=DEFAULT_START_TIMEOUT_S,
        help="seconds that the server has to become healthy. Default: %(default)s",
    )
    group.addoption(
        "--any-user",
        action="store_true",
        help="at the end start the image once more, as an arbitrary user of group 0 on a read-only root. "
        "Default: only a base, from which overlays inherit what decides it",
    )
    group.addoption(
        "--answer-timeout",
        metavar="S",
        type=float,
        default=ANSWER_S,
        help="seconds that one answer of the server may take; a check may take five times that. Default: %(default)s",
    )
    group.addoption(
        "--allow-network",
        action="store_true",
        help="give the server the engine's network and the hub: for a model of --model that fetches something itself. "
        "Default: it has no network, and is reached through the engine",
    )
    group.addoption(
        "--numbers",
        choices=("same", "changed"),
        default="same",
        help="changed: an overlay may compute other numbers than its base, on purpose. Default: %(default)s",
    )

    group.addoption(
        "--serve-arg",
        metavar="ARG",
        action="append",
        default=[],
        help="further argument of vLLM, such as --serve-arg=--max-num-seqs=8; repeatable. Default: the setting",
    )
    group.addoption(
        "--profile",
        choices=PROFILES,
        help="real: with compilation, CUDA graphs and all GPUs given, as in production; fast: without. Default: real "
        "on a GPU, fast without one",
    )
    group.addoption(
        "--checks",
        metavar="PATH",
        type=_path,
        help="checks of your own, to run after the suite's: a pytest file or a folder of such. Default: the setting",
    )
    group.addoption(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="further variable of the server; repeatable. Shows in the list of processes; the setting env and its "
        "variable LLM_D_DEV_ENV do not. Default: the setting",
    )


def parse(config: pytest.Config) -> Options:
    """Validate the command line.

    Raises:
        UsageError: The GPUs are named in a way that cannot be.
        pytest.UsageError: An option is missing or its value cannot be used.
    """
    image, url = config.getoption("--image", default=None), config.getoption("--url", default=None)
    if not image and not url:
        raise pytest.UsageError("which image? Give one: pytest smoke --image IMAGE, or a server that runs: --url URL")
    if image and url:
        raise pytest.UsageError("give --image or --url, not both")
    if url and config.getoption("--any-user"):
        raise pytest.UsageError("--any-user starts an image: give --image, not --url")
    network = config.getoption("--allow-network")
    if network and not config.getoption("--model"):
        raise pytest.UsageError("--allow-network is for a model that fetches something: give --model, or leave it out")
    _refuse_lost(config, image=bool(image))
    start_timeout = config.getoption("--start-timeout")
    answer_timeout = config.getoption("--answer-timeout")
    if answer_timeout <= 0:
        raise pytest.UsageError(f"--answer-timeout {answer_timeout:g}: give a number of seconds above 0")
    if start_timeout <= 0:
        raise pytest.UsageError(f"--start-timeout {start_timeout:g}: give a number of seconds above 0")
    return Options(
        image=image or None,
        url=_address(url) if url else None,
        key=_key(config) if url else None,
        gpus=Selection.parse(config.getoption("--gpus")),
        model=_model(config.getoption("--model")),
        report=config.getoption("--report"),
        expect=expectations(config.getoption("--expect")),
        start_timeout=start_timeout,
        any_user=config.getoption("--any-user"),
        answer_timeout=answer_timeout,
        network=network,
        numbers_changed=config.getoption("--numbers") == "changed",
        checks=checks(config),
        profile=config.getoption("--profile"),
        **starting_with(config.getoption("--serve-arg"), config.getoption("--env")),
    )


def checks(config: pytest.Config) -> Path | None:
    """The user's own checks.

    Raises:
        UsageError: There is no such file or folder.
    """
    given: Path | None = config.getoption("--checks", default=None)
    return own_checks(given or settings.load({}).checks)


def starting_with(serve_args: Sequence[str], env: Sequence[str]) -> dict[str, Any]:
    """Further arguments and variables of the server: those given, else those of the settings.

    Args:
        serve_args: As given; none for the settings'.
        env: The same; those that the caller's process hands on count as given.

    Raises:
        UsageError: The suite says one of them itself.
    """
    found = settings.load({})
    given = [*json.loads(os.environ.get(starting.CARRIER, "[]")), *env]
    return {
        "serve_args": tuple(map(starting.argument, serve_args)) or found.serve_args,
        "env": starting.variables([starting.variable(each) for each in given]) or found.variables,
    }


_OF_CONTAINERS: dict[str, Any] = {
    "--profile": None,
    "--serve-arg": [],
    "--env": [],
    "--gpus": "auto",
    "--model": None,
    "--start-timeout": DEFAULT_START_TIMEOUT_S,
    "--numbers": "same",
}
_OF_ADDRESSES = {"--api-key": None, "--api-key-file": None}


def _refuse_lost(config: pytest.Config, *, image: bool) -> None:
    """Refuse options that have no effect on what is tested."""
    lost = _OF_ADDRESSES if image else _OF_CONTAINERS
    for option, default in lost.items():
        if config.getoption(option) != default:
            told = "a server that already runs" if image else "an image"
            raise pytest.UsageError(f"{option} is for {told}: give {'--url' if image else '--image'}, or leave it out")


def expectations(words: Sequence[str]) -> tuple[Expectation, ...]:
    """Parse each ``ROUTE=TEXT``."""
    return tuple(Expectation.parse(word) for word in words)


def _path(text: str) -> Path:
    """A path, its ``~`` expanded: a shell leaves that of ``--model=~/x`` alone."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib refuses the ~ of an unknown user


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise pytest.UsageError("--url: give an address such as http://127.0.0.1:8000, without user and password")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"


def _key(config: pytest.Config) -> str | None:
    """The API key, from the first place that has one."""
    file: Path | None = config.getoption("--api-key-file")
    if file is None:
        return config.getoption("--api-key") or os.environ.get("VLLM_API_KEY")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise pytest.UsageError(f"--api-key-file {file} cannot be read") from error
    if not lines or not lines[0].strip():
        raise pytest.UsageError(f"--api-key-file {file} holds no key")
    return lines[0].strip()


def _model(word: str | None) -> Path | ModelName | None:
    if word is None:
        return None
    try:
        return chosen(_path(word))
    except UsageError as error:
        raise pytest.UsageError(f"{error.what}; {error.hint}") from error
