"""How a cuda base will be built, told without engine and network."""

from __future__ import annotations

import datetime as dt
import json
import platform
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from build.cli.main import main
from build.config import settings
from build.console import Console
from build.context import Context
from build.errors import SourceError, UsageError
from build.flavors import cuda
from build.flavors.cuda_wishes import CudaWishes
from build.llmd.tree import DOCKERFILE
from build.nightly import run
from build.source.mirror import Remote
from build.source.repository import Commit
from tests.unit.test_llmd import upstream
from tests.unit.work import Work, git

if TYPE_CHECKING:
    from build.flavors.recipe import Recipe

__all__ = ["upstream"]

TREES = Path(__file__).parents[1] / "standin_llmd"
COMMIT = "d" * 40
KNOWN = Commit(id=COMMIT, subject="x", timestamp=0)


def wishes(**wanted: Any) -> CudaWishes:  # noqa: ANN401 - what Wishes takes
    return CudaWishes(**{"commit": COMMIT, "llm_d": TREES / "2026", "preflight": False, **wanted})


def recipe(*build_args: str, overrides: dict[str, Any] | None = None, **wanted: Any) -> Recipe:  # noqa: ANN401 - the same
    context = Context(settings=settings.load(overrides or {}), console=Console(quiet=True))
    asked = wishes(build_args=build_args, **wanted)
    return run.plan(context, run.BaseRequest(flavor="cuda", force=False, push=True, wishes=asked))


def values(made: Recipe) -> dict[str, str]:
    return made.arguments.values


def test_the_whole_plan_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["nightly", "--flavor", "cuda", "--dry-run", "--json", "--commit", COMMIT, "--no-preflight"]
    assert main([*words, "--llm-d", str(TREES / "2026"), "--build-arg", "MAX_JOBS=9", "--registry", "r.io/x"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["flavor"], plan["commit"], plan["commit_from"]) == ("cuda", COMMIT, "--commit")
    wheel = {"commit": COMMIT, "variant": "cu130", "architecture": platform.machine()}
    assert plan["wheel"] == wheel | {"address": None, "behind": 0, "checked": False}
    origins = {one["name"]: (one["value"], one["from"]) for one in plan["arguments"]}
    assert origins["CUDA_MAJOR"] == ("13", "docker/common-versions:13")
    assert origins["USE_SCCACHE"] == ("false", "the nightly")
    assert origins["MAX_JOBS"] == ("9", "--build-arg")
    assert {one["name"]: one["from"] for one in plan["defaults"]}["TARGETOS"] == "docker/Dockerfile.cuda:10"
    assert plan["tags"] == [
        f"{name}:{tag}" for name in ("llm-d-dev", "r.io/x") for tag in (f"nightly-{COMMIT}", "nightly")
    ]
    assert plan["labels"]["llm-d-dev.commit"] == COMMIT
    assert f"VLLM_COMMIT_SHA={COMMIT}" in plan["command"]
    assert plan["command"][-1] == str(TREES / "2026")


def test_the_plan_is_for_people_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["nightly", "--flavor", "cuda", "--dry-run", "--commit", COMMIT, "--no-preflight"]
    assert main([*words, "--llm-d", str(TREES / "2025")]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^  VLLM_COMMIT_SHA +{COMMIT}  \(the nightly\)$", shown, re.MULTILINE)
    assert "variant default" in shown


def test_the_cpu_flavor_has_a_plan_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nightly", "--dry-run", "--json", "--vllm-version", "0.31.0"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["flavor"], plan["commit"], plan["wheel"]["version"]) == ("cpu", None, "0.31.0")


def test_what_is_pinned_in_the_tree_does_not_leak_in() -> None:
    given = values(recipe())
    assert given["VLLM_REPO"] == "https://github.com/vllm-project/vllm.git"
    assert given["VLLM_PRECOMPILED_WHEEL_COMMIT"] == given["VLLM_COMMIT_SHA"] == COMMIT
    assert values(recipe(remote=Remote.named("nm")))["VLLM_REPO"] == "https://github.com/neuralmagic/vllm.git"


def test_the_platform_is_given_where_the_dockerfile_hides_it() -> None:
    docker = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    assert values(recipe())["TARGETPLATFORM"] == f"linux/{docker}"
    assert values(recipe("TARGETPLATFORM=linux/s390x"))["TARGETPLATFORM"] == "linux/s390x"
    assert values(recipe(llm_d=TREES / "2025"))["TARGETPLATFORM"] == f"linux/{docker}"
    # Llm-d's own meaning of it, with a default.
    assert "TARGETOS" not in values(recipe())


def test_a_tree_that_looks_for_the_commits_own_wheel_is_not_told() -> None:
    assert "VLLM_PRECOMPILED_WHEEL_COMMIT" not in values(recipe(llm_d=TREES / "2025"))


def test_compiling_is_for_who_asks() -> None:
    assert values(recipe())["VLLM_USE_PRECOMPILED"] == "1"
    made = recipe(compile=True)
    assert (values(made)["VLLM_USE_PRECOMPILED"], made.wheel) == ("0", None)
    with pytest.raises(UsageError, match=r"VLLM_USE_PRECOMPILED \(--build-arg\) is set by --compile"):
        recipe("VLLM_USE_PRECOMPILED=0")


@pytest.mark.parametrize(("name", "option"), [("VLLM_COMMIT_SHA", "--commit"), ("VLLM_REPO", "--remote")])
def test_what_the_run_has_to_know_has_options_of_its_own(name: str, option: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} \(setting build_args\) is set by {option}"):
        recipe(overrides={"build_args": {name: "x"}})


def test_settings_give_arguments_and_the_command_line_wins() -> None:
    both = {"build_args": {"MAX_JOBS": "4", "CUDA_PATCH": "7"}}
    given = {one.name: (one.value, one.origin) for one in recipe("MAX_JOBS=8", overrides=both).arguments.given}
    assert given["MAX_JOBS"] == ("8", "--build-arg")
    assert given["CUDA_PATCH"] == ("7", "setting build_args")


def test_an_image_without_source_is_no_base() -> None:
    with pytest.raises(UsageError, match="VLLM_PREBUILT=1"):
        recipe("VLLM_PREBUILT=1")


def test_a_dockerfile_without_cuda_version_has_no_variant(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    names = ("USE_SCCACHE", "VLLM_COMMIT_SHA", "VLLM_REPO", "VLLM_USE_PRECOMPILED")
    (tmp_path / DOCKERFILE).write_text("FROM x\n" + "".join(f"ARG {name}\n" for name in names))
    made = recipe(llm_d=tmp_path)
    assert made.wheel
    assert (made.wheel["variant"], made.wheel["checked"]) == (None, False)
    assert any("the rule of the tree's scripts was not understood" in one for one in made.remarks)
    with pytest.raises(SourceError, match="does not state its CUDA version") as caught:
        recipe(llm_d=tmp_path, preflight=True)
    assert "--no-preflight" in caught.value.hint


def test_sccaches_credentials_are_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipe().secrets == []
    with pytest.raises(UsageError, match="USE_SCCACHE=true needs the secret aws_access_key_id"):
        recipe("USE_SCCACHE=true")
    (tmp_path / "key").write_text("THE-KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "THE-SECRET")
    made = recipe("USE_SCCACHE=true", overrides={"build_secrets": {"aws_access_key_id": tmp_path / "key"}})
    assert made.secrets == ["aws_access_key_id", "aws_secret_access_key"]
    assert f"id=aws_access_key_id,src={tmp_path}/key" in made.command
    assert "id=aws_secret_access_key,env=AWS_SECRET_ACCESS_KEY" in made.command
    assert "THE-" not in json.dumps(made.document())


def test_a_secret_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"secret x: .*nothing is not a file"):
        recipe(overrides={"build_secrets": {"x": tmp_path / "nothing"}})


def test_proxies_are_named_and_their_passwords_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://somebody:THE-PASSWORD@proxy:1")
    made = recipe()
    assert {"HTTPS_PROXY", "https_proxy"} <= set(made.command)
    assert "THE-PASSWORD" not in json.dumps(made.document())


@pytest.mark.parametrize(
    ("build_args", "address"),
    [
        (("CUDA_IMAGE=https://me:THE-PASSWORD@r.io/cuda",), "https://git.example/vllm"),
        ((), "https://THE-TOKEN@git.example/vllm"),
    ],
)
def test_passwords_in_arguments_are_refused_for_they_stay_in_the_image(
    build_args: tuple[str, ...], address: str
) -> None:
    with pytest.raises(UsageError, match="would stay in the image's history") as caught:
        recipe(*build_args, remote=Remote(name="x", address=address))
    assert "THE-" not in str(caught.value)


def test_the_user_of_ssh_is_no_secret() -> None:
    assert values(recipe(remote=Remote(name="x", address="ssh://git@h/vllm")))["VLLM_REPO"] == "ssh://git@h/vllm"


def test_a_certificate_bundle_is_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("x")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert recipe().secrets == ["llm-d-dev-ca"]


def test_the_cache_goes_to_the_registry_or_to_a_folder(tmp_path: Path) -> None:
    here = {"cache_to": "registry", "registry": "r.io/x", "builder": "big"}
    command = recipe(overrides=here).command
    assert "type=registry,ref=r.io/x:buildcache,mode=max" in command
    assert "type=registry,ref=r.io/x:buildcache" in command
    assert command[command.index("--builder") + 1] == "big"
    assert "--load" in command
    folder = tmp_path / "buildkit"
    local = {"cache_to": "local", "cache": tmp_path}
    assert "--cache-from" not in recipe(overrides=local).command
    folder.mkdir()
    (folder / "index.json").write_text("{}")
    assert f"type=local,src={folder}" in recipe(overrides=local).command
    with pytest.raises(UsageError, match="needs a registry"):
        recipe(overrides={"cache_to": "registry"})


@pytest.mark.parametrize(
    "words",
    [
        ["--commit", COMMIT],
        ["--remote", "nm"],
        ["--build-arg", "A=1"],
        ["--build-secret", "a=b"],
        ["--compile"],
        ["--no-preflight"],
        ["--builder", "big"],
        ["--cache-to", "local"],
    ],
)
def test_options_of_the_cuda_flavor_are_for_it_alone(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nightly", "--flavor", "cpu", "--dry-run", "--json", *words]) == 2
    assert f"{words[0]} is for bases of the cuda flavor" in capsys.readouterr().err


def test_one_of_its_options_is_enough_to_mean_the_cuda_flavor(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["nightly", "--dry-run", "--json", "--commit", COMMIT, "--no-preflight", "--llm-d", str(TREES / "2026")]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["flavor"] == "cuda"


def test_the_fingerprint_is_of_commit_tree_and_arguments(upstream: Work) -> None:
    for line in (TREES / "2026").rglob("*"):
        if line.is_file():
            upstream.write(str(line.relative_to(TREES / "2026")), line.read_text())

    def fingerprint(*build_args: str) -> str:
        context = Context(settings=settings.load({}), console=Console(quiet=True))
        with cuda.opened(context, wishes(llm_d=upstream.path, build_args=build_args)) as flavor:
            return flavor.fingerprint(KNOWN)

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint("MAX_JOBS=9") != first
    upstream.write("docker/scripts/install-vllm.sh", "#!/bin/sh\n")
    assert fingerprint() != first


def with_wheel(work: Work, commit: str, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A repository as a remote that serves single files, where one commit has a wheel."""
    git(work.path, "config", "uploadpack.allowFilter", "true")
    git(work.path, "config", "uploadpack.allowAnySHA1InWant", "true")
    monkeypatch.setattr(
        "build.flavors.wheels.WheelIndex.find", lambda _self, asked, **_: "there" if asked == commit else None
    )
    return Remote(name="here", address=str(work.path))


def test_main_is_resolved_without_a_clone_and_the_wheel_of_an_ancestor_found(
    work: Work, monkeypatch: pytest.MonkeyPatch, isolated: Path
) -> None:
    first = work.commit("First", **{"setup.py": "1"})
    second = work.commit("Second", **{"a.py": "1"})
    remote = with_wheel(work, first, monkeypatch)
    made = recipe(commit=None, preflight=True, remote=remote)
    assert (made.commit, made.origin) == (second, f"main of here ({work.path})")
    assert made.wheel
    assert (made.wheel["commit"], made.wheel["behind"]) == (first, 1)
    assert values(made)["VLLM_PRECOMPILED_WHEEL_COMMIT"] == first
    third = work.commit("Third", **{"setup.py": "2"})
    with pytest.raises(SourceError, match=rf"{third} has no precompiled wheel .*setup\.py"):
        recipe(commit=None, preflight=True, remote=remote)
    with pytest.raises(SourceError, match=r"the wheel of .* was compiled from other versions of setup\.py"):
        recipe(f"VLLM_PRECOMPILED_WHEEL_COMMIT={first}", commit=None, preflight=True, remote=remote)
    assert not (isolated / "cache/vllm.git/refs/heads/main").exists()
    fourth = work.commit(
        "Fourth", **{"setup.py": "1", "pyproject.toml": '[build-system]\nrequires = ["torch == 2.1"]\n'}
    )
    with pytest.raises(SourceError, match=rf"{fourth} has no precompiled wheel .*pyproject\.toml"):
        recipe(commit=None, preflight=True, remote=remote)


def test_a_tree_of_2025_cannot_take_an_ancestors_wheel(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    first = work.commit("First")
    work.commit("Second", **{"a.py": "1"})
    remote = with_wheel(work, first, monkeypatch)
    with pytest.raises(SourceError, match="does not declare VLLM_PRECOMPILED_WHEEL_COMMIT"):
        recipe(commit=None, preflight=True, remote=remote, llm_d=TREES / "2025")


# --- What the tree does --------------------------------------------------------------------------------------------


def tree(folder: Path, *, year: str = "2026", without: str = "", more: str = "") -> Path:
    """A stand-in without some lines, or with more of them."""
    shutil.copytree(TREES / year, folder)
    file = folder / DOCKERFILE
    kept = [line for line in file.read_text().splitlines() if not (without and without in line)]
    file.write_text("\n".join([*kept, more]) + "\n")
    return folder


def test_the_stage_that_llm_ds_ci_builds_is_built(tmp_path: Path) -> None:
    made = recipe(llm_d=tree(tmp_path / "x", more="FROM runtime AS debug\nARG NEEDED\nRUN debug $NEEDED"))
    assert made.document()["stage"] == "runtime"
    assert made.command[made.command.index("--target") + 1] == "runtime"
    assert "stage: runtime" in made.lines()


def test_a_tree_without_that_stage_is_built_to_its_end(tmp_path: Path) -> None:
    made = recipe(llm_d=tree(tmp_path / "x", without="AS runtime", more="FROM builder\nARG CUDA_MAJOR"))
    assert "--target" not in made.command
    assert made.stage == "the last one"


class Days:
    """A stand-in for the module ``datetime`` on one day."""

    UTC = dt.UTC

    def __init__(self, day: str) -> None:
        self.datetime = type(
            "Now", (), {"now": staticmethod(lambda tz: dt.datetime.fromisoformat(day).replace(tzinfo=tz))}
        )


def test_the_cache_is_busted_once_a_day_and_the_base_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for day in ("2026-01-01", "2026-01-02"):
        monkeypatch.setattr("build.flavors.cuda_arguments.dt", Days(day))
        context = Context(settings=settings.load({}), console=Console(quiet=True))
        with cuda.opened(context, wishes(llm_d=tree(tmp_path / day))) as flavor:
            given = flavor.recipe().arguments.values
            found.append((given["CACHE_BUSTER"], flavor.fingerprint(KNOWN)))
    assert [day for day, _ in found] == ["2026-01-01", "2026-01-02"]
    assert found[0][1] == found[1][1]


def test_versions_are_where_trees_of_early_2026_have_them(tmp_path: Path) -> None:
    folder = tree(tmp_path / "x")
    (folder / "docker/common-versions").rename(folder / "docker/vllm-version")
    given = {one.name: one.origin for one in recipe(llm_d=folder).arguments.given}
    assert given["VLLM_PREBUILT"] == "docker/vllm-version:6"


def test_the_plan_says_which_wheel_the_trees_script_takes() -> None:
    machine = platform.machine()
    assert f"wheel: docker/scripts/install-vllm.sh takes manylinux_2_28_{machine} of cu130" in recipe().remarks
    old = recipe(llm_d=TREES / "2025").remarks
    assert any(one.endswith("takes any platform tag of the default variant") for one in old)
    assert "wheel: the default variant may be for another CUDA version than the image's cu129" in old


def test_a_script_that_is_not_understood_is_said_to_be_that(tmp_path: Path) -> None:
    folder = tree(tmp_path / "x")
    (folder / "docker/scripts/install-vllm.sh").write_text("python3 install.py\n")
    made = recipe(llm_d=folder)
    assert any("the rule of the tree's scripts was not understood" in one for one in made.remarks)
    assert made.wheel
    assert (made.wheel["variant"], made.wheel["checked"]) == ("cu130", False)


def test_a_line_of_versions_that_takes_a_shell_is_a_remark(tmp_path: Path) -> None:
    folder = tree(tmp_path / "x")
    with (folder / "docker/common-versions").open("a") as file:
        file.write("if true; then\nOTHER=$(date)\nfi\n")
    assert "docker/common-versions:17 was not understood: OTHER=$(date)" in recipe(llm_d=folder).remarks


def test_a_tree_that_names_vllms_repository_outright_needs_no_argument(tmp_path: Path) -> None:
    folder = tree(
        tmp_path / "x",
        year="2025",
        without="ARG VLLM_REPO",
        more="RUN git clone https://github.com/vllm-project/vllm.git",
    )
    made = recipe(llm_d=folder)
    assert "VLLM_REPO" not in values(made)
    assert "VLLM_REPO: not declared; the tree itself clones that repository" in made.remarks
    with pytest.raises(SourceError, match="does not declare VLLM_REPO"):
        recipe(llm_d=folder, remote=Remote.named("nm"))


# --- Whether tree and commit fit -----------------------------------------------------------------------------------


@pytest.fixture
def vllm(work: Work) -> Work:
    """A commit that requires the stand-in's torch, and another FlashInfer."""
    work.write("pyproject.toml", '[project]\nname = "vllm"\n')
    work.write("requirements/cuda.txt", "torch==2.13.0\nflashinfer-python==0.6.18\n")
    work.commit("Requires", **{"vllm/__init__.py": ""})
    git(work.path, "config", "uploadpack.allowFilter", "true")
    git(work.path, "config", "uploadpack.allowAnySHA1InWant", "true")
    return work


def fitting(vllm: Work, *build_args: str, **wanted: Any) -> Recipe:  # noqa: ANN401 - as above
    remote = Remote(name="here", address=str(vllm.path))
    return recipe(*build_args, **{"commit": None, "remote": remote, "preflight": True, "compile": True, **wanted})


def test_a_tree_that_does_not_fit_is_refused_before_anything_is_built(vllm: Work) -> None:
    with pytest.raises(
        SourceError, match=r"FLASHINFER_VERSION has flashinfer-python==0\.6\.14, the commit requires"
    ) as it:
        fitting(vllm)
    assert "--build-arg FLASHINFER_VERSION=0.6.18" in it.value.hint
    assert fitting(vllm, "FLASHINFER_VERSION=0.6.18").commit
    assert fitting(vllm, preflight=False).commit


def test_a_commit_of_llm_d_that_fits_is_named(vllm: Work, upstream: Work) -> None:
    for torch, flashinfer in (("2.12.0", "0.6.18"), ("2.13.0", "0.6.18"), ("2.14.0", "0.6.20")):
        for file in (TREES / "2026").rglob("*"):
            if file.is_file():
                text = file.read_text().replace("torch==2.13.0", f"torch=={torch}").replace("v0.6.14", flashinfer)
                upstream.write(str(file.relative_to(TREES / "2026")), text)
        upstream.commit(f"torch {torch}")
    fits = git(upstream.path, "rev-parse", "HEAD~1").decode().strip()
    with pytest.raises(
        SourceError, match=r"constraints\.txt:1 has torch==2\.14\.0, the commit requires torch==2\.13\.0"
    ) as it:
        fitting(vllm, llm_d=upstream.path)
    assert f"--llm-d-ref {fits} fits" in it.value.hint
    assert fitting(vllm, llm_d=upstream.path, llm_d_ref=fits).commit


def test_a_commit_without_requirements_cannot_be_compared(work: Work) -> None:
    work.commit("First", **{"setup.py": "1"})
    git(work.path, "config", "uploadpack.allowFilter", "true")
    git(work.path, "config", "uploadpack.allowAnySHA1InWant", "true")
    assert "-r requirements/cuda.txt was not compared: the file is missing" in fitting(work).remarks
