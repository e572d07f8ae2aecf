"""Only an image that passed is pushed, and exactly that image."""

from __future__ import annotations

import dataclasses
import io
import secrets
import tarfile
from typing import TYPE_CHECKING

import pytest
import requests

from build.engine import content as identity
from build.engine import labels, names
from build.gate import verdict
from tests.engine import traces
from tests.engine.conftest import LOCAL, RUN, assert_refused, finished
from tests.engine.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from build.engine.client import Engine
    from build.engine.image import Image
    from build.gate.verdict import Verdict
    from tests.engine.conftest import Cli

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def make_image(engine: Engine, tag: str, commit: str, *, kind: str = "overlay") -> Image:
    """An image of a few bytes that is marked as one of this tool's."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        content = secrets.token_bytes(8)
        member = tarfile.TarInfo("file")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    marks = {labels.KIND: kind, labels.COMMIT: commit, RUN: LOCAL}
    for _ in range(2):
        changes = [f"LABEL {name}={value}" for name, value in marks.items()]
        engine.client.api.import_image_from_data(archive.getvalue(), repository=LOCAL, tag=tag, changes=changes)
        made = engine.image(f"{LOCAL}:{tag}")
        # The engine gives it its layer's digest.
        marks[labels.CONTENT] = identity.content(made.config, made.labels, made.diff_ids)
    assert identity.is_genuine(made)
    return made


@pytest.fixture
def image(engine: Engine) -> Image:
    """An image to push, with a name of its own."""
    commit = secrets.token_hex(20)
    return make_image(engine, f"local-{commit}", commit)


def manifest(cli: Cli, tag: str) -> requests.Response:
    """What the registry serves under a tag."""
    host, _, path = cli.repository.partition("/")
    return requests.get(f"http://{host}/v2/{path}/manifests/{tag}", headers={"Accept": MANIFEST}, timeout=10)


def registry_tag(image: Image) -> str:
    return image.tags[0].rpartition(":")[2]


def test_what_passed_arrives_as_it_was_tested(cli: Cli, image: Image) -> None:
    cli.pass_smoke(image)
    ran = cli("push", image.tags[0], "--json")
    assert ran.returncode == 0, ran.stderr
    answer = manifest(cli, registry_tag(image))
    assert answer.json()["config"]["digest"] == image.id
    assert ran.json["digest"] == answer.headers["Docker-Content-Digest"]
    assert ran.json["pushed"] == [f"{cli.repository}:{registry_tag(image)}"]


def test_a_second_push_sends_nothing(cli: Cli, engine: Engine, image: Image, tmp_path: Path) -> None:
    cli.pass_smoke(image)
    first = cli("push", image.tags[0], "--json")
    with Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay:
        second = cli("push", image.tags[0], "--json", DOCKER_HOST=relay.host)
    assert second.returncode == 0, second.stderr
    assert second.json == first.json
    assert not [request for request in relay.seen if "/push" in request]


def test_a_base_is_uploaded_once_and_its_moving_tag_goes_last(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    commit = secrets.token_hex(20)
    image = make_image(engine, "a-base", commit, kind="base")
    own = f"{LOCAL}-gate"
    for tag in ("nightly", f"nightly-{commit}"):
        engine.tag(image.id, f"{own}:{tag}")
    cli.pass_smoke(image)
    with Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay:
        ran = cli("push", image.id, "--json", DOCKER_HOST=relay.host, LLM_D_DEV_REPOSITORY=own)
    assert ran.json["pushed"] == [f"{cli.repository}:{tag}" for tag in (f"nightly-{commit}", "nightly")]
    uploads = [request.rpartition("tag=")[2] for request in relay.seen if "/push?" in request]
    assert [(upload := names.Upload.parse(tag)) and upload.image for tag in uploads] == [image.short_id]
    assert {manifest(cli, tag).json()["config"]["digest"] for tag in ("nightly", f"nightly-{commit}")} == {image.id}
    assert not [name for name in engine.image(image.id).tags if "candidate" in name]


def _untested(_: Verdict) -> None:
    return None


def _failed(passed: Verdict) -> Verdict:
    return dataclasses.replace(passed, failed=("openai/models",))


def _of_other_layers(passed: Verdict) -> Verdict:
    return dataclasses.replace(passed, diff_ids=(f"sha256:{'0' * 64}",))


def _of_an_older_suite(passed: Verdict) -> Verdict:
    return dataclasses.replace(passed, configuration={**passed.configuration, "suite": "0" * 64})


def _of_no_check(passed: Verdict) -> Verdict:
    return dataclasses.replace(passed, passed=())


def _with_another_model(passed: Verdict) -> Verdict:
    return dataclasses.replace(passed, configuration={**passed.configuration, "exact": False})


def _of_fewer_checks(passed: Verdict) -> Verdict:
    return dataclasses.replace(passed, passed=tuple(set(passed.passed) - {"openai/many_at_once"}))


def _on_a_base_that_did_not_pass(passed: Verdict) -> Verdict:
    return dataclasses.replace(passed, configuration={**passed.configuration, "base": f"sha256:{'0' * 64}"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_untested, "was not tested"),
        (_failed, "failed its smoke test: openai/models"),
        (_of_no_check, "failed its smoke test"),
        (_of_other_layers, "has a verdict that names other layers"),
        (_of_an_older_suite, "was tested by another version of the smoke suite"),
        (_with_another_model, r"was tested only in other ways than the gate asks for \(another model\)"),
        (_of_fewer_checks, "was tested without 1 of its checks: openai/many_at_once"),
        (_on_a_base_that_did_not_pass, "leaves some checks to its base, which has no current pass"),
    ],
)
def test_what_did_not_pass_is_refused(
    cli: Cli, engine: Engine, image: Image, change: Callable[[Verdict], Verdict | None], said: str
) -> None:
    passed = cli.pass_smoke(image)
    for path in cli.folders.verdicts.iterdir():
        path.unlink()
    if changed := change(passed):
        verdict.record(cli.folders.verdicts, changed)
    assert_refused(cli("push", image.tags[0], "--json"), 7, "gate", f"{image.tags[0]} {said}")
    assert_nothing_was_pushed(cli, engine, image)


def test_a_verdict_that_was_tampered_with_does_not_count(cli: Cli, engine: Engine, image: Image) -> None:
    verdict.record(cli.folders.verdicts, _failed(cli.pass_smoke(image)))
    (path,) = cli.folders.verdicts.iterdir()
    path.write_text(path.read_text(encoding="utf-8").replace('"FAILED"', '"PASSED"'), encoding="utf-8")
    assert_refused(cli("push", image.tags[0], "--json"), 7, "gate", "was not tested")
    assert_nothing_was_pushed(cli, engine, image)


def test_a_name_that_moved_after_the_test_is_refused(cli: Cli, engine: Engine, image: Image) -> None:
    cli.pass_smoke(image)
    other = make_image(engine, registry_tag(image), image.labels[labels.COMMIT])
    assert other.id != image.id
    assert_refused(cli("push", image.tags[0], "--json"), 7, "gate", "was not tested")
    assert_nothing_was_pushed(cli, engine, other)


def test_an_image_without_a_tag_of_ours_is_refused(cli: Cli, engine: Engine, image: Image) -> None:
    cli.pass_smoke(image)
    ran = cli("push", image.id, "--json", LLM_D_DEV_REPOSITORY=f"{LOCAL}-elsewhere")
    assert_refused(ran, 7, "gate", "has no tag to be pushed under")
    assert_nothing_was_pushed(cli, engine, image)


def assert_nothing_was_pushed(cli: Cli, engine: Engine, image: Image) -> None:
    assert manifest(cli, registry_tag(image)).status_code == 404
    assert engine.image(image.id).tags == image.tags


def test_what_arrived_must_be_what_was_tested(cli: Cli, engine: Engine, image: Image, tmp_path: Path) -> None:
    """Something else gets under the name of the upload: the image's own name never names it."""
    cli.pass_smoke(image)
    tag = registry_tag(image)
    other = manifest_of_another(cli, engine)
    with Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay:
        relay.hold("POST .*/push", "done")
        process = cli.start("push", image.tags[0], "--json", DOCKER_HOST=relay.host)
        assert relay.wait(seconds=60)
        assert traces.eventually(lambda: uploads(cli) != [], seconds=60)
        put(cli, uploads(cli)[0], other)
        relay.release()
        ran = finished(process)
    assert_refused(ran, 7, "gate", f"is not the tested image {image.short_id}")
    assert manifest(cli, tag).status_code == requests.codes.not_found
    assert engine.image(image.id).tags == image.tags


def uploads(cli: Cli) -> list[str]:
    """Tags of the registry under which images are on their way."""
    host, _, path = cli.repository.partition("/")
    found = requests.get(f"http://{host}/v2/{path}/tags/list", timeout=10).json().get("tags") or ()
    return [tag for tag in found if names.Upload.parse(tag)]


def manifest_of_another(cli: Cli, engine: Engine) -> bytes:
    """The manifest of an image that is in the registry under another tag."""
    name = f"{cli.repository}:other"
    engine.tag(make_image(engine, "other", secrets.token_hex(20)).id, name)
    for row in engine.client.api.push(cli.repository, tag="other", stream=True, decode=True):
        assert "error" not in row
    return manifest(cli, "other").content


def put(cli: Cli, tag: str, content: bytes) -> None:
    host, _, path = cli.repository.partition("/")
    url = f"http://{host}/v2/{path}/manifests/{tag}"
    requests.put(url, content, headers={"Content-Type": MANIFEST}, timeout=10).raise_for_status()


@pytest.mark.parametrize("kind", ["overlay", "base"])
@pytest.mark.parametrize(
    "change",
    ["ENV VLLM_LOGGING_LEVEL=ERROR", f"LABEL {labels.NATIVE}=0", f"LABEL {labels.COMMIT}={'e' * 40}", "USER 0"],
)
def test_what_is_committed_from_an_image_is_not_that_image(cli: Cli, engine: Engine, kind: str, change: str) -> None:
    """Without a layer more, and although it passed under a name of the image's."""
    commit = secrets.token_hex(20)
    tag = f"nightly-{commit}" if kind == "base" else f"local-{commit}"
    image = make_image(engine, tag, commit, kind=kind)
    with engine.created(image.id) as container:
        container.commit(LOCAL, tag, changes=change)
    made = engine.image(f"{LOCAL}:{tag}")
    assert (made.diff_ids, made.id == image.id) == (image.diff_ids, False)
    cli.pass_smoke(made)
    assert_refused(cli("push", f"{LOCAL}:{tag}", "--json"), 7, "gate", "was made from an image of this tool")
    assert_nothing_was_pushed(cli, engine, made)


def test_a_name_that_an_image_was_given_by_hand_must_be_true(cli: Cli, engine: Engine, image: Image) -> None:
    cli.pass_smoke(image)
    other = secrets.token_hex(20)
    for tag in (f"nightly-{other}", f"local-{other}", "nightly"):
        engine.tag(image.id, f"{LOCAL}:{tag}")
        ran = cli("push", f"{LOCAL}:{tag}", "--json")
        assert_refused(ran, 7, "gate", f"{LOCAL}:{tag} is not a name for {image.short_id}")
        assert f"docker rmi {LOCAL}:{tag}" in ran.stderr
        assert manifest(cli, tag).status_code == requests.codes.not_found
        engine.untag(f"{LOCAL}:{tag}")
    assert cli("push", image.tags[0]).returncode == 0


def test_a_push_that_is_killed_leaves_no_name_that_says_it_is_done(
    cli: Cli, engine: Engine, image: Image, tmp_path: Path
) -> None:
    cli.pass_smoke(image)
    with Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay:
        relay.hold("POST .*/push", "done")
        process = cli.start("push", image.tags[0], "--json", DOCKER_HOST=relay.host)
        assert relay.wait(seconds=60)
        assert traces.eventually(lambda: uploads(cli) != [], seconds=60)
        process.kill()
        finished(process)
    left = set(engine.image(image.id).tags) - set(image.tags)
    assert [name.rpartition(":")[2] for name in left] == uploads(cli)
    ran = cli("push", image.tags[0], "--json")
    assert ran.returncode == 0, ran.stderr
    assert set(engine.image(image.id).tags) - set(image.tags) == {f"{cli.repository}:{registry_tag(image)}"}


def test_of_two_images_that_are_pushed_under_one_name_one_has_it_and_the_other_says_so(
    cli: Cli, engine: Engine, image: Image, tmp_path: Path
) -> None:
    """Another run makes the same commit on another base during the upload of the first."""
    cli.pass_smoke(image)
    with Relay(tmp_path / "engine", engine.host.removeprefix("unix://")) as relay:
        relay.hold("POST .*/push", "done")
        first = cli.start("push", image.tags[0], "--json", DOCKER_HOST=relay.host)
        assert relay.wait(seconds=60)
        other = make_image(engine, registry_tag(image), image.labels[labels.COMMIT])
        cli.pass_smoke(other)
        second = cli.start("push", other.tags[0], "--json")
        relay.release()
        ran, last = finished(first), finished(second)
    assert_refused(ran, 7, "gate", f"is no longer called {registry_tag(image)}")
    assert last.returncode == 0, last.stderr
    assert manifest(cli, registry_tag(image)).json()["config"]["digest"] == other.id
    name = f"{cli.repository}:{registry_tag(image)}"
    assert engine.image(name).id == engine.image(other.tags[0]).id == other.id
