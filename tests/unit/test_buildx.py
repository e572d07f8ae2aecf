"""The command line of a build, and what its failures are called."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.engine import buildx
from build.engine.buildx import ImageBuild
from build.errors import BuildError, DiskError, EngineError, UsageError
from build.flavors import cpu
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST = ImageBuild(
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
        ImageBuild(dockerfile=Path("d"), context=Path("c"), target="t").argv(metadata=Path("i")), "--target"
    ) == ["t"]


def test_the_builder_is_that_of_the_engine_whatever_the_user_selected() -> None:
    assert options(REQUEST.argv(metadata=Path("i")), "--builder") == ["default"]


def test_a_context_that_ends_like_a_repository_is_still_a_folder() -> None:
    # docker buildx 0.13 takes `/src/vllm/.git` for a remote repository.
    words = options(REQUEST.argv(metadata=Path("i")), "--build-context")
    assert words == ["links=/l/", "source=/src/vllm/.git/"]


def test_secrets_are_files() -> None:
    assert options(REQUEST.argv(metadata=Path("i")), "--secret") == ["id=uv.toml,src=/s/uv.toml"]


def test_values_of_hidden_arguments_and_secret_variables_stay_off_the_command_line() -> None:
    words = ImageBuild(
        dockerfile=Path("d"),
        context=Path("c"),
        hidden_arguments={"HTTPS_PROXY": "http://me:password@proxy"},
        secret_variables={"aws_access_key_id": "AWS_ACCESS_KEY_ID"},
    ).argv(metadata=Path("i"))
    assert options(words, "--build-arg") == ["HTTPS_PROXY"]
    assert options(words, "--secret") == ["id=aws_access_key_id,env=AWS_ACCESS_KEY_ID"]
    assert "password" not in " ".join(words)


def test_another_builder_is_told_to_load_what_it_builds() -> None:
    words = ImageBuild(dockerfile=Path("d"), context=Path("c"), builder="big").argv(metadata=Path("i"))
    assert options(words, "--builder") == ["big"]
    assert "--load" in words
    assert "--load" not in REQUEST.argv(metadata=Path("i"))


def test_the_cache_goes_where_it_is_told() -> None:
    request = ImageBuild(
        dockerfile=Path("d"), context=Path("c"), cache_to="type=local,dest=/k", cache_from="type=local,src=/k"
    )
    words = request.argv(metadata=Path("i"))
    assert (options(words, "--cache-to"), options(words, "--cache-from")) == (
        ["type=local,dest=/k"],
        ["type=local,src=/k"],
    )


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
    docker: Path,
    engine: FakeEngine | None = None,
    *,
    says: str = "",
    ends: int = 0,
    made: dict[str, str] | None = None,
    request: ImageBuild = REQUEST,
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
        echo "$DOCKER_HOST $HTTPS_PROXY" > {docker.parent}/environment
        exit {ends}
        """
    )
    lines: list[str] = []
    return buildx.build(engine or FakeEngine(), request, progress=lines.append), lines


def test_the_image_id_comes_back_and_steps_are_shown_without_their_numbers(docker: Path) -> None:
    engine = FakeEngine()
    image = engine.hold("x:1")
    made = {"containerimage.digest": image.id}
    image_id, lines = build(docker, engine, says="#5 [2/3] RUN make\n#5 0.123 compiling\n#5 DONE 1.0s", made=made)
    assert image_id == image.id
    assert lines == ["RUN make", "compiling", "DONE 1.0s"]
    assert (docker.parent / "environment").read_text() == "unix:///nonexistent \n"


@pytest.mark.parametrize("store", ["containerimage.digest", "containerimage.config.digest"])
def test_the_image_id_is_the_digest_that_the_engine_knows(docker: Path, store: str) -> None:
    engine = FakeEngine()
    image = engine.hold("x:1")
    digests = dict.fromkeys(("containerimage.digest", "containerimage.config.digest"), f"sha256:{'0' * 64}")
    assert build(docker, engine, made={**digests, store: image.id})[0] == image.id


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


FAILED = """\
#7 [installed 1/2] RUN uv pip install
#7 0.9 error: No solution found when resolving dependencies
#6 0.8 E: another step goes on
#7 0.9   cause: Because you require a==1 and a==2, we can conclude that your requirements are unsatisfiable.
#7 ERROR: process "/bin/sh -euc uv" did not complete successfully: exit code: 1
------
ERROR: failed to solve: process "/bin/sh -euc uv" did not complete successfully: exit code: 1"""


def test_a_step_that_fails_is_told_with_its_own_reason(docker: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build(docker, says=FAILED, ends=1)
    assert caught.value.what == (
        "overlay.Dockerfile: No solution found when resolving dependencies: Because you require a==1 and a==2, we can "
        'conclude that your requirements are unsatisfiable. (ERROR: failed to solve: process "/bin/sh -euc uv" did not '
        "complete successfully: exit code: 1)"
    )


def test_a_step_without_a_known_word_is_told_with_its_last_line(docker: Path) -> None:
    with pytest.raises(BuildError, match=r"overlay\.Dockerfile: that is that \(ERROR: failed to solve: x\)"):
        build(docker, says="#7 0.1 that is that\n#7 0.2\n#7 ERROR: x\nERROR: failed to solve: x", ends=1)


def test_a_failure_without_a_word_is_one_too(docker: Path) -> None:
    docker.write_text("exit 1")
    with pytest.raises(BuildError, match="without an error message"):
        buildx.build(FakeEngine(), REQUEST, progress=lambda _line: None)


ELSEWHERE = ImageBuild(dockerfile=Path("d"), context=Path("c"), builder="big")


def test_hidden_arguments_are_in_the_environment(docker: Path) -> None:
    request = ImageBuild(dockerfile=Path("d"), context=Path("c"), hidden_arguments={"HTTPS_PROXY": "http://proxy"})
    engine = FakeEngine()
    build(docker, engine, request=request, made={"containerimage.digest": engine.hold("x:1").id})
    assert (docker.parent / "environment").read_text() == "unix:///nonexistent http://proxy\n"


def test_what_another_builder_does_not_load_is_no_image(docker: Path) -> None:
    with pytest.raises(BuildError, match="builder big did not load its image into the engine"):
        build(docker, request=ELSEWHERE, made={"containerimage.digest": f"sha256:{'0' * 64}"})
    engine = FakeEngine()
    image = engine.hold("x:y")
    assert build(docker, engine, request=ELSEWHERE, made={"containerimage.config.digest": image.id})[0] == image.id


@pytest.mark.parametrize(
    ("says", "request_", "what"),
    [
        ('ERROR: no builder "big" found', ELSEWHERE, "there is no builder 'big'"),
        (
            "ERROR: Cache export is not supported for the docker driver.",
            ImageBuild(dockerfile=Path("d"), context=Path("c"), cache_to="type=local,dest=/k"),
            "cannot export its cache",
        ),
    ],
)
def test_a_builder_that_cannot_is_a_setting_to_correct(
    docker: Path, says: str, request_: ImageBuild, what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        build(docker, says=says, ends=1, request=request_)


def test_stages_that_the_cache_would_leave_old_are_built_anew() -> None:
    words = ImageBuild(dockerfile=Path("d"), context=Path("c"), uncached=("system",)).argv(metadata=Path("i"))
    assert words[words.index("--no-cache-filter") + 1] == "system"
    assert "--no-cache-filter" not in ImageBuild(dockerfile=Path("d"), context=Path("c")).argv(metadata=Path("i"))
    assert set(cpu._UNCACHED) <= set(re.findall(r"^FROM .* AS (\S+)$", cpu.DOCKERFILE.read_text(), re.MULTILINE))
