"""Whatever became of a file that was kept: the right answer, or the file counts as absent. Never another answer."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.base import store
from build.cli import launcher, status
from build.config.folders import Folders
from build.console import Console
from build.errors import BusyError, LlmdDevError, as_ours
from build.gate import demands, fingerprints, smoke_run, verdict
from build.host import lock, stored
from build.host.files import write_json
from build.host.process import Completed
from build.nightly import freshness, notify, record, timer
from build.nightly.record import Record
from build.pypi import uv
from build.pypi.index import PackageIndex
from build.registry import local
from build.registry import login as registry_login
from build.source.listing import Listing
from smoke.image.layer import Layer
from smoke.image.layer_scan import Memory
from smoke.server import hub_model
from tests.standin.verdicts import passing
from tests.unit import bases, damage
from tests.unit.fakes import IMAGE, FakeEngine, context_of
from tests.unit.test_base import COMPILED, SEALED, archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from build.context import Context
    from build.engine.image import Image

QUIET = Console(quiet=True)
NIGHT = Record(
    started="2026-01-01T02:00:00Z",
    finished="2026-01-01T02:10:00Z",
    owner="x:1:1",
    flavor="cpu",
    verdict="fail",
    error={"category": "smoke", "what": "it broke", "hint": "mend it"},
    commit="c" * 40,
    image=IMAGE.id,
    bytes=3,
    steps=({"name": "seal", "within": ["build"], "seconds": 1.0},),
    took=600.0,
)
LAYER = Layer(files=("/root/.netrc",), content_bytes=2**30)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A file that is kept.

    Attributes:
        write: Writes it below a folder, and returns its path.
        ask: What is made of it, and of what is around it.
        absent: The answer where it is absent.
    """

    write: Callable[[Path], Path]
    ask: Callable[[Path], object]
    absent: object


def _folders(folder: Path) -> Folders:
    return Folders(state=folder, cache=folder)


def _context(folder: Path, engine: FakeEngine | None = None) -> Context:
    return context_of(folder, engine, quiet=True, state=folder, cache=folder)


def _verdict(folder: Path) -> Path:
    verdict.record(folder / "verdicts", passing(IMAGE, gpus="all", expect=["/v1/models=me"], base=None))
    return next((folder / "verdicts").glob("*.json"))


def _record(folder: Path) -> Path:
    path = folder / "nightlies" / "20260101-020000-1-ab.json"
    record.Recorder(path, NIGHT)
    return path


def _port(folder: Path) -> Path:
    path = local._memory(_folders(folder))
    stored.write(path, {"port": 24711})
    return path


def _layer(folder: Path) -> Path:
    Memory(folder / "layers").put(IMAGE.id, LAYER)
    return next((folder / "layers").iterdir())


def _installed(folder: Path) -> Path:
    launcher._record(folder, None, files=[folder / "a"], folders=[folder])
    return folder / "llm-d-dev.json"


DOCUMENTS = {
    "verdict": Kept(write=_verdict, ask=lambda folder: verdict.recall(folder / "verdicts", IMAGE.id), absent=None),
    "nightly": Kept(write=_record, ask=lambda folder: record.recall(folder / "nightlies"), absent=[]),
    "port": Kept(write=_port, ask=lambda folder: local.last_address(_folders(folder)), absent=None),
    "layer": Kept(write=_layer, ask=lambda folder: Memory(folder / "layers").get(IMAGE.id), absent=None),
    "command": Kept(write=_installed, ask=launcher._recorded, absent=None),
}


@pytest.fixture(params=DOCUMENTS)
def kept(request: pytest.FixtureRequest) -> Kept:
    return DOCUMENTS[request.param]


def _asked(kept: Kept, path: Path, folder: Path, content: bytes) -> object:
    path.unlink()
    path.write_bytes(content)
    return kept.ask(folder)


def test_what_was_kept_is_read(kept: Kept, tmp_path: Path) -> None:
    kept.write(tmp_path)
    assert kept.ask(tmp_path) != kept.absent


@damage.FEW
@given(data=st.data())
def test_no_bytes_give_another_answer(kept: Kept, tmp_path: Path, data: st.DataObject) -> None:
    path = kept.write(tmp_path)
    right, before = kept.ask(tmp_path), path.read_bytes()
    after = data.draw(damage.bytes_instead(before))
    assert _asked(kept, path, tmp_path, after) in (right, kept.absent)


@pytest.mark.parametrize("content", damage.EDITS, ids=range(len(damage.EDITS)))
def test_what_is_hardly_anything_counts_as_absent(kept: Kept, tmp_path: Path, content: bytes) -> None:
    path = kept.write(tmp_path)
    assert _asked(kept, path, tmp_path, content) == kept.absent


def test_no_value_is_believed_that_was_not_written(kept: Kept, tmp_path: Path) -> None:
    path = kept.write(tmp_path)
    right, before = kept.ask(tmp_path), path.read_bytes()
    for content in damage.values_instead(before):
        # Without its checksum it is the document of an older version.
        assert _asked(kept, path, tmp_path, content) in (right, kept.absent)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Whoever waits for a pipe fails, and does not hang."""

    def stop(*_: object) -> None:
        pytest.fail("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("instead", damage.INSTEAD)
def test_what_is_no_file_counts_as_absent(kept: Kept, tmp_path: Path, instead: str) -> None:
    path = kept.write(tmp_path)
    right = kept.ask(tmp_path)
    damage.INSTEAD[instead](path)
    # Root may read what has no permissions.
    assert kept.ask(tmp_path) in ([right, kept.absent] if instead == "no permissions" else [kept.absent])


def test_what_an_older_version_wrote_is_read(kept: Kept, tmp_path: Path) -> None:
    path = kept.write(tmp_path)
    right, document = kept.ask(tmp_path), json.loads(path.read_bytes())
    del document["checksum"]
    write_json(path, document)
    assert kept.ask(tmp_path) == right


@pytest.mark.parametrize("name", ["verdict", "nightly"])
def test_no_ill_typed_document_of_an_older_version_stops_a_verb(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records and verdicts without a checksum are judged by their form; `status` and `smoke` read them."""
    # Reads every file of two packages, each time.
    monkeypatch.setattr(fingerprints, "rules", lambda: "0" * 64)
    engine = FakeEngine()
    image = engine.hold("llm-d-dev:nightly", kind="base", flavor="cpu", commit="c" * 40)
    context = _context(tmp_path, engine)
    if name == "verdict":
        verdict.record(context.folders.verdicts, passing(image, gpus="all", base=None))
        (path,) = context.folders.verdicts.iterdir()
    else:
        path = _record(tmp_path)
    document = json.loads(path.read_bytes())
    del document["checksum"]
    for content in damage.values_instead(json.dumps(document).encode()):
        path.write_bytes(content)
        Console(quiet=False).result(status.table(status.rows(context)))
        Console(quiet=False).result(record.table(record.recall(context.folders.nightlies)))
        json.dumps([one.document() for one in record.recall(context.folders.nightlies)])
        smoke_run.known(context, image, smoke_run.SmokeOptions(expect=("/x=y",)))
        demands.shortcoming(context.folders.verdicts, image, rules="x")
        freshness.stale(context.folders.nightlies, image)
        notify.tell_stuck(context)
        capsys.readouterr().out.encode()


def test_a_damaged_file_of_the_state_folder_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _verdict(tmp_path)
    path.write_bytes(b"{")
    verdict.recall(tmp_path / "verdicts", IMAGE.id)
    assert [one.levelno for one in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text
    caplog.clear()
    path.unlink()
    verdict.recall(tmp_path / "verdicts", IMAGE.id)
    assert not caplog.records


def test_one_of_a_cache_is_not_worth_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _layer(tmp_path)
    path.write_bytes(b"{")
    Memory(tmp_path / "layers").get(IMAGE.id)
    assert not caplog.records


def test_something_huge_is_not_read(tmp_path: Path) -> None:
    path = _record(tmp_path)
    with path.open("ab") as file:
        file.truncate(2**33)
    assert record.recall(tmp_path / "nightlies") == []


# --- What can be had again ---------------------------------------------------------------------------------------


def _sealed() -> tuple[FakeEngine, Image]:
    engine = FakeEngine()
    files = store.files(SEALED.facts, SEALED.held, SEALED.tree)
    engine.docker.archives[str(store.FACTS)] = archive({**files, **COMPILED})
    return engine, engine.hold("llm-d-dev:nightly", kind="base")


def _cached(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "bases").rglob("*") if path.is_file())


BASE_FILES = ("base.json", "commit.tree", "compiled.paths", "held.tree", "checksums")


@pytest.mark.parametrize("number", range(5), ids=BASE_FILES)
@damage.FEW
@given(data=st.data())
def test_a_base_is_what_its_image_says_whatever_is_in_the_cache(
    tmp_path: Path, number: int, data: st.DataObject
) -> None:
    # The same files for every example: what an earlier one left may be as good, and shorter by a line end.
    shutil.rmtree(tmp_path / "bases", ignore_errors=True)
    engine, image = _sealed()
    right = store.load(engine, image, tmp_path)
    path = _cached(tmp_path)[number]
    path.write_bytes(data.draw(damage.bytes_instead(path.read_bytes())))
    assert store.load(engine, image, tmp_path) == right
    assert store.load(engine, image, tmp_path) == right


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("number", range(5), ids=BASE_FILES)
@pytest.mark.parametrize("instead", damage.INSTEAD)
def test_a_base_is_read_anew_where_something_else_is_in_the_way(tmp_path: Path, number: int, instead: str) -> None:
    engine, image = _sealed()
    right = store.load(engine, image, tmp_path)
    damage.INSTEAD[instead](_cached(tmp_path)[number])
    assert store.load(engine, image, tmp_path) == right
    asked = len(engine.docker.running)
    assert store.load(engine, image, tmp_path) == right
    assert len(engine.docker.running) == asked


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("instead", [name for name in damage.INSTEAD if name != "no permissions"])
def test_a_base_is_read_anew_where_its_folder_is_something_else(tmp_path: Path, instead: str) -> None:
    engine, image = _sealed()
    right = store.load(engine, image, tmp_path)
    folder = _cached(tmp_path)[0].parent
    shutil.rmtree(folder)
    folder.touch()
    damage.INSTEAD[instead](folder)
    assert store.load(engine, image, tmp_path) == right


def test_of_two_runs_that_read_a_base_none_is_disturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found nothing in the cache, and write the same."""
    engine, image = _sealed()
    write = stored.write_files

    def overtaken(folder: Path, files: dict[str, bytes]) -> None:
        write(folder, files)
        write(folder, files)

    monkeypatch.setattr(stored, "write_files", overtaken)
    right = store.load(engine, image, tmp_path)
    assert store.load(engine, image, tmp_path) == right
    assert len(engine.docker.running) == 1


@damage.FEW
@given(data=st.data())
def test_a_listing_is_whole_or_an_error(data: st.DataObject) -> None:
    text = bases.listing({"setup.py": "x", "vllm/\udcff.py": "y", "vllm/z.py": "z"}).serialize()
    cut = data.draw(st.integers(1, len(text) - 1))
    if text[cut - 1]:
        with pytest.raises(ValueError, match=r"."):
            Listing.parse(text[:cut])
    with pytest.raises(ValueError, match=r"."):
        Listing.parse(text[cut:] if text[cut - 1] else b"\0" + text[cut:])


def _wheel(tmp_path: Path, asked: list[str]) -> Callable[..., Path]:
    def fetch(*_: object, **__: object) -> Path:
        asked.append("uv")
        path = tmp_path / "uv.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("uv-1.data/scripts/uv", "a program" * 100)
        return path

    return fetch


@pytest.mark.parametrize("instead", ["cut off", *damage.INSTEAD])
def test_a_program_that_was_damaged_is_taken_from_its_wheel_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("build.pypi.download.fetch", _wheel(tmp_path, asked))

    def program() -> Path:
        index = PackageIndex.parse("", {})
        return uv.ensure(_folders(tmp_path), index, machine="x86_64", console=QUIET) / "uv"

    path = program()
    assert program() == path
    assert asked == ["uv"]
    if instead == "cut off":
        path.write_bytes(path.read_bytes()[:100])
    else:
        damage.INSTEAD[instead](path)
    assert program().read_text() == "a program" * 100


def test_a_model_that_was_damaged_is_told_from_one_that_was_not(tmp_path: Path) -> None:
    folder = tmp_path / "org--name@main"
    stored.write(hub_model._record(folder), {"digest": "a" * 64})
    assert [hub_model.is_damaged(folder, one) for one in ("a" * 64, "b" * 64)] == [False, True]
    hub_model.forget(folder)
    assert not hub_model.is_damaged(folder, "b" * 64)


# --- What else is read -------------------------------------------------------------------------------------------


@damage.FEW
@given(data=st.data())
def test_no_note_of_a_holder_stands_in_for_the_lock(tmp_path: Path, data: st.DataObject) -> None:
    with lock.held(tmp_path, "nightly", doing="x"):
        path = tmp_path / "nightly.json"
        path.write_bytes(data.draw(damage.bytes_instead(path.read_bytes())))
        with pytest.raises(BusyError, match="nightly is busy"), lock.held(tmp_path, "nightly", doing="y"):
            pass


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("instead", [*damage.INSTEAD])
def test_a_lock_is_held_whatever_is_in_the_place_of_its_note(tmp_path: Path, instead: str) -> None:
    with lock.held(tmp_path, "nightly", doing="x"):
        damage.INSTEAD[instead](tmp_path / "nightly.json")
        with pytest.raises(BusyError, match="nightly is busy"), lock.held(tmp_path, "nightly", doing="y"):
            pass
    with lock.held(tmp_path, "nightly", doing="z"):
        pass


@damage.FEW
@given(data=st.data())
def test_a_password_is_one_or_is_made_anew(tmp_path: Path, data: st.DataObject) -> None:
    identity = registry_login.ensure(_folders(tmp_path))
    identity.renew()
    identity.file.write_bytes(data.draw(damage.bytes_instead(identity.file.read_bytes())))
    login = identity.login()
    assert login is None or len(login.password) == 43
    assert registry_login.ensure(_folders(tmp_path)) == identity


@pytest.mark.parametrize("content", damage.EDITS, ids=range(len(damage.EDITS)))
def test_a_command_that_was_damaged_can_be_removed_and_installed(tmp_path: Path, content: bytes) -> None:
    place = launcher.UserFiles.of({"HOME": str(tmp_path)})
    place.command.parent.mkdir(parents=True)
    for text in (content, b"python='" + content, b"python=\n"):
        place.command.write_bytes(text)
        assert launcher._environment(place) == Path(sys.prefix)
        assert launcher.uninstall(place, console=QUIET) == {"removed": []}


@pytest.mark.parametrize("content", damage.EDITS, ids=range(len(damage.EDITS)))
def test_a_timer_that_was_damaged_is_shown(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    place = timer.Owner(folders=_folders(tmp_path), environment={"HOME": str(tmp_path)}, console=QUIET)
    place.timer.parent.mkdir(parents=True, exist_ok=True)
    place.timer.write_bytes(content)
    found = timer.show(place)
    assert found is not None
    assert found.at == "?"


@pytest.mark.parametrize("name", ["report.json", "verdict.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b'{"result": null}', b"\xff", b"[" * 100_000])
def test_a_report_that_was_damaged_is_no_verdict(
    tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(argv: list[str], **_: object) -> Any:  # noqa: ANN401 - as command.run has it
        folder = Path(argv[argv.index("--report") + 1])
        report: dict[str, Any] = {
            "result": "pass",
            "cause": None,
            "line": None,
            "advice": None,
            "checks": [],
            "figures": {},
        }
        write_json(folder / "report.json", report)
        write_json(folder / "verdict.json", passing(IMAGE).statement())
        (folder / name).write_bytes(content)
        return Completed(returncode=0, tail=())

    monkeypatch.setattr("build.host.process.run", written)
    context = _context(tmp_path, FakeEngine())
    vars(context.settings)["start_timeout"] = 1
    with pytest.raises(LlmdDevError) as caught:
        smoke_run.run(context, IMAGE, smoke_run.SmokeOptions())
    assert caught.value.exit_code == 8


def test_a_folder_in_the_place_of_what_is_written_is_two_lines(tmp_path: Path) -> None:
    found = tmp_path / f"{IMAGE.id.removeprefix('sha256:')}.json"
    found.mkdir(parents=True)
    with pytest.raises(OSError, match="directory") as caught:
        verdict.record(tmp_path, passing(IMAGE))
    ours = as_ours(caught.value)
    assert (ours.word, ours.exit_code) == ("usage", 2)
    assert str(found) in ours.what


def test_a_verdict_with_a_null_is_tested_again(tmp_path: Path) -> None:
    path = _verdict(tmp_path)
    document = json.loads(path.read_bytes())
    document["predicate"]["passedTests"][0] = None
    del document["checksum"]
    write_json(path, document)
    context = _context(tmp_path)
    assert smoke_run.known(context, IMAGE, smoke_run.SmokeOptions()) is None
    assert demands.shortcoming(context.folders.verdicts, IMAGE, rules="x") == "was not tested"
    kept = replace(passing(IMAGE), failed=())
    verdict.record(context.folders.verdicts, kept)
    assert verdict.recall(context.folders.verdicts, IMAGE.id) == kept
