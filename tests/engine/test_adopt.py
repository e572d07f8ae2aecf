"""Images with vLLM that others built: what becomes a base, what is refused, and what an overlay of one holds."""

from __future__ import annotations

import functools
import json
import secrets
from typing import TYPE_CHECKING

import git
import pytest

from build.base import store
from build.engine import labels
from tests.engine.conftest import LOCAL, RUN, Cli, assert_refused, commit_all, inside, make_cli
from tests.standin.image import build_upstream, changed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image

PLACES = {
    "venv": ("/opt/venv/lib/python3.11/site-packages", "/opt/venv/bin"),
    "system": ("/usr/local/lib/python3.11/dist-packages", "/usr/local/bin"),
}

# Each file of the record with its hash as it is, and each that is not there or differs.
_CHECK_RECORD = """
import base64, csv, hashlib, json, sys
from pathlib import Path
import importlib.metadata
files = importlib.metadata.distribution("vllm").files
wrong = [str(file) for file in files if file.hash and (not file.locate().is_file() or file.hash.value !=
    base64.urlsafe_b64encode(hashlib.sha256(file.read_binary()).digest()).rstrip(b"=").decode())]
print(json.dumps({"files": [str(file) for file in files], "wrong": wrong}))
"""


@pytest.fixture(scope="module")
def commit(vllm: Path) -> str:
    with git.Repo(vllm) as repository:
        return repository.commit("main").hexsha


@pytest.fixture(scope="module")
def upstream(engine: Engine, system: Image, vllm: Path, commit: str) -> Callable[[str], str]:
    """Gives the name of an image as vLLM's project makes them, of the repository's `main`."""

    @functools.cache
    def made(place: str) -> str:
        marks = {RUN: LOCAL, "ai.vllm.build.commit": commit}
        image_id = build_upstream(
            engine, system.tags[0], place=place, source=vllm, commit=f"g{commit[:9]}", marks=marks
        )
        name = f"{LOCAL}-upstream:{place}"
        engine.tag(image_id, name)
        return name

    return made


@pytest.fixture(scope="module")
def shared(engine: Engine, registry_address: str, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    made = make_cli(engine, registry_address, tmp_path_factory.mktemp("adopt"))
    repository = f"{LOCAL}-adopt-{secrets.token_hex(3)}"
    return Cli(
        environment={**made.environment, "LLM_D_DEV_REPOSITORY": repository},
        folders=made.folders,
        repository=repository,
    )


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def adopted(shared: Cli, upstream: Callable[[str], str], place: str, vllm: Path, engine: Engine) -> Image:
    """The base made of it."""
    ran = shared("adopt", upstream(place), "--source", str(vllm), "--json")
    assert ran.returncode == 0, ran.stderr
    assert ran.json["built"]
    assert ran.json["pushed"]
    return engine.image(ran.json["image"])


def test_adopted_image_is_a_base_that_passed(
    shared: Cli, adopted: Image, commit: str, engine: Engine, place: str
) -> None:
    assert f"{shared.repository}:adopted-{commit}-cpu" in adopted.tags
    assert adopted.labels[labels.ORIGIN] == engine.image(f"{LOCAL}-upstream:{place}").id
    assert (adopted.config.get("User") or "") in ("", "root")
    facts = store.load(engine, adopted, shared.folders.cache).facts
    source, programs = PLACES[place]
    assert (str(facts.layout.source), str(facts.layout.programs), facts.layout.editable) == (source, programs, False)
    assert (facts.commit, facts.flavor, facts.modified) == (commit, "cpu", ())


def test_adopting_again_does_nothing_twice(shared: Cli, adopted: Image, vllm: Path) -> None:
    again = shared("adopt", adopted.labels[labels.ORIGIN], "--source", str(vllm), "--json", "--no-push")
    assert again.returncode == 0, again.stderr
    assert (again.json["id"], again.json["built"]) == (adopted.id, False)


def test_overlay_of_an_adopted_base(shared: Cli, adopted: Image, clone: git.Repo, engine: Engine, place: str) -> None:
    root = clone.working_dir
    folder = f"{root}/vllm"
    with open(f"{folder}/entrypoints/serve/engine/protocol.py", "r+", encoding="utf-8") as file:  # noqa: PTH123
        text = file.read().replace('owned_by: str = "vllm"', 'owned_by: str = "mllv"')
        file.seek(0)
        file.write(text)
    with open(f"{folder}/brand_new.py", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("NEW = 1\n")
    clone.git.rm("vllm/_custom_ops.py")
    commit = commit_all(clone, "Change, add and delete")
    ran = shared("dev", root, "HEAD", "--expect", "/v1/models=mllv", "--json")
    assert ran.returncode == 0, ran.stderr
    assert ran.json["base"] == adopted.called
    assert ran.json["pushed"]
    image = engine.image(ran.json["id"])
    assert image.diff_ids[: len(adopted.diff_ids)] == adopted.diff_ids
    source, _ = PLACES[place]
    with inside(engine, image) as shell:
        code, _ = shell.status("test", "-e", f"{source}/vllm/_custom_ops.py")
        assert code
        assert shell.run("python3", "-c", "import vllm.brand_new as b; print(b.NEW)") == "1\n"
        said = json.loads(shell.run("python3", "-c", _CHECK_RECORD))
    assert said["wrong"] == []
    assert "vllm/brand_new.py" in said["files"]
    assert "vllm/_custom_ops.py" not in said["files"]
    assert commit in image.labels[labels.COMMIT]


LIES = {
    "another commit": (["LABEL ai.vllm.build.commit=" + "a" * 40], "", "names two commits"),
    "an altered file": ([], "echo '# mine' >>{source}/vllm/version.py", r"1 files differ .*vllm/version\.py"),
    "a module of its own": ([], "echo >{source}/vllm/mine.py", r"has 1 modules that .*vllm/mine\.py"),
    "a missing file": ([], "rm {source}/vllm/py.typed", r"1 files differ .*vllm/py\.typed"),
    "a release that the repository does not have": (
        ["LABEL ai.vllm.build.commit=unknown"],
        "sed -i 's/commit_id = .*/commit_id = None/' {source}/vllm/_version.py",
        "'v0.32.0' names no commit",
    ),
    "two vLLMs": (["ENV PYTHONPATH=/other"], "mkdir -p /other && cp -R {source}/vllm /other", "has 2 vLLMs"),
    "no vLLM": ([], "rm -r {source}/vllm", "has no vLLM"),
    "no Python": (["ENV PATH=/nowhere", 'ENTRYPOINT ["serve"]'], "", "has no Python"),
}


@pytest.mark.parametrize("lie", LIES)
def test_image_that_does_not_hold_what_it_says(
    lie: str, cli: Cli, upstream: Callable[[str], str], vllm: Path, engine: Engine
) -> None:
    changes, script, said = LIES[lie]
    script = script.format(source=PLACES["venv"][0])
    with changed(engine, engine.image(upstream("venv")).id, changes, script=script) as image_id:
        ran = cli("adopt", image_id, "--source", str(vllm), "--no-push", "--json")
    assert_refused(ran, 3, "source", said)
    assert engine.find_image(f"{LOCAL}:candidate-cpu") is None


def test_modified_image_is_taken_if_that_is_asked_for(
    cli: Cli, upstream: Callable[[str], str], vllm: Path, engine: Engine
) -> None:
    script = f"echo '# mine' >>{PLACES['venv'][0]}/vllm/version.py"
    with changed(engine, engine.image(upstream("venv")).id, (), script=script) as image_id:
        ran = cli("adopt", image_id, "--source", str(vllm), "--modified", "--no-push", "--json")
        assert ran.returncode == 0, ran.stderr
        base = engine.image(ran.json["id"])
        try:
            assert store.load(engine, base, cli.folders.cache).facts.modified == ("vllm/version.py",)
        finally:
            engine.client.api.remove_image(base.id, force=True)


@pytest.mark.parametrize("name", ["nowhere:none", "127.0.0.1:1/x:y"])
def test_image_that_is_nowhere(cli: Cli, name: str) -> None:
    assert_refused(cli("adopt", name, "--no-push", "--json"), 3, "source", "cannot be pulled")


def test_base_is_not_adopted(cli: Cli, base: Image) -> None:
    assert_refused(cli("adopt", base.tags[0], "--no-push", "--json"), 3, "source", "is a base already")
