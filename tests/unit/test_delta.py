"""What turns a base into a commit, and what stands in the way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from build.overlay import delta
from build.source.listing import EXECUTABLE, REGULAR, SUBMODULE, SYMLINK
from build.vllm import requirements, version
from build.vllm.paths import PathClass
from build.vllm.pyproject import Pyproject
from tests.engine import changes
from tests.unit.bases import PYPROJECT, base, listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from build.base.store import BaseContents
    from build.overlay.delta import Delta
    from tests.engine.changes import Change

Files = dict[str, str | tuple[str, str]]

COMMON = "requirements/common.txt"
CPU = "requirements/cpu.txt"

KEPT: Files = {"setup.py": "", "vllm/__init__.py": "", "vllm/version.py": ""}


def between(start: BaseContents, files: Mapping[str, str | tuple[str, str]], **options: Any) -> Delta:  # noqa: ANN401 - as delta.between has them
    """The delta from a base to a tree of these contents."""
    whole = {"pyproject.toml": PYPROJECT, **files}
    texts = {path: content for path, content in whole.items() if isinstance(content, str)}
    pyproject = Pyproject.parse(texts["pyproject.toml"])
    texts.setdefault(CPU, "")
    requires = requirements.of_tree(texts.get, start.facts.flavor, pyproject)
    return delta.between(start, listing(whole), pyproject=pyproject, requires=requires, **options)


def test_nothing_changed() -> None:
    found = between(base(KEPT), KEPT)
    assert (dict(found.written), found.deleted, found.verdict) == ({}, (), PathClass.PYTHON)
    assert found.present == {"pyproject.toml", *KEPT}


@pytest.mark.parametrize("change", changes.ALL, ids=lambda change: change.name)
def test_whatever_happens_to_a_file(change: Change) -> None:
    before, after = (
        {file.path: (file.mode, file.content.encode("utf-8", "replace").decode())} if file else {}
        for file in (change.before, change.after)
    )
    found = between(base({**KEPT, **before}), {**KEPT, **after})
    assert set(found.written) == set(after)
    assert found.deleted == (() if after else tuple(before))
    assert found.verdict is PathClass.PYTHON


def test_changes_that_belong_together() -> None:
    old: Files = {"vllm/Case.py": "x", "vllm/file": "x", "vllm/folder/inner.py": "x"}
    new: Files = {"vllm/case.py": "x", "vllm/file/inner.py": "x", "vllm/folder": "x"}
    found = between(base({**KEPT, **old}), {**KEPT, **new})
    assert set(found.written) == set(new)
    assert found.deleted == tuple(sorted(old))


def test_modes_are_written_as_the_commit_has_them() -> None:
    old: Files = {"vllm/a": (REGULAR, "x"), "vllm/b": (EXECUTABLE, "x"), "vllm/c": (REGULAR, "target")}
    new: Files = {"vllm/a": (EXECUTABLE, "x"), "vllm/b": (REGULAR, "x"), "vllm/c": (SYMLINK, "target")}
    found = between(base({**KEPT, **old}), {**KEPT, **new})
    assert {path: entry.mode for path, entry in found.written.items()} == {
        "vllm/a": EXECUTABLE,
        "vllm/b": REGULAR,
        "vllm/c": SYMLINK,
    }


def test_what_the_image_has_differently_from_its_commit_is_put_right() -> None:
    start = base(KEPT)
    patched = {**start.held.files, "vllm/version.py": listing({"x": "patched"}).files["x"]}
    start = type(start)(facts=start.facts, held=type(start.held)(files=patched, trees={}), tree=start.tree)
    assert set(between(start, KEPT).written) == {"vllm/version.py"}


def test_top_level_entries_that_the_base_lacks_are_left_out() -> None:
    new: Files = {"tests/test_new.py": "", "AGENTS.md": "", "vllm/new.py": ""}
    found = between(base({**KEPT, "tests/test_old.py": ""}, absent=("tests/",)), {**KEPT, **new})
    assert set(found.written) == {"vllm/new.py"}
    assert found.deleted == ()
    assert not found.present & {"tests/test_new.py", "AGENTS.md"}


def test_one_can_be_carried_all_the_same() -> None:
    new: Files = {"tests/test_new.py": "", "docs/x.md": ""}
    found = between(base(KEPT), {**KEPT, **new}, carried=frozenset({"tests"}))
    assert set(found.written) == {"tests/test_new.py"}


def test_a_folder_that_the_commit_drops_is_deleted() -> None:
    found = between(base({**KEPT, "examples/a.py": "", "examples/b/c.py": ""}), KEPT)
    assert found.deleted == ("examples/a.py", "examples/b/c.py")


def test_changed_files_that_are_not_carried_are_counted() -> None:
    new: Files = {"tests/a.py": "", "tests/b.py": "", "new.py": "", "vllm/sub": (SUBMODULE, "2"), "docs/same": ""}
    found = between(base({**KEPT, "docs/same": "", "docs/gone": ""}, absent=("docs/",)), {**KEPT, **new})
    assert dict(found.left_out) == {"tests": 2, "new.py": 1}
    assert found.document(size=0)["left_out"] == {"tests": 2, "new.py": 1}
    assert found.document(size=0)["not_carried"] == {"vllm/sub": "a submodule"}
    assert found.left_out_text == "new.py (1 changed), tests (2 changed), vllm/sub (a submodule)"
    assert between(base(KEPT), {**KEPT, **new}, carried=frozenset({"tests"})).left_out["tests"] == 0


def test_submodules_are_left_alone() -> None:
    found = between(
        base({**KEPT, "vllm/old": (SUBMODULE, "1")}, absent=("vllm/old",)), {**KEPT, "vllm/new": (SUBMODULE, "2")}
    )
    assert (dict(found.written), found.deleted) == ({}, ())
    assert "vllm/new" not in found.present


# --- Native ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["csrc/new.cu", "CMakeLists.txt", "cmake/x.cmake", "setup.py", "requirements/build/cpu.txt"]
)
@pytest.mark.parametrize("how", ["added", "changed", "deleted"])
def test_native_sources_in_any_way(path: str, how: str) -> None:
    old: Files = {**KEPT, **({} if how == "added" else {path: "old"})}
    new: Files = {**KEPT, **({} if how == "deleted" else {path: "new"})}
    found = between(base(old), new)
    assert found.native == (path,)
    assert found.verdict is PathClass.NATIVE


def test_native_sources_count_also_where_the_image_does_not_hold_them() -> None:
    found = between(base({**KEPT, "csrc/a.cu": "old"}, absent=("csrc/",)), {**KEPT, "csrc/a.cu": "new"})
    assert found.native == ("csrc/a.cu",)
    assert dict(found.written) == {}


@pytest.mark.parametrize(
    ("made", "native"), [((), ()), (("vllm/vllm-rs",), ("rust/a.rs",)), (("vllm/_rust_x.so",), ("rust/a.rs",))]
)
def test_rust_is_native_where_its_binaries_are(made: tuple[str, ...], native: tuple[str, ...]) -> None:
    found = between(base({**KEPT, "rust/a.rs": "old"}, made_by_build=made), {**KEPT, "rust/a.rs": "new"})
    assert found.native == native


@pytest.mark.parametrize("path", ["vllm/_C.abi3.so", "vllm/_version.py", "vllm/vllm_flash_attn/new.py"])
def test_a_file_of_the_builds_that_the_commit_tracks_now_is_native(path: str) -> None:
    assert between(base(KEPT), {**KEPT, path: "x"}).native == (path,)


def test_what_the_build_made_is_never_replaced() -> None:
    made = ("vllm/_C.abi3.so", "vllm/libs/libtcmalloc.so.4", "vllm/vllm_flash_attn/flash.py", "vllm/_version.py")
    tracked: Files = {"vllm/libs/libtcmalloc.so.4": "x", "vllm/_C.abi3.so": "x", "vllm/vllm_flash_attn": (SYMLINK, "y")}
    found = between(base(KEPT, made_by_build=made), {**KEPT, **tracked})
    assert found.native == tuple(sorted(tracked))
    assert dict(found.written) == {}
    assert not found.present & tracked.keys()


def test_a_version_file_that_is_tracked_is_left_to_the_overlay() -> None:
    found = between(base({**KEPT, version.FILE: "old"}, made_by_build=()), {**KEPT, version.FILE: "new"})
    assert (dict(found.written), found.deleted, found.native) == ({}, (), ())


def test_a_tracked_file_among_those_of_the_build_is_python() -> None:
    path = "vllm/vllm_flash_attn/__init__.py"
    changed = between(base({**KEPT, path: "old"}), {**KEPT, path: "new"})
    assert (set(changed.written), changed.native) == ({path}, ())
    dropped = between(base({**KEPT, path: "old"}), KEPT)
    assert (dropped.deleted, dropped.native) == ((path,), ())


@pytest.mark.parametrize("requires", ['"torch == 2.14.0"', '"torch"', '"torch == 2.13.0", "torch == 2.14.0"'])
def test_another_torch_pin_is_native(requires: str) -> None:
    found = between(base(KEPT), {**KEPT, "pyproject.toml": f"[build-system]\nrequires = [{requires}]\n"})
    assert found.native == ("pyproject.toml",)


@pytest.mark.parametrize("requires", ['"wheel"', ""])
def test_a_torch_pin_that_was_only_removed_is_not(requires: str) -> None:
    found = between(base(KEPT), {**KEPT, "pyproject.toml": f"[build-system]\nrequires = [{requires}]\n"})
    assert found.native == ()


def test_another_pyproject_with_the_same_pin_is_metadata() -> None:
    text = '[build-system]\nrequires = ["wheel", "torch==2.13.0"]\n[project.scripts]\nx = "y:z"\n'
    found = between(base(KEPT), {**KEPT, "pyproject.toml": text})
    assert (found.native, found.metadata, found.verdict) == ((), ("pyproject.toml",), PathClass.METADATA)


def test_a_commit_without_pyproject_is_native() -> None:
    gone = delta.between(base(KEPT), listing(KEPT), pyproject=Pyproject.parse(""), requires=[])
    assert gone.native == ("pyproject.toml",)


# --- Dependencies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("numpy>=2", False),
        ("numpy>=3", True),
        ('new; python_version < "3.12"', False),
        ('new; python_version >= "3.12"', True),
        ("new", True),
    ],
)
def test_a_requirement_is_compared_with_what_the_base_has(line: str, *, missing: bool) -> None:
    files: Files = {**KEPT, CPU: "-r common.txt\ntorch==2.13.0+cpu\n"}
    found = between(base({**files, COMMON: "numpy\n"}), {**files, COMMON: f"numpy\n{line}\n"})
    assert found.dependencies == ((line,) if missing else ())
    assert found.verdict is (PathClass.DEPENDENCIES if missing else PathClass.PYTHON)


def test_another_torch_is_native_wherever_it_is_asked_for() -> None:
    found = between(base(KEPT), {**KEPT, CPU: "torch==2.14.0+cpu\nnew\n"})
    assert (found.native, found.dependencies) == ((CPU,), ("new",))


def test_a_python_that_the_base_has_not_is_a_dependency() -> None:
    text = PYPROJECT + '[project]\nrequires-python = ">=3.13"\n'
    assert between(base(KEPT), {**KEPT, "pyproject.toml": text}).dependencies == ("requires-python >=3.13",)


def test_requirements_of_another_flavor_do_not_count() -> None:
    files: Files = {**KEPT, "requirements/cuda.txt": "flashinfer\n", CPU: "numpy\n"}
    assert between(base(KEPT), files).dependencies == ()


def test_what_the_base_itself_lacks_is_no_news() -> None:
    files: Files = {**KEPT, CPU: "torchvision\nnew\n"}
    assert between(base(files, unmet=("torchvision",)), files).dependencies == ("new",)


def test_native_outweighs_dependencies_outweighs_metadata() -> None:
    metadata: Files = {**KEPT, "MANIFEST.in": "x"}
    dependencies: Files = {**metadata, CPU: "new"}
    native: Files = {**dependencies, "csrc/a.cu": ""}
    verdicts = [between(base(KEPT), files).verdict for files in (metadata, dependencies, native)]
    assert verdicts == ["metadata", "dependencies", "native"]


# --- What is said of it ------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_what_is_written_and_deleted() -> None:
    start = base({**KEPT, "vllm/a.py": "old"})
    deltas = [
        between(start, {**KEPT, "vllm/a.py": "new"}),
        between(start, {**KEPT, "vllm/a.py": (EXECUTABLE, "new")}),
        between(start, KEPT),
        between(start, {**KEPT, "vllm/a.py": "old", "vllm/\udcff": "x"}),
    ]
    assert len({one.fingerprint for one in deltas}) == len(deltas)
    assert between(start, {**KEPT, "vllm/a.py": "new"}).fingerprint == deltas[0].fingerprint


def test_the_document_counts() -> None:
    found = between(base({**KEPT, "vllm/a.py": "old", "csrc/a.cu": "old"}), {**KEPT, "csrc/a.cu": "new", CPU: "new"})
    document = found.document(size=7)
    assert {**document, "native": None} == {
        "verdict": "native",
        "native": None,
        "dependencies": ["new"],
        "metadata": [],
        "left_out": {"requirements": 1},
        "not_carried": {},
        "written": 1,
        "deleted": 1,
        "bytes": 7,
    }
    assert document["native"] == ["csrc/a.cu"]


def test_a_refusal_names_some_and_counts_all() -> None:
    files: Files = {f"csrc/{number}.cu": "" for number in range(7)}
    native = delta.refusal(between(base(KEPT), {**KEPT, **files}), "llm-d-dev:nightly", remedy="a new base")
    assert re.fullmatch(r".*nightly.*: csrc/0\.cu, .* and 2 more \(7 in all\)", native.what)
    assert native.hint.startswith("a new base")
    assert native.exit_code == 4
    needs = delta.refusal(between(base(KEPT), {**KEPT, CPU: "new"}), "llm-d-dev:nightly", remedy="")
    assert needs.what.endswith("lacks what the commit requires: new (1 in all)")
