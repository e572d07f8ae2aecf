"""Which base an overlay stands on, and what a plan says of it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from build.base import store
from build.config.folders import Folders
from build.console import Console
from build.engine import names
from build.errors import IncompatibleError, SourceError
from build.host.files import write_atomic_bytes
from build.overlay import choice, preview
from build.overlay.choice import BaseWishes
from build.source.repository import Repository
from build.source.target import Target
from tests.unit import bases
from tests.unit.fakes import FakeEngine
from tests.unit.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.base.store import Base
    from build.context import Context
    from build.overlay.delta import Delta

OLD, NEW = "2026-01-01", "2026-01-02"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Tags: `base`; `python`, `native`, `needs` and `package`, each one change further; `both` of these; `worse`."""
    work = Work.new(tmp_path_factory.mktemp("template") / "vllm")
    files = {
        "pyproject.toml": bases.PYPROJECT,
        "requirements/cpu.txt": "numpy\n",
        "requirements/cuda.txt": "numpy\n",
        "vllm/__init__.py": "",
        "vllm/a.py": "x" * 10,
        "csrc/a.cu": "",
        "tests/test_a.py": "",
    }
    for name, text in files.items():
        work.write(name, text)
    work.commit("Base")
    work.git("tag", "base")
    changes = {
        "python": {"vllm/a.py": "y" * 1500, "tests/test_a.py": "z"},
        "native": {"csrc/a.cu": "changed"},
        "needs": {"requirements/cpu.txt": "numpy\nnew>=1\n"},
        "both": {"csrc/a.cu": "changed", "requirements/cpu.txt": "numpy\nnew>=1\n"},
        "worse": {"csrc/a.cu": "worse", "CMakeLists.txt": ""},
        "package": {"yaml/__init__.py": ""},
    }
    for tag, changed in changes.items():
        work.git("checkout", "--quiet", "--force", "base")
        for name, text in changed.items():
            work.write(name, text)
        work.commit(tag)
        work.git("tag", tag)
    return work


@pytest.fixture
def source(work: Work) -> Iterator[Repository]:
    with contextlib.closing(Repository(work.path)) as source:
        yield source


def target(source: Repository, ref: str) -> Target:
    return Target.of(source, source.commit(ref))


class Machine:
    """An engine with bases, whose descriptions have been read already."""

    def __init__(self, source: Repository, cache: Path) -> None:
        self.engine = FakeEngine()
        self.flavor = "cpu"
        """What the setting says."""
        self._source = source
        self._cache = cache

    def base(self, ref: str, created: str, **facts: Any) -> str:  # noqa: ANN401 - as Facts has them
        """Put a base of a commit on it; returns its name."""
        commit = self._source.commit(ref)
        tree = self._source.listing(commit)
        held = replace(tree, files={p: e for p, e in tree.files.items() if not p.startswith("tests/")}, trees={})
        described = replace(bases.FACTS, commit=commit.id, **facts)
        name = f"llm-d-dev:{names.nightly(described.flavor, commit.id)}"
        image = self.engine.hold(name, kind="base", flavor=described.flavor, created=created)
        files = {**store.files(described, held, tree), "compiled.paths": b""}
        for file, content in files.items():
            write_atomic_bytes(self._cache / "bases" / image.id.removeprefix("sha256:") / file, content)
        return name

    @property
    def context(self) -> Context:
        settings = SimpleNamespace(repository="llm-d-dev", flavor=self.flavor)
        folders = Folders(state=self._cache / "state", cache=self._cache)
        return cast(
            "Context",
            SimpleNamespace(engine=self.engine, settings=settings, folders=folders, console=Console(quiet=False)),
        )

    def choose(
        self,
        ref: str,
        *,
        wanted: str | None = None,
        flavor: str | None = None,
        allow_native: bool = False,
        install_deps: bool = False,
    ) -> tuple[Base, Delta]:
        wishes = BaseWishes(base=wanted, flavor=flavor, carried=frozenset())
        return choice.choose(
            self.context, target(self._source, ref), wishes, allow_native=allow_native, install_deps=install_deps
        )

    def plan(self, ref: str, *, carried: frozenset[str] = frozenset()) -> preview.Plan:
        wishes = BaseWishes(base=None, flavor=None, carried=carried)
        return preview.plan(self.context, target(self._source, ref), wishes)


@pytest.fixture
def machine(source: Repository, tmp_path: Path) -> Machine:
    return Machine(source, tmp_path)


def test_the_newest_that_fits_is_taken_and_said(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.base("native", "2026-01-03")
    newer = machine.base("python", NEW)
    machine.base("base", OLD)
    chosen, delta = machine.choose("base")
    assert chosen.name == newer
    assert set(delta.written) == {"vllm/a.py"}
    said = capsys.readouterr().err
    assert re.search(rf"base {newer} \(0\.32\.0\+cpu, \d+ days old\): the newest with the same native sources", said)


def test_one_with_the_requirements_is_taken_before_a_newer_one_without(machine: Machine) -> None:
    machine.base("base", NEW)
    has = machine.base("python", OLD, distributions={"numpy": "2", "new": "1.5"})
    assert machine.choose("needs")[0].name == has


def test_where_none_fits_the_nearest_ones_hindrances_are_named(machine: Machine) -> None:
    machine.base("worse", NEW)
    nearest = machine.base("base", OLD)
    with pytest.raises(IncompatibleError, match=rf"{nearest}, .*: csrc/a\.cu \(1 in all\)") as caught:
        machine.choose("native")
    assert caught.value.exit_code == 4


def test_unmet_requirements_are_named_or_installed(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.base("base", OLD)
    with pytest.raises(IncompatibleError, match="lacks what the commit requires: new>=1"):
        machine.choose("needs")
    _, delta = machine.choose("needs", install_deps=True)
    assert delta.dependencies == ("new>=1",)
    assert "the only one" in capsys.readouterr().err


def test_native_differences_that_are_allowed_do_not_make_up_for_unmet_requirements(machine: Machine) -> None:
    machine.base("base", OLD)
    for ref in ("needs", "both"):
        with pytest.raises(IncompatibleError, match="lacks what the commit requires: new>=1"):
            machine.choose(ref, allow_native=True)
    _, delta = machine.choose("both", allow_native=True, install_deps=True)
    assert (delta.native, delta.dependencies) == (("csrc/a.cu",), ("new>=1",))


def test_of_bases_that_may_differ_the_nearest_is_taken(machine: Machine) -> None:
    machine.base("worse", NEW)
    nearest = machine.base("base", OLD)
    assert machine.choose("native", allow_native=True)[0].name == nearest


def test_native_differences_can_be_allowed_and_are_said(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.base("base", OLD)
    _, delta = machine.choose("native", allow_native=True)
    assert delta.native == ("csrc/a.cu",)
    assert "although 1 native sources differ" in capsys.readouterr().err


def test_the_base_that_was_asked_for_is_taken(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    older = machine.base("base", OLD)
    machine.base("python", NEW)
    assert machine.choose("base", wanted=older)[0].name == older
    assert "as asked for" in capsys.readouterr().err


def test_a_base_that_is_not_there_is_named(machine: Machine) -> None:
    machine.base("base", OLD)
    with pytest.raises(SourceError, match="'nightly-2' is not on this engine"):
        machine.choose("base", wanted="nightly-2")


@pytest.mark.parametrize("passes", [True, False])
def test_bases_of_the_flavor_that_fits_the_engine_are_considered_or_of_the_one_that_is_wanted(
    machine: Machine, capsys: pytest.CaptureFixture[str], *, passes: bool
) -> None:
    machine.flavor = "auto"
    machine.engine.pass_gpus("CDI devices" if passes else None)
    cuda = machine.base("base", OLD, flavor="cuda")
    cpu = machine.base("python", NEW)
    assert machine.choose("base")[0].name == (cuda if passes else cpu)
    said = capsys.readouterr().err
    why = "the engine can pass a GPU (CDI devices)" if passes else "the engine cannot pass a GPU"
    assert f"flavor {'cuda' if passes else 'cpu'}: {why}" in said
    assert machine.choose("base", flavor="cpu")[0].name == cpu
    assert machine.choose("base", flavor="cuda")[0].name == cuda
    assert machine.choose("base", wanted=cpu)[0].name == cpu


@pytest.mark.parametrize(("passes", "meant", "there"), [(True, "cuda", "cpu"), (False, "cpu", "cuda")])
def test_where_only_the_other_flavor_has_bases_both_ways_out_are_named(
    machine: Machine, meant: str, there: str, *, passes: bool
) -> None:
    machine.flavor = "auto"
    machine.engine.pass_gpus("the NVIDIA runtime" if passes else None)
    machine.base("base", OLD, flavor=there)
    with pytest.raises(
        IncompatibleError, match=f"no {meant} base on this engine, only {there}; .*because the"
    ) as caught:
        machine.choose("base")
    assert f"nightly --flavor {meant}`" in caught.value.hint
    assert f"`--flavor {there}`" in caught.value.hint


def test_bases_of_the_flavor_of_the_setting_are_considered_or_of_the_one_that_is_wanted(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.flavor = "cuda"
    older = machine.base("base", "2026-01-01", flavor="cuda")
    machine.base("worse", "2026-01-02", flavor="cuda")
    cpu = machine.base("python", "2025-12-31")
    with pytest.raises(IncompatibleError, match=r"csrc/a\.cu"):
        machine.choose("native")
    assert machine.choose("base")[0].name == older
    assert "bases of another flavor not considered: 1" in capsys.readouterr().err
    assert machine.choose("base", flavor="cpu")[0].name == cpu
    assert machine.choose("base", flavor="cuda")[0].name == older


def test_a_flavor_without_a_base_is_named_and_what_makes_one(machine: Machine) -> None:
    cpu = machine.base("base", OLD)
    with pytest.raises(IncompatibleError, match=r"no cuda base on this engine, only cpu$") as caught:
        machine.choose("base", flavor="cuda")
    assert caught.value.hint == "`python -m build nightly --flavor cuda` makes a cuda base"
    with pytest.raises(SourceError, match=f"{cpu} is a cpu base"):
        machine.choose("base", wanted=cpu, flavor="cuda")


@pytest.mark.parametrize(
    ("flavor", "tag", "command"),
    [
        ("cuda", None, "nightly --flavor cuda --commit {commit}`"),
        ("cpu", None, "nightly --vllm-version RELEASE`"),
        ("cpu", "v9.1.0", "nightly --vllm-version 9.1.0`"),
        ("cpu", "v9.1.0rc1", "nightly --vllm-version RELEASE`"),
        ("cpu", "v9.1.0-cpu", "nightly --vllm-version RELEASE`"),
    ],
)
def test_the_command_that_builds_a_fitting_base_is_named(
    flavor: str, tag: str | None, command: str, work: Work, machine: Machine
) -> None:
    machine.flavor = flavor
    machine.base("base", OLD, flavor=flavor)
    if tag:
        work.git("tag", tag, "native")
    try:
        with pytest.raises(IncompatibleError) as caught:
            machine.choose("native")
    finally:
        work.git("tag", "--delete", *([tag] if tag else []))
    assert command.format(commit=machine._source.commit("native").id) in caught.value.hint


def test_a_release_with_other_native_sources_is_not_recommended(work: Work, machine: Machine) -> None:
    machine.base("worse", OLD)
    work.git("tag", "v9.2.0", "base")
    try:
        with pytest.raises(IncompatibleError) as caught:
            machine.choose("native")
    finally:
        work.git("tag", "--delete", "v9.2.0")
    assert "--vllm-version RELEASE`" in caught.value.hint


def test_without_bases_none_can_be_chosen(machine: Machine) -> None:
    with pytest.raises(IncompatibleError, match="no base image"):
        machine.choose("base")


def _spoil(machine: Machine, name: str) -> None:
    """Make a base one of another version of this tool."""
    folder = machine._cache / "bases" / machine.engine.docker.names[name].removeprefix("sha256:")
    write_atomic_bytes(folder / "base.json", b'{"schema": 0}')


def test_a_base_of_another_version_is_passed_over_unless_it_was_asked_for(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = machine.base("base", OLD), machine.base("python", NEW)
    _spoil(machine, newer)
    assert machine.choose("base")[0].name == older
    assert "not considered: " in capsys.readouterr().err
    with pytest.raises(SourceError, match="another version"):
        machine.choose("base", wanted=newer)


def test_where_every_base_is_of_another_version_a_nightly_is_named(machine: Machine) -> None:
    name = machine.base("base", OLD)
    _spoil(machine, name)
    with pytest.raises(IncompatibleError, match=rf"no base .*{name}.* another version of this tool") as caught:
        machine.choose("base")
    assert caught.value.hint == "`python -m build nightly --flavor cpu` makes a new base"


def test_a_base_with_names_elsewhere_too_is_called_what_it_was_promoted_as(machine: Machine) -> None:
    name = machine.base("base", OLD)
    image_id = machine.engine.docker.names[name]
    for other in ("another:nightly", "a.example/x:nightly"):
        machine.engine.docker.names[other] = image_id
    assert machine.choose("base")[0].name == name


# --- Plans -------------------------------------------------------------------------------------------------


def test_a_plan_says_what_would_be_done(machine: Machine) -> None:
    name = machine.base("base", OLD)
    made = machine.plan("python")
    assert made.document() == {
        "base": name,
        "verdict": "python",
        "native": [],
        "dependencies": [],
        "metadata": [],
        "left_out": {"tests": 1},
        "not_carried": {},
        "only_comments": [],
        "not_checked": [],
        "written": 1,
        "deleted": 0,
        "bytes": 1500,
    }
    assert made.lines() == [
        f"verdict: python, on base {name}",
        "1 files to write (1.5 kB), 0 to delete",
        "not carried: tests (1 changed)",
    ]


def test_a_plan_refuses_nothing(machine: Machine) -> None:
    machine.base("worse", NEW)
    nearest = machine.base("base", OLD)
    made = machine.plan("native")
    assert made.base == nearest
    assert made.lines()[2:] == ["native: csrc/a.cu"]


def test_a_plan_carries_what_it_is_told_to(machine: Machine) -> None:
    machine.base("base", OLD)
    assert set(machine.plan("python", carried=frozenset({"tests"})).delta.written) == {"vllm/a.py", "tests/test_a.py"}


@pytest.mark.parametrize(
    ("place", "refused"), [("yaml/__init__.py", True), ("yaml.py", True), ("yaml/data.txt", False)]
)
def test_a_new_package_that_a_distribution_of_another_name_hides_is_refused(
    machine: Machine, place: str, *, refused: bool
) -> None:
    machine.base("base", OLD, distributions={"numpy": "2", "pyyaml": "6"})
    site = next(iter(PurePosixPath(str(bases.FACTS.metadata)).parents))
    machine.engine.docker.archives[f"{site}/{place}"] = b""
    hindered = pytest.raises(SourceError, match="--with yaml: the image has another Python package yaml")
    with hindered if refused else contextlib.nullcontext():
        machine.plan("package", carried=frozenset({"yaml"}))
    assert not [one for one in machine.engine.docker.running if not one.removed]


def test_base_with_vllm_from_a_wheel_carries_nothing_beside_it(machine: Machine) -> None:
    wheel = replace(store.OWN_LAYOUT, source=PurePosixPath("/usr/lib/python3/dist-packages"), editable=False)
    installed = machine.base("python", NEW, layout=wheel)
    with pytest.raises(IncompatibleError, match=r"--with: every base has vLLM from a wheel"):
        machine.plan("python", carried=frozenset({"tests"}))
    editable = machine.base("base", OLD)
    assert machine.plan("python", carried=frozenset({"tests"})).base == editable
    assert machine.plan("python").base == installed


def test_what_cannot_be_carried_is_named(machine: Machine) -> None:
    machine.base("base", OLD)
    with pytest.raises(SourceError, match="no top-level 'tset'") as caught:
        machine.plan("python", carried=frozenset({"tests", "tset"}))
    assert caught.value.hint == "--with takes one of tests"


@pytest.mark.parametrize(
    ("ref", "verdict", "written"), [("python", "python", 1), ("native", "native", 1), ("needs", "dependencies", 1)]
)
def test_a_plan_on_a_commit_needs_no_engine(source: Repository, ref: str, verdict: str, written: int) -> None:
    made = preview.plan_on_commit(target(source, ref), "base", flavor="cpu", carried=frozenset())
    assert made.base == source.commit("base").id
    assert (made.delta.verdict, len(made.delta.written)) == (verdict, written)


def test_a_commit_that_does_not_exist_is_no_base(source: Repository) -> None:
    with pytest.raises(SourceError, match="'gone' names no commit"):
        preview.plan_on_commit(target(source, "python"), "gone", flavor="cpu", carried=frozenset())
