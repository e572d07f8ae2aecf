"""What may be pushed, under which tags, and what is checked afterwards."""

from __future__ import annotations

import base64
import itertools
import json
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3.exceptions

from build.engine.credentials import Login
from build.engine.names import Upload
from build.errors import EngineError, GateError, RegistryError
from build.gate import fingerprints, transfer, verdict
from build.host import lock, retry
from build.registry.client import Registry
from build.registry.repository_name import Access, RepositoryName
from tests.standin.verdicts import passing
from tests.unit.fakes import FakeEngine, FakeRegistry, digest
from tests.unit.loopback import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from build.engine.image import Image

COMMIT = "c" * 40
LOWER = (digest("lowest"), digest("upper"))


@pytest.fixture
def image(engine: FakeEngine) -> Image:
    return engine.hold(f"llm-d-dev:local-{COMMIT}", kind="overlay", commit=COMMIT)


# --- Which image -------------------------------------------------------------------------------------------


def refused(folder: Path, image: Image) -> str:
    """Why an image is refused."""
    with pytest.raises(GateError) as caught:
        transfer.require_passed(folder, image, rules=fingerprints.rules())
    assert caught.value.exit_code == 7
    assert f"python -m build smoke {image.name}" in caught.value.hint
    return caught.value.what


def test_an_image_that_passed_may(tmp_path: Path, image: Image) -> None:
    verdict.record(tmp_path, passing(image))
    transfer.require_passed(tmp_path, image, rules=fingerprints.rules())


def test_an_image_that_nobody_tested_may_not(tmp_path: Path, image: Image) -> None:
    assert refused(tmp_path, image) == f"llm-d-dev:local-{COMMIT} was not tested"


def test_one_that_failed_may_not_and_what_failed_is_named(tmp_path: Path, image: Image) -> None:
    verdict.record(tmp_path, replace(passing(image), failed=("a", "b", "c", "d")))
    assert refused(tmp_path, image).endswith("failed its smoke test: a, b, c")


def test_a_verdict_about_other_layers_does_not_count(tmp_path: Path, image: Image) -> None:
    verdict.record(tmp_path, replace(passing(image), diff_ids=(digest("other"),)))
    assert "other layers" in refused(tmp_path, image)


def test_a_verdict_of_another_suite_does_not_count(tmp_path: Path, image: Image) -> None:
    verdict.record(tmp_path, passing(image, suite="4567"))
    assert "another version of the smoke suite" in refused(tmp_path, image)


def test_a_verdict_with_another_model_does_not_count(tmp_path: Path, image: Image) -> None:
    verdict.record(tmp_path, passing(image, exact=False))
    why = "was tested only in other ways than the gate asks for (another model)"
    assert refused(tmp_path, image).endswith(why)
    # Kept where that of the suite's own model belongs.
    kept = next(tmp_path.iterdir())
    kept.rename(tmp_path / f"{image.id.removeprefix('sha256:')}.json")
    assert refused(tmp_path, image).endswith(why)


def test_a_run_with_another_model_leaves_the_verdict_with_the_suites_own(tmp_path: Path, image: Image) -> None:
    verdict.record(tmp_path, passing(image))
    verdict.record(tmp_path, replace(passing(image, exact=False), failed=("openai/chat",)))
    transfer.require_passed(tmp_path, image, rules=fingerprints.rules())


@pytest.mark.parametrize("marks", [{}, {"flavor": "cuda"}, {"kind": "base"}], ids=["overlay", "cuda", "base"])
def test_a_verdict_of_fewer_checks_does_not_count(tmp_path: Path, engine: FakeEngine, marks: dict[str, str]) -> None:
    image = engine.hold("llm-d-dev:x", **({"kind": "overlay", "commit": COMMIT} | marks))
    whole = passing(image)
    for name in whole.passed:
        verdict.record(tmp_path, replace(whole, passed=tuple(one for one in whole.passed if one != name)))
        assert f"without 1 of its checks: {name}" in refused(tmp_path, image)
    verdict.record(tmp_path, whole)
    transfer.require_passed(tmp_path, image, rules=fingerprints.rules())


def test_a_verdict_without_its_expectations_does_not_count(tmp_path: Path, image: Image) -> None:
    found = passing(image, expect=["/v1/models=me"])
    verdict.record(tmp_path, found)
    transfer.require_passed(tmp_path, image, rules=fingerprints.rules())
    verdict.record(
        tmp_path,
        replace(found, passed=tuple(name for name in found.passed if not name.startswith("server/expectation["))),
    )
    assert "server/expectation" in refused(tmp_path, image)


def test_an_overlay_that_leaves_checks_to_a_base_needs_its_pass(tmp_path: Path, engine: FakeEngine) -> None:
    base = engine.hold("llm-d-dev:nightly", kind="base", layers=LOWER)
    overlay = engine.hold("llm-d-dev:x", kind="overlay", layers=(*LOWER, digest("own")))
    verdict.record(tmp_path, passing(overlay, base=base.id))
    assert "leaves some checks to its base, which has no current pass" in refused(tmp_path, overlay)
    for wrong in (
        replace(passing(base), failed=("image/secret_files",)),
        passing(base, suite="4567"),
        passing(base, exact=False),
    ):
        verdict.record(tmp_path, wrong)
        assert "no current pass" in refused(tmp_path, overlay)
    verdict.record(tmp_path, replace(passing(base), diff_ids=(LOWER[0], digest("other"))))
    assert "does not stand on the base it names" in refused(tmp_path, overlay)
    verdict.record(tmp_path, passing(base))
    transfer.require_passed(tmp_path, overlay, rules=fingerprints.rules())


@pytest.mark.parametrize("differing", ["0", None])
def test_binaries_of_the_same_sources_are_fine(engine: FakeEngine, differing: str | None) -> None:
    transfer.require_same_native(engine.hold("llm-d-dev:x", **({"native": differing} if differing else {})))


def test_an_overlay_over_other_native_sources_is_told_how_to_be_pushed(engine: FakeEngine) -> None:
    with pytest.raises(GateError, match="llm-d-dev:x was made although 3 native sources differ") as caught:
        transfer.require_same_native(engine.hold("llm-d-dev:x", native="3"))
    assert "push --allow-native llm-d-dev:x" in caught.value.hint


# --- What arrives ------------------------------------------------------------------------------------------


@pytest.fixture
def served() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def repository(served: FakeRegistry, engine: FakeEngine) -> Iterator[RepositoryName]:
    """A registry repository; what the engine pushes arrives there."""

    def arrive(name: str, image_id: str) -> list[dict[str, Any]]:
        repository, _, tag = name.rpartition(":")
        engine.docker.keep_digest(image_id, f"{repository}@{served.put(tag, image_id)}")
        return [{"status": "Pushing", "id": "0a", "progressDetail": {"current": 1e6, "total": 2e6}}, {"status": "done"}]

    engine.docker.pushes = arrive
    with serving(served) as address:
        yield RepositoryName(host=address, path="llm-d-dev")


def push(
    engine: FakeEngine,
    image: Image,
    repository: RepositoryName,
    *tags: str,
    require_allowed: Callable[[], object] = lambda: None,
) -> tuple[transfer.Pushed, list[str]]:
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as locks:
        pushed = transfer.push(
            engine,
            image,
            repository,
            tags,
            locks=Path(locks),
            require_allowed=require_allowed,
            progress=lines.append,
        )
    return pushed, lines


def test_what_arrived_is_told(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    pushed, lines = push(engine, image, repository, f"local-{COMMIT}", "nightly")
    assert pushed.names == (f"{repository}:local-{COMMIT}", f"{repository}:nightly")
    assert pushed.size == 1234
    assert json.loads(served.manifests["nightly"])["config"]["digest"] == image.id
    assert lines[0] == "Pushing 0a 1/2 MB"


def test_a_registry_with_a_login_of_its_own_is_spoken_to_with_it_wherever_it_is_reached(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    served.basic = "Basic " + base64.b64encode(b"me:word").decode()
    access = Access(
        address="127.0.0.1:4711",
        reached=repository.host,
        login=Login(username="me", password="word", identity_token=""),  # noqa: S106
    )
    pushed, _ = push(engine, image, RepositoryName(host=access.address, path="llm-d-dev", access=access), "nightly")
    assert pushed.names == ("127.0.0.1:4711/llm-d-dev:nightly",)
    assert engine.docker.logins == [{"username": "me", "password": "word", "serveraddress": access.address}]
    assert "word" not in repr(access)


@pytest.mark.parametrize(
    ("detail", "shown"),
    [({"current": 1e6, "total": 2e6}, " 1/2 MB"), ({"total": 2e6}, " 0/2 MB"), ({}, ""), (None, "")],
)
def test_progress_is_shown_as_far_as_the_engine_tells_it(detail: dict[str, float] | None, shown: str) -> None:
    row = {"status": "Pushing", "id": "0a", "progressDetail": detail}
    assert transfer._describe(row) == f"Pushing 0a{shown}"


def test_the_image_is_pushed_by_its_id_whatever_the_name_is_now(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    moved = engine.hold(f"llm-d-dev:local-{COMMIT}", f"{repository}:local-{COMMIT}", kind="other")
    push(engine, image, repository, f"local-{COMMIT}")
    assert json.loads(served.manifests[f"local-{COMMIT}"])["config"]["digest"] == image.id != moved.id


def test_what_is_there_already_is_not_sent_again(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    engine.docker.keep_digest(image.id, f"{repository}@{served.put('nightly', image.id)}")
    pushed, lines = push(engine, image, repository, "nightly")
    assert pushed.names == (f"{repository}:nightly",)
    assert lines == []


def test_with_the_containerd_store_the_id_is_the_manifests(
    engine: FakeEngine, repository: RepositoryName, served: FakeRegistry
) -> None:
    served.put("nightly", digest("config"))
    text = served.manifests["nightly"].decode()
    image = engine.hold("llm-d-dev:nightly")
    engine.docker.known[digest(text)] = {**engine.docker.known[image.id], "Id": digest(text)}
    image = engine.image(digest(text))
    assert push(engine, image, repository, "nightly")[0].digest == image.id


@pytest.mark.parametrize("arrived", [None, digest("other")])
def test_something_else_arriving_is_an_alarm_and_later_tags_stay(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry, arrived: str | None
) -> None:
    served.put("nightly", digest("old"))

    def swap(name: str, _image_id: str) -> list[dict[str, Any]]:
        if arrived:
            served.put(name.rpartition(":")[2], arrived)
        return []

    engine.docker.pushes = swap
    with pytest.raises(GateError, match="is not the tested image") as caught:
        push(engine, image, repository, f"local-{COMMIT}", "nightly")
    assert (arrived or "nothing") in caught.value.what
    assert json.loads(served.manifests["nightly"])["config"]["digest"] == digest("old")


LIST = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mediaType": LIST, "manifests": []}, f"not an image manifest but {LIST}"),
        ({"mediaType": None, "manifests": []}, "not an image manifest"),
        ({"layers": []}, "0 layers instead of 1"),
        ({"layers": [{"digest": digest("another"), "size": 1}]}, "whose layers are not known to be the image's"),
        ({"config": {"digest": digest("another")}}, f"config {digest('another')}"),
    ],
)
def test_what_only_looks_like_the_image_does_not_pass(
    engine: FakeEngine, repository: RepositoryName, served: FakeRegistry, changes: dict[str, Any], said: str
) -> None:
    """When it is there before the push, that goes on; when it is what arrives, it is refused, and gets no name."""
    image = engine.hold("llm-d-dev:nightly")
    engine.docker.keep_digest(image.id, f"{repository}@{served.put('other', image.id)}")
    served.put("nightly", image.id, **changes)
    assert "done" in push(engine, image, repository, "nightly")[1]
    served.manifests.clear()

    def arrive_otherwise(name: str, image_id: str) -> list[dict[str, Any]]:
        served.put(name.rpartition(":")[2], image_id, **changes)
        return []

    engine.docker.pushes = arrive_otherwise
    with pytest.raises(GateError, match="is not the tested image") as caught:
        push(engine, image, repository, "nightly")
    assert said in caught.value.what
    assert served.named == set()


@pytest.mark.parametrize("lost", ["layer", "config"])
def test_an_image_without_all_its_content_does_not_pass(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry, lost: str
) -> None:
    gone = image.id if lost == "config" else digest("compressed")
    served.lost.add(gone)
    with pytest.raises(GateError, match=rf"missing content \({gone}\)"):
        push(engine, image, repository, "nightly")


def test_content_that_was_lost_is_sent_again(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    push(engine, image, repository, "nightly")
    served.lost.add(digest("compressed"))
    arrive = engine.docker.pushes

    def mend(name: str, image_id: str) -> Iterable[dict[str, Any]]:
        served.lost.clear()
        return arrive(name, image_id)

    engine.docker.pushes = mend
    assert "done" in push(engine, image, repository, "nightly")[1]


def test_where_no_login_is_stored_an_empty_one_goes_along(
    engine: FakeEngine, image: Image, repository: RepositoryName
) -> None:
    """Docker 28.3.3 refuses a push without any."""
    push(engine, image, repository, "nightly")
    assert engine.docker.logins == [{}]


def test_a_stored_login_goes_along(
    engine: FakeEngine, image: Image, repository: RepositoryName, isolated: Path
) -> None:
    (isolated / "docker").mkdir()
    stored = {"auths": {repository.host: {"username": "me", "password": "word"}}}
    (isolated / "docker/config.json").write_text(json.dumps(stored))
    push(engine, image, repository, "nightly")
    assert engine.docker.logins == [{"username": "me", "password": "word", "serveraddress": repository.host}]


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (urllib3.exceptions.ReadTimeoutError(None, "", "timed out"), RegistryError, "no progress for 10 minutes"),  # type: ignore[arg-type]
        (urllib3.exceptions.ProtocolError("broken"), EngineError, "the engine went away during the push"),
    ],
)
def test_a_push_that_breaks_off_is_no_defect(
    engine: FakeEngine, repository: RepositoryName, error: Exception, kind: type[Exception], said: str
) -> None:
    image = engine.hold("llm-d-dev:nightly")

    def break_off(_name: str, _id: str) -> list[dict[str, Any]]:
        raise error

    engine.docker.pushes = break_off
    with pytest.raises(kind, match=said):
        push(engine, image, repository, "nightly")


def test_a_push_without_an_end_is_given_up(
    engine: FakeEngine, image: Image, repository: RepositoryName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_UPLOAD_S", -1e9)
    engine.docker.pushes = lambda _name, _id: itertools.repeat({"status": "Pushing"})
    with pytest.raises(RegistryError, match="it took too long"):
        push(engine, image, repository, "nightly")


@pytest.mark.parametrize("moves", [False, True])
def test_a_push_without_progress_is_given_up_and_a_slow_one_is_not(
    engine: FakeEngine, image: Image, repository: RepositoryName, monkeypatch: pytest.MonkeyPatch, *, moves: bool
) -> None:
    minutes = itertools.count(step=60.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(minutes))
    monkeypatch.setattr(transfer, "_UPLOAD_S", 1e9)
    arrive = engine.docker.pushes

    def uploads(name: str, image_id: str) -> Iterator[dict[str, Any]]:
        for sent in range(60):
            detail = {"current": sent * moves, "total": 100}
            yield {"id": "1234", "status": "Pushing", "progressDetail": detail}
        yield from arrive(name, image_id)

    engine.docker.pushes = uploads
    if moves:
        assert push(engine, image, repository, "nightly")
        return
    with pytest.raises(RegistryError, match=r"no progress for 10 minutes, but 'Pushing 1234"):
        push(engine, image, repository, "nightly")


def test_a_refused_upload_leaves_no_name_behind(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    engine.docker.pushes = lambda _name, _id: [{"status": "Preparing"}, {"error": "denied: no"}]
    with pytest.raises(RegistryError, match="denied: no"):
        push(engine, image, repository, "nightly")
    assert list(engine.docker.names) == [f"llm-d-dev:local-{COMMIT}"]
    assert served.manifests == {}


def test_an_interrupt_leaves_no_name_behind(engine: FakeEngine, image: Image, repository: RepositoryName) -> None:
    def interrupt(_name: str, _id: str) -> list[dict[str, Any]]:
        raise KeyboardInterrupt

    engine.docker.pushes = interrupt
    with pytest.raises(KeyboardInterrupt):
        push(engine, image, repository, "nightly")
    assert list(engine.docker.names) == [f"llm-d-dev:local-{COMMIT}"]


def test_a_registry_that_is_down_is_noticed_before_anything_is_tagged(engine: FakeEngine, image: Image) -> None:
    with serving(FakeRegistry()) as gone:
        pass
    with pytest.raises(RegistryError, match="connection refused"):
        push(engine, image, RepositoryName(host=gone, path="x"), "nightly")
    assert list(engine.docker.names) == [f"llm-d-dev:local-{COMMIT}"]


def test_an_image_without_tags_is_refused(engine: FakeEngine, image: Image, repository: RepositoryName) -> None:
    with pytest.raises(GateError, match="no tag"):
        push(engine, image, repository)


@pytest.mark.parametrize(
    "words", ["received unexpected HTTP status: 503 Service Unavailable", "toomanyrequests: slow down"]
)
def test_an_upload_that_may_work_in_a_while_is_tried_again(
    engine: FakeEngine, image: Image, repository: RepositoryName, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.0)
    arrive, failures = engine.docker.pushes, [words, words]
    engine.docker.pushes = lambda name, image_id: [{"error": failures.pop()}] if failures else arrive(name, image_id)
    pushed, lines = push(engine, image, repository, "nightly")
    assert pushed.names == (f"{repository}:nightly",)
    assert [line for line in lines if "failed" in line] == [
        f"attempt {number} of 3 failed (push to {repository} failed: {words}); the next one in 0 s" for number in (1, 2)
    ]


# --- Under which names, and when --------------------------------------------------------------------------


def names_in(engine: FakeEngine, repository: RepositoryName) -> list[str]:
    """The tags that the engine says the registry has."""
    return [name for name in engine.docker.names if name.startswith(f"{repository}:")]


def test_an_image_arrives_under_a_name_of_the_push_and_its_names_move_after_that(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    arrive = engine.docker.pushes
    uploaded: list[str] = []
    moved: list[str] = []

    def watch(name: str, image_id: str) -> Iterable[dict[str, Any]]:
        uploaded.append(name.rpartition(":")[2])
        assert served.named == set()
        return arrive(name, image_id)

    engine.docker.pushes, served.after_put = watch, moved.append
    push(engine, image, repository, f"local-{COMMIT}", "nightly")
    assert [(upload := Upload.parse(tag)) and upload.image for tag in uploaded] == [image.short_id]
    assert moved == [f"local-{COMMIT}", "nightly"]
    assert served.named == set(served.manifests) == set(moved)
    assert sorted(names_in(engine, repository)) == [f"{repository}:{tag}" for tag in moved]


def test_names_are_the_very_bytes_that_arrived(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    pushed, _ = push(engine, image, repository, f"local-{COMMIT}", "nightly")
    assert {digest(content.decode()) for content in served.manifests.values()} == {pushed.digest}


def test_the_engine_says_that_the_registry_has_an_image_only_when_it_has(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    """A run that is killed at any moment leaves a name that says no more than that it was on its way."""
    seen: list[str] = []

    def note(*_: object) -> None:
        seen.extend(names_in(engine, repository))

    def arrive_seen(name: str, image_id: str) -> Iterable[dict[str, Any]]:
        note()
        return arrive(name, image_id)

    arrive, served.after_put = engine.docker.pushes, note
    engine.docker.pushes = arrive_seen
    push(engine, image, repository, f"local-{COMMIT}", "nightly", require_allowed=note)
    assert len(seen) == 4
    assert all(Upload.parse(name.rpartition(":")[2]) for name in seen)


def test_an_image_that_may_not_have_its_names_any_more_gets_none(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    """It was tested again during the upload, say, and failed."""

    def refuse() -> None:
        raise GateError("it failed", hint="")

    with pytest.raises(GateError, match="it failed"):
        push(engine, image, repository, "nightly", require_allowed=refuse)
    assert served.manifests == {}
    assert names_in(engine, repository) == []


def test_a_name_that_something_else_moves_meanwhile_is_told(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    def overtake(tag: str) -> None:
        served.after_put = lambda _tag: None
        served.put(tag, digest("other"))

    served.after_put = overtake
    with pytest.raises(GateError, match=f"{repository}:local-{COMMIT} is not the tested image {image.short_id}"):
        push(engine, image, repository, f"local-{COMMIT}", "nightly")
    assert served.named == {f"local-{COMMIT}"}
    assert names_in(engine, repository) == []


def test_a_name_that_something_else_moves_before_the_last_one_is_there_is_told(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    def overtake(tag: str) -> None:
        if tag == "nightly":
            served.put(f"local-{COMMIT}", digest("other"))

    served.after_put = overtake
    with pytest.raises(GateError, match=f":local-{COMMIT} is not the tested image"):
        push(engine, image, repository, f"local-{COMMIT}", "nightly")
    assert names_in(engine, repository) == []


def refusal(status: int, code: str, message: str) -> Answer:
    return Answer(status=status, body=json.dumps({"errors": [{"code": code, "message": message}]}).encode())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refusal(403, "denied", "no"), ("refuses access to llm-d-dev: denied: no", "account that may write")),
        (
            refusal(412, "precondition", "configured as immutable"),
            ("does not accept llm-d-dev:nightly: precondition: configured as immutable", "allow this tag to move"),
        ),
        (Answer(status=405), ("does not accept llm-d-dev:nightly: it answered 405", "name and settings")),
        (Answer(status=404), ("does not accept llm-d-dev:nightly: it answered 404", "name and settings")),
        (Answer(status=307), ("does not accept llm-d-dev:nightly: it answered 307", "name and settings")),
    ],
)
def test_a_registry_that_does_not_let_a_name_move_says_so_and_nothing_is_named(
    engine: FakeEngine, repository: RepositoryName, served: FakeRegistry, answer: Answer, told: tuple[str, str]
) -> None:
    served.put_answer = answer
    with pytest.raises(RegistryError, match=told[0]) as caught:
        push(engine, engine.hold("llm-d-dev:nightly"), repository, "nightly")
    assert told[1] in caught.value.hint
    assert served.manifests == {}
    assert names_in(engine, repository) == []


def test_a_name_that_is_taken_and_then_serves_something_else_is_told(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    served.put("nightly", digest("old"))
    served.put_answer = Answer(status=201)
    with pytest.raises(GateError, match="is not the tested image"):
        push(engine, image, repository, "nightly")
    assert names_in(engine, repository) == []


def test_where_names_cannot_be_removed_the_one_of_the_push_stays_in_the_registry_alone(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    served.untags = False
    push(engine, image, repository, "nightly")
    assert served.named == {"nightly"}
    assert len(served.manifests) == 2
    assert names_in(engine, repository) == [f"{repository}:nightly"]


def test_a_registry_that_removes_the_image_with_the_name_of_the_push_is_found_out(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "untag", lambda _self, _tag: served.manifests.clear())
    with pytest.raises(GateError, match="the registry serves nothing"):
        push(engine, image, repository, "nightly")
    assert names_in(engine, repository) == []


def test_an_image_that_has_one_name_gets_another_without_an_upload(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry
) -> None:
    push(engine, image, repository, f"local-{COMMIT}")
    engine.docker.pushes = lambda _name, _id: pytest.fail("uploaded again")
    pushed, _ = push(engine, image, repository, f"local-{COMMIT}", "nightly")
    assert len(pushed.names) == 2
    assert served.manifests["nightly"] == served.manifests[f"local-{COMMIT}"]


def test_one_run_at_a_time_moves_a_name(
    engine: FakeEngine, image: Image, repository: RepositoryName, served: FakeRegistry, tmp_path: Path
) -> None:
    lines: list[str] = []

    def work() -> None:
        transfer.push(
            engine,
            image,
            repository,
            ["nightly"],
            locks=tmp_path,
            require_allowed=lambda: None,
            progress=lines.append,
        )

    thread = threading.Thread(target=work)
    with lock.held(tmp_path, "push-nightly", doing="pushing another"):
        thread.start()
        while not lines:
            thread.join(0.01)
            assert thread.is_alive()
        assert "push-nightly is busy" in lines[0]
        assert served.manifests == {}
    thread.join()
    assert served.named == {"nightly"}
