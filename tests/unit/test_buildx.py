"""The command line of a build, and what its failures are called."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build import buildx
from build.buildx import Request
from build.errors import BuildError, DiskError, EngineError
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST = Request(
    dockerfile=Path("/d/overlay.Dockerfile"),
    context=Path("/c"),
    tags=("llm-d-dev:one", "llm-d-dev:two"),
    arguments={"BASE": "x y"},
    contexts={"source": Path("/src/vllm/.git"), "links": Path("/l")},
    secrets={"uv.toml": Path("/s/uv.toml")},
    labels={"llm-d-dev.kind": "overlay"},
)


def options(words: Sequence[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(words) if option == name]


def test_everything_that_was_asked_for_is_in_the_command_line() -> None:
    words = REQUEST.argv(metadata=Path("/i/iid"))
    assert words[:3] == ["docker", "buildx", "build"]
    assert words[-1] == "/c"
    assert options(words, "--file") == ["/d/overlay.Dockerfile"]
    assert options(words, "--metadata-file") == ["/i/iid"]
    assert options(words, "--tag") == ["llm-d-dev:one", "llm-d-dev:two"]
    assert options(words, "--build-arg") == ["BASE=x y"]
    assert options(words, "--label") == ["llm-d-dev.kind=overlay"]
    assert options(words, "--target") == []
    assert options(
        Request(dockerfile=Path("d"), context=Path("c"), target="t").argv(metadata=Path("i")), "--target"
    ) == ["t"]


def test_the_builder_is_that_of_the_engine_whatever_the_user_selected() -> None:
    assert options(REQUEST.argv(metadata=Path("i")), "--builder") == ["default"]


def test_a_context_that_ends_like_a_repository_is_still_a_folder() -> None:
    # docker buildx 0.13 takes `/src/vllm/.git` for a remote repository.
    words = options(REQUEST.argv(metadata=Path("i")), "--build-context")
    assert words == ["links=/l/", "source=/src/vllm/.git/"]


def test_secrets_are_files() -> None:
    assert options(REQUEST.argv(metadata=Path("i")), "--secret") == ["id=uv.toml,src=/s/uv.toml"]


def test_nothing_is_added_that_would_differ_from_run_to_run() -> None:
    assert options(REQUEST.argv(metadata=Path("i")), "--provenance") == ["false"]
    assert REQUEST.argv(metadata=Path("i")) == REQUEST.argv(metadata=Path("i"))


# --- Running it --------------------------------------------------------------------------------------------


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in docker's place; returns the file that holds what it does, in shell."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n. {tmp_path}/does\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "does"


def build(
    docker: Path, engine: FakeEngine | None = None, *, says: str = "", ends: int = 0, made: dict[str, str] | None = None
) -> tuple[str, list[str]]:
    made = made or {}
    docker.write_text(
        f"""
        while [ "$1" != --metadata-file ]; do shift; done
        cat >"$2" <<'END'
{json.dumps(made)}
END
        cat <<'END'
{says}
END
        echo "$DOCKER_HOST" > {docker.parent}/host
        exit {ends}
        """
    )
    lines: list[str] = []
    return buildx.build(engine or FakeEngine(), REQUEST, progress=lines.append), lines


def test_the_image_id_comes_back_and_steps_are_shown_without_their_numbers(docker: Path) -> None:
    engine = FakeEngine()
    image = engine.hold("x:1")
    made = {"containerimage.digest": image.id}
    image_id, lines = build(docker, engine, says="#5 [2/3] RUN make\n#5 0.123 compiling\n#5 DONE 1.0s", made=made)
    assert image_id == image.id
    assert lines == ["RUN make", "compiling", "DONE 1.0s"]
    assert (docker.parent / "host").read_text() == "unix:///nonexistent\n"


@pytest.mark.parametrize("store", ["containerimage.digest", "containerimage.config.digest"])
def test_the_image_id_is_the_digest_that_the_engine_knows(docker: Path, store: str) -> None:
    engine = FakeEngine()
    image = engine.hold("x:1")
    digests = dict.fromkeys(("containerimage.digest", "containerimage.config.digest"), f"sha256:{'0' * 64}")
    assert build(docker, engine, made={**digests, store: image.id})[0] == image.id


def test_an_image_that_the_engine_does_not_have_was_not_built(docker: Path) -> None:
    with pytest.raises(BuildError, match="does not have what was built"):
        build(docker, made={"containerimage.digest": f"sha256:{'0' * 64}"})


@pytest.mark.parametrize(
    ("says", "kind", "what"),
    [
        (
            "#5 0.1 error: no such thing\n#5 ERROR: process did not complete\nERROR: failed to solve: x",
            BuildError,
            "ERROR: failed to solve: x",
        ),
        ("#5 1.2 write /x: no space left on device\nERROR: failed to solve", DiskError, "no space left"),
        (
            "ERROR: Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
            EngineError,
            "went away",
        ),
        ("ERROR: error during connect: Post: EOF", EngineError, "went away"),
        ("ERROR: failed to receive status: rpc error: error reading from server: EOF", EngineError, "went away"),
        ("ERROR: dial unix /run/x/docker.sock: connect: connection refused", EngineError, "went away"),
        # A registry that is down, and a package index.
        (
            "ERROR: failed to do request: Head: dial tcp 127.0.0.1:5000: connect: connection refused",
            BuildError,
            "dial tcp",
        ),
        ("#9 2.0 dial unix /x: connect: connection refused\nERROR: exit code: 1", BuildError, "exit code: 1"),
        ("something", BuildError, "overlay.Dockerfile: something"),
    ],
)
def test_a_failure_is_called_what_it_is(docker: Path, says: str, kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=r"overlay\.Dockerfile: ") as caught:
        build(docker, says=says, ends=1)
    assert what in str(caught.value)


def test_a_failure_without_a_word_is_one_too(docker: Path) -> None:
    docker.write_text("exit 1")
    with pytest.raises(BuildError, match="without a word"):
        buildx.build(FakeEngine(), REQUEST, progress=lambda _line: None)
