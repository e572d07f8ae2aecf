"""Which build arguments a base gets, on stand-ins for llm-d's trees of 2025 and 2026."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.errors import SourceError, UsageError
from build.llmd import arguments
from build.llmd.arguments import Arguments, Given
from build.llmd.dockerfile import Dockerfile
from build.llmd.versions import Unread, read

TREES = Path(__file__).parents[1] / "standin_llmd"
DECIDED = {"USE_SCCACHE": "false", "VLLM_COMMIT_SHA": "a" * 40, "VLLM_USE_PRECOMPILED": "1", "VLLM_REPO": "https://x"}


def dockerfile(year: str, *, without: str = "") -> Dockerfile:
    text = (TREES / year / "docker/Dockerfile.cuda").read_text()
    kept = [line for line in text.splitlines() if not (without and line.startswith(f"ARG {without}"))]
    return Dockerfile.parse("\n".join(kept), name="docker/Dockerfile.cuda")


def choose(year: str, *asked: str, without: str = "", versions: bool = True, **decided: str) -> Arguments:
    stated = read(TREES / year / "docker/common-versions", name="docker/common-versions")
    return arguments.choose(
        dockerfile(year, without=without),
        versions=[
            Given(name=v.name, value=v.value, origin=v.place.replace("docker/common-versions", "cv"))
            for v in stated.versions
        ]
        if versions
        else [],
        decided=[Given(name=k, value=v, origin="nightly") for k, v in {**DECIDED, **decided}.items()],
        asked=arguments.parse(asked),
    )


def origins(chosen: Arguments) -> dict[str, str]:
    return {one.name: one.origin for one in chosen.given}


def test_2026_versions_of_the_tree_then_the_nightlys_then_whats_asked_for() -> None:
    chosen = choose("2026", "MAX_JOBS=8", "CUDA_PATCH=9", VLLM_PRECOMPILED_WHEEL_COMMIT="b" * 40)
    assert chosen.values | DECIDED == chosen.values
    assert chosen.values["VLLM_PRECOMPILED_WHEEL_COMMIT"] == "b" * 40
    assert (chosen.values["CUDA_MAJOR"], chosen.values["CUDA_PATCH"], chosen.values["MAX_JOBS"]) == ("13", "9", "8")
    assert origins(chosen)["CUDA_MAJOR"] == "cv:13"
    assert origins(chosen)["VLLM_REPO"] == "nightly"
    assert origins(chosen)["CUDA_PATCH"] == "--build-arg"


def test_2026_another_dockerfiles_versions_are_left_out() -> None:
    assert [one.name for one in choose("2026").left_out] == ["VLLM_XPU_BASE_IMAGE"]
    assert "VLLM_XPU_BASE_IMAGE" not in choose("2026").values


def test_2026_suffixes_that_buildkit_would_take_for_empty_are_given() -> None:
    chosen = choose("2026")
    assert chosen.values["BUILD_BASE_IMAGE_SUFFIX"] == chosen.values["FINAL_BASE_IMAGE_SUFFIX"] == "ubi9"
    assert origins(chosen)["BUILD_BASE_IMAGE_SUFFIX"] == "docker/Dockerfile.cuda:12 (BASE_IMAGE_SUFFIX)"
    assert choose("2026", "BASE_IMAGE_SUFFIX=ubuntu").values["FINAL_BASE_IMAGE_SUFFIX"] == "ubuntu"


def test_2025_everything_has_a_default() -> None:
    assert choose("2025").values == DECIDED
    assert choose("2025", "LMCACHE_VERSION=v1").values["LMCACHE_VERSION"] == "v1"


def test_what_nobody_gives_is_named_with_its_line() -> None:
    with pytest.raises(SourceError, match=r"docker/Dockerfile\.cuda:20: VLLM_PREBUILT") as caught:
        choose("2026", versions=False, VLLM_PRECOMPILED_WHEEL_COMMIT="b" * 40)
    assert "VLLM_REPO" not in str(caught.value)
    assert "--build-arg VLLM_PREBUILT=VALUE" in caught.value.hint


@pytest.mark.parametrize("name", ["VLLM_COMMIT_SHA", "USE_SCCACHE", "VLLM_REPO"])
def test_an_argument_of_the_nightlys_that_is_no_longer_declared_is_found(name: str) -> None:
    with pytest.raises(
        SourceError,
        match=rf"docker/Dockerfile\.cuda does not declare {name} \(from nightly\); docker/Dockerfile\.cuda:\d+ ",
    ):
        choose("2026", without=name)


def test_one_that_was_asked_for_is_found_with_the_line_of_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"does not declare MAX_JOB \(from --build-arg\); .*cuda:34 declares MAX_JOBS"):
        choose("2026", "MAX_JOB=8")


def test_one_that_no_stage_sees_is_refused() -> None:
    # llm-d declares it before the first FROM only: its script works the variant out from CUDA_MAJOR and CUDA_MINOR.
    with pytest.raises(UsageError, match=r"no effect: docker/Dockerfile\.cuda:22"):
        choose("2026", "VLLM_PRECOMPILED_WHEEL_VARIANT=cu129")


def test_proxies_need_no_declaration() -> None:
    assert choose("2026", "BUILDKIT_INLINE_CACHE=1").values["BUILDKIT_INLINE_CACHE"] == "1"


@pytest.mark.parametrize("word", ["MAX_JOBS", "=1", "A B=1", "1A=2"])
def test_only_names_and_values_are_arguments(word: str) -> None:
    with pytest.raises(UsageError, match="is not NAME=VALUE"):
        arguments.parse([word])


def test_what_the_nightly_replaces_is_told_with_its_place() -> None:
    remarks = {one.name: one.remark for one in choose("2026", VLLM_PRECOMPILED_WHEEL_COMMIT="b" * 40).given}
    assert remarks["USE_SCCACHE"] == "instead of true (docker/Dockerfile.cuda:14)"
    assert remarks["VLLM_COMMIT_SHA"] == f"instead of {'1' * 40} (cv:3)"
    assert remarks["VLLM_USE_PRECOMPILED"] is remarks["CUDA_MAJOR"] is None


def test_a_tree_that_compiles_is_told_that_the_nightly_does_not() -> None:
    compiles = [Given(name="VLLM_USE_PRECOMPILED", value="0", origin="cv:9")]
    decided = [Given(name=name, value=value, origin="nightly") for name, value in DECIDED.items()]
    chosen = arguments.choose(dockerfile("2025"), versions=compiles, decided=decided, asked=[])
    assert "VLLM_USE_PRECOMPILED: instead of 0 (cv:9)" in chosen.remarks


def test_arguments_without_a_value_are_in_the_plan() -> None:
    told = {one.name: one.remark or "" for one in choose("2026").unset}
    assert set(told) == {"CACHE_BUSTER", "SUPPRESS_PYTHON_OUTPUT"}
    assert "whether a step needs one is unknown" in told["SUPPRESS_PYTHON_OUTPUT"]
    assert (
        "the Dockerfile handles that" in {one.name: one.remark or "" for one in choose("2025").unset}["PYTHON_VERSION"]
    )


@pytest.mark.parametrize(("name", "refused"), [("VLLM_PREBUILT", True), ("VLLM_REPO", False), ("OTHER", False)])
def test_a_version_that_takes_a_shell_is_refused_where_it_counts(name: str, *, refused: bool) -> None:
    unread = [Unread(name=name, text=f"{name}=$(date)", place="cv:7")]
    decided = [Given(name=one, value=value, origin="nightly") for one, value in DECIDED.items()]
    prebuilt = [] if refused else [Given(name="VLLM_PREBUILT", value="0", origin="cv:1")]
    wheel = [Given(name="VLLM_PRECOMPILED_WHEEL_COMMIT", value="b" * 40, origin="nightly")]

    def chosen() -> Arguments:
        return arguments.choose(
            dockerfile("2026"), versions=prebuilt, decided=[*decided, *wheel], asked=[], unread=unread
        )

    if not refused:
        assert chosen().values
        return
    with pytest.raises(SourceError, match=r"cv:7 needs a shell to evaluate: VLLM_PREBUILT=\$\(date\)") as caught:
        chosen()
    assert caught.value.hint == "give its value with --build-arg VLLM_PREBUILT=VALUE"
