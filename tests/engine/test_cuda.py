"""The cuda flavor on a stand-in for llm-d's tree: nightly, overlay and smoke test, as on a GPU box."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import git
import pytest

from build.config import settings
from build.console import Console
from build.context import Context
from build.engine import content, labels, names
from build.flavors import cuda
from build.flavors.cuda_wishes import CudaWishes
from build.llmd.dockerfile import Dockerfile
from build.llmd.tree import DOCKERFILE
from build.source.mirror import Remote
from tests.engine import gpu_standin
from tests.engine.conftest import LOCAL, Cli, assert_refused, commit_all, inside, make_cli
from tests.standin import ssh as ssh_standin
from tests.standin_llmd.tree import write_tree
from tests.unit.loopback import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Ran
    from tests.unit.loopback import Asked

OWN = f"{LOCAL}-cuda"
"""Local repository: the other tests' bases are not candidates here, nor this one's there."""
CUDA_IMAGE = f"{LOCAL}/cuda"
_CPU = "class CpuPlatform:\n"


@dataclass(kw_only=True)
class Wheels:
    """The commits that have a wheel, and what was asked for."""

    commits: set[str]

    def __call__(self, asked: Asked) -> Answer:
        _, commit, variant, _, _ = asked.path.split("/")
        if commit not in self.commits or variant != "cu130":
            return Answer(status=404)
        row = {"package_name": "vllm", "platform_tag": f"manylinux_2_28_{os.uname().machine}", "path": "../../vllm.whl"}
        return Answer(body=json.dumps([row]).encode())


@dataclass(frozen=True, kw_only=True)
class Box:
    """A machine on which the cuda flavor is built."""

    cli: Cli
    tree: Path
    vllm: git.Repo
    wheels: Wheels
    variables: dict[str, str]
    gpu: str

    def nightly(self, *words: str, **variables: str) -> Ran:
        return self.cli(
            *("nightly", "--flavor", "cuda", "--json", "--llm-d", self.tree, "--remote", self.vllm.working_dir),
            *("--gpus", self.gpu, "--build-arg", f"CUDA_IMAGE={CUDA_IMAGE}", *words),
            **{**self.variables, **variables},
        )

    @property
    def main(self) -> str:
        return self.vllm.commit("main").hexsha


@pytest.fixture(scope="module")
def box(
    engine: Engine, system: Image, registry_address: str, vllm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("cuda")
    for kind in ("devel", "runtime"):
        engine.tag(system.id, f"{CUDA_IMAGE}:13.0.2-{kind}-ubi9")
    with (
        contextlib.closing(git.Repo.clone_from(str(vllm), folder / "vllm")) as cloned,
        gpu_standin.gpus(engine, folder, count=1) as gpus,
    ):
        platforms = Path(cloned.working_dir, "vllm/platforms/__init__.py")
        text = platforms.read_text(encoding="utf-8")
        platforms.write_text(text.replace(_CPU, f'{_CPU}    device_type = "cuda"\n\n'), encoding="utf-8")
        commit_all(cloned, "Take the CPU for a GPU")
        write_tree(folder / "llm-d", vllm=Path(cloned.working_dir))
        cloned.git.config("uploadpack.allowFilter", "true")
        cloned.git.config("uploadpack.allowAnySHA1InWant", "true")
        wheels = Wheels(commits={cloned.head.commit.hexsha})
        with serving(wheels) as address:
            variables = {
                "LLM_D_DEV_WHEEL_INDEX": f"http://{address}",
                "LLM_D_DEV_REPOSITORY": OWN,
                "LLM_D_DEV_CUDA_DISK_GB": "1",
                "LLM_D_DEV_FLAVOR": "cuda",
            }
            yield Box(
                cli=make_cli(engine, registry_address, folder / "home"),
                tree=folder / "llm-d",
                vllm=cloned,
                wheels=wheels,
                variables=variables,
                gpu=gpus[0].uuid,
            )


@pytest.fixture(scope="module")
def _base_commit_file() -> Iterator[None]:
    """Puts back what a nightly of this checkout wrote."""
    file = names.base_commit_file("cuda")
    before = file.read_bytes() if file.exists() else None
    yield
    if before is None:
        file.unlink(missing_ok=True)
    else:
        file.write_bytes(before)


@pytest.fixture(scope="module")
def made(box: Box, _base_commit_file: None) -> dict[str, Any]:
    """The first nightly."""
    ran = box.nightly()
    assert ran.returncode == 0, ran.stderr
    document: dict[str, Any] = ran.json
    return document


def test_the_nightly_is_built_sealed_tested_promoted_and_pushed(box: Box, engine: Engine, made: dict[str, Any]) -> None:
    assert (made["commit"], made["built"], made["verdict"]) == (box.main, True, "pass")
    assert made["pushed"] == [f"{box.cli.repository}:nightly-{box.main}", f"{box.cli.repository}:nightly"]
    image = engine.image(f"{OWN}:nightly")
    assert image.id == engine.image(f"{OWN}:nightly-{box.main}").id == made["id"]
    assert image.labels[labels.FLAVOR] == "cuda"
    assert image.labels[labels.WHEEL] == box.main
    assert names.base_commit_file("cuda").read_text().strip() == box.main
    assert not image.config.get("Entrypoint")
    assert image.config["User"] == "2000"


def test_what_llm_d_deletes_stays_deleted_and_the_sealed_git_directory_works(
    engine: Engine, made: dict[str, Any]
) -> None:
    with inside(engine, engine.image(made["id"])) as container:
        listed = container.run("ls", "-a", "/opt/vllm-source").split()
        assert not {"tests", "docs"} & set(listed)
        assert container.run("git", "-C", "/opt/vllm-source", "status", "--porcelain") == ""
        assert container.run("cat", "/sccache") == "none\n"


def test_nothing_to_do_for_the_same_commit(box: Box, made: dict[str, Any]) -> None:
    again = box.nightly()
    assert again.returncode == 0, again.stderr
    assert (again.json["id"], again.json["built"]) == (made["id"], False)


def test_an_overlay_stands_on_it_and_passes(box: Box, made: dict[str, Any]) -> None:
    path = Path(box.vllm.working_dir, "vllm/entrypoints/serve/engine/protocol.py")
    path.write_text(path.read_text().replace('owned_by: str = "vllm"', 'owned_by: str = "me"'))
    try:
        overlay = box.cli(
            *(
                "dev",
                box.vllm.working_dir,
                "--dirty",
                "--json",
                "--gpus",
                box.gpu,
                "--expect",
                '/v1/models="owned_by": "me"',
            ),
            **box.variables,
        )
    finally:
        box.vllm.git.checkout("--", ".")
    assert overlay.returncode == 0, overlay.stderr
    assert (overlay.json["base"], overlay.json["written"]) == (f"{OWN}:nightly", 1)
    assert overlay.json["pushed"]
    del made


def test_what_the_image_tells_uv_and_pip_does_not_steer_an_installation(
    box: Box, engine: Engine, made: dict[str, Any], tmp_path: Path
) -> None:
    # Its own build is held to constraints and kept off the network.
    assert {"UV_CONSTRAINT=/tmp/constraints.txt", "UV_EXCLUDE_NEWER=2000-01-01"} <= set(
        engine.image(made["id"]).config["Env"]
    )
    with contextlib.closing(git.Repo.clone_from(str(box.vllm.working_dir), tmp_path / "vllm")) as clone:
        with Path(clone.working_dir, "requirements/common.txt").open("a") as file:
            file.write("six >= 1.16\n")
        commit_all(clone, "Require six")
        words = ("dev", clone.working_dir, "--install-deps", "--no-smoke", "--no-push", "--json")
        ran = box.cli(*words, **box.variables)
    assert ran.returncode == 0, ran.stderr
    assert ran.json["installed"] == ["six >= 1.16"]


def test_why_an_installation_fails_is_told_in_uvs_words(box: Box, made: dict[str, Any], tmp_path: Path) -> None:
    del made
    with contextlib.closing(git.Repo.clone_from(str(box.vllm.working_dir), tmp_path / "vllm")) as clone:
        with Path(clone.working_dir, "requirements/common.txt").open("a") as file:
            file.write("six == 0.0.0.1\n")
        commit_all(clone, "Require what there is not")
        words = ("dev", clone.working_dir, "--install-deps", "--no-smoke", "--no-push", "--json")
        ran = box.cli(*words, **box.variables)
    assert_refused(ran, 5, "build", r"No solution found when resolving dependencies: .*six==0\.0\.0\.1")


def test_without_a_gpu_it_is_not_verified(box: Box, made: dict[str, Any]) -> None:
    ran = box.cli("smoke", made["id"], "--gpus", "none", "--force", "--json", **box.variables)
    assert_refused(ran, 8, "engine", r"not verified \(no-gpu\)")


def test_a_commit_without_a_wheel_takes_that_of_an_ancestor_with_the_same_native_sources(
    box: Box, engine: Engine, made: dict[str, Any]
) -> None:
    first = box.main
    Path(box.vllm.working_dir, "vllm/new.py").write_text("x = 1\n")
    second = commit_all(box.vllm, "Python only")
    ran = box.nightly("--dry-run")
    assert ran.returncode == 0, ran.stderr
    assert (ran.json["commit"], ran.json["wheel"]["commit"], ran.json["wheel"]["behind"]) == (second, first, 1)
    Path(box.vllm.working_dir, "csrc/cpu/ops.cpp").write_text("int ops() { return 2; }\n")
    third = commit_all(box.vllm, "Compiled")
    refused = box.nightly()
    assert_refused(refused, 3, "source", rf"{third} has no precompiled wheel .*{first}.*csrc/cpu/ops\.cpp")
    # The one that passed is still the one that overlays use.
    assert engine.image(f"{OWN}:nightly").id == made["id"]
    box.vllm.git.reset("--hard", "--quiet", first)


def test_a_build_that_compiles_unasked_is_stopped(box: Box, made: dict[str, Any], tmp_path: Path) -> None:
    del made
    script = box.tree / "docker/scripts/install-vllm.sh"
    text = script.read_text()
    script.write_text(text.replace('"${VLLM_USE_PRECOMPILED}" = 1', "looked = differently") + "sleep 600\n")
    try:
        ran = box.nightly("--no-push", "--force")
    finally:
        script.write_text(text)
    assert_refused(ran, 5, "build", "begins to compile vLLM")
    del tmp_path


def test_credentials_and_certificates_reach_the_build_and_stay_out_of_the_image(
    box: Box, engine: Engine, made: dict[str, Any], tmp_path: Path
) -> None:
    del made
    secrets = ("THE-SECRET", "THE-KEY-ID", "THE-BUNDLE", "THE-PASSWORD")
    key, bundle = tmp_path / "key", tmp_path / "ca.pem"
    key.write_text(secrets[1])
    key.chmod(stat.S_IRUSR)
    bundle.write_text("-----BEGIN CERTIFICATE-----\nTHE-BUNDLE\n-----END CERTIFICATE-----\n")
    script = box.tree / "docker/scripts/install-vllm.sh"
    text = script.read_text()
    seen = """
    grep -q THE-BUNDLE "${CURL_CA_BUNDLE}" && grep -q THE-BUNDLE "${GIT_SSL_CAINFO}"
    test "${HTTPS_PROXY}" = "${https_proxy}" && test -n "${HTTPS_PROXY}"
    """
    script.write_text(text.replace("set -eu\n", f"set -eu{seen}", 1))
    proxy = "http://somebody:THE-PASSWORD@127.0.0.1:1"
    try:
        ran = box.nightly(
            *("--no-push", "--force", "--build-arg", "USE_SCCACHE=true"),
            *("--build-secret", f"aws_access_key_id={key}"),
            AWS_SECRET_ACCESS_KEY=secrets[0],
            SSL_CERT_FILE=str(bundle),
            PIP_CERT=str(bundle),
            HTTPS_PROXY=proxy,
            NO_PROXY="127.0.0.1,localhost",
        )
    finally:
        script.write_text(text)
    assert ran.returncode == 0, ran.stderr
    image = engine.image(ran.json["id"])
    told = [json.dumps(row) for row in engine.client.images.get(image.id).history()]
    told += [json.dumps(dict(one)) for one in (image.config, image.labels)]
    told += [path.read_text(errors="replace") for path in box.cli.folders.logs.iterdir()]
    assert not [secret for secret in secrets for text in told if secret in text]
    assert "CURL_CA_BUNDLE" not in json.dumps(dict(image.config))
    with inside(engine, image) as container:
        assert container.run("cat", "/sccache") == "used\n"
        for secret in secrets:
            assert container.status("grep", "-rls", secret, "/opt", "/home", "/etc", "/run", user="0") == (1, "")


def test_buildkit_reads_the_same_arguments(box: Box, engine: Engine, made: dict[str, Any]) -> None:
    del made
    plan = box.nightly("--dry-run", "--no-preflight").json
    assert plan["command"][:3] == ["docker", "buildx", "build"]
    options = [word for word in plan["command"][3:] if word not in ("--metadata-file", "METADATA")]
    # Experimental in docker buildx 0.13.
    done = subprocess.run(
        ["docker", "buildx", "build", "--print=outline,format=json", *options],
        env={**os.environ, "DOCKER_HOST": engine.host, "BUILDX_EXPERIMENTAL": "1"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outline = {one["name"]: one for one in json.loads(done.stdout)["args"]}
    ours = {one["name"]: one["value"] for one in (*plan["arguments"], *plan["defaults"])}
    # Without a default, and given by nobody.
    assert set(outline) - set(ours) <= {"CACHE_BUSTER", "SUPPRESS_PYTHON_OUTPUT"}
    assert {name: one.get("value", "") for name, one in outline.items() if name in ours} == {
        name: value for name, value in ours.items() if name in outline
    }
    assert len(outline) > 15
    declared = {(one.name, one.line) for one in Dockerfile.read(box.tree / DOCKERFILE, name="D").arguments}
    places = {(name, one["location"]["ranges"][0]["start"]["line"]) for name, one in outline.items()}
    assert places <= declared


# --- Builders and engines elsewhere --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--builder", "no-such-builder", "there is no builder 'no-such-builder'"),
        ("--cache-to", "local", "cannot export"),
    ],
)
def test_a_builder_that_is_not_there_or_cannot_what_is_asked(
    box: Box, made: dict[str, Any], option: str, value: str, said: str
) -> None:
    del made
    ran = box.nightly("--no-push", "--force", option, value)
    if option == "--cache-to" and ran.returncode == 0:
        # Engines with the containerd image store can.
        assert (box.cli.folders.cache / "buildkit/index.json").exists()
    else:
        assert_refused(ran, 2, "usage", said)


def test_a_builder_loads_what_it_builds(box: Box, engine: Engine) -> None:
    # The one builder that is on every machine; those that are not in the engine go the same way.
    overrides = {"builder": "default", "cache": box.cli.folders.cache, "state": box.cli.folders.state}
    context = Context(settings=settings.load(overrides), console=Console(quiet=True))
    wishes = CudaWishes(
        commit=box.main,
        remote=Remote.named(str(box.vllm.working_dir)),
        llm_d=box.tree,
        build_args=(f"CUDA_IMAGE={CUDA_IMAGE}",),
        preflight=False,
    )
    with cuda.opened(context, wishes) as flavor:
        built = engine.image(flavor.build(engine, flavor.commit()))
    try:
        assert built.config["User"] == "2000"
        assert labels.CONTENT in built.labels
        assert not content.is_derived(built)
    finally:
        engine.client.api.remove_image(built.id, force=True, noprune=True)


@pytest.fixture
def ssh(engine: Engine, tmp_path: Path) -> dict[str, str]:
    """A way to the engine through ssh, with a program in ssh's place that ends up on this machine."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\nexec {sys.executable} {ssh_standin.__file__} {engine.host} "$@"\n'
    )
    program.chmod(0o755)
    return {"DOCKER_HOST": "ssh://somebody@localhost", "PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_a_gpu_box_that_ssh_does_not_reach(box: Box, ssh: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin/ssh").write_text("#!/bin/sh\necho Connection refused >&2; exit 255\n")
    assert_refused(box.nightly(**ssh), 8, "engine", "nothing answers at DOCKER_HOST=ssh://")
    assert not list(Path(box.cli.environment["TMPDIR"]).glob("llm-d-dev-*"))


def test_a_gpu_box_elsewhere_is_reached_through_ssh(
    box: Box, engine: Engine, made: dict[str, Any], ssh: dict[str, str], tmp_path: Path
) -> None:
    del made
    ran = box.nightly("--no-push", "--force", **ssh)
    assert ran.returncode == 0, ran.stderr
    assert engine.image(f"{OWN}:nightly").id == ran.json["id"]
    asked = (tmp_path / "asked").read_text()
    assert "somebody" in asked
    # The server under test is spoken to through the engine's API, so no port of that machine is forwarded.
    assert " -L " not in asked
    assert not list(Path(box.cli.environment["TMPDIR"]).glob("llm-d-dev-*"))
