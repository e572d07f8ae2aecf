"""Which commits can become images, and what stands in the way of the others."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from build.base.store import BaseContents
from build.cli.checkout import local
from build.console import Console
from build.errors import SourceError
from build.overlay import comparison, delta
from build.overlay.preview import plan_on_commit
from build.source.repository import Repository
from build.source.target import Target
from tests.unit import bases
from tests.unit.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.overlay.delta import Delta

NOTHING: frozenset[str] = frozenset()

BUILD = "requirements/build/cpu.txt"

TREE = {
    "vllm/__init__.py": "",
    "vllm/a.py": "a\n",
    "csrc/a.cu": "int a;\n",
    "setup.py": "# one\n",
    "tests/a.py": "",
    "pyproject.toml": bases.PYPROJECT,
    "requirements/cpu.txt": "numpy\ntorch==2.13.0\n",
    BUILD: "# What the build takes.\ncmake>=3.26\ntorch==2.13.0\ntorchvision==0.27.0  # beside it\nwheel\n",
}


@pytest.fixture
def vllm(work: Work) -> Work:
    """A tree of vLLM's shape."""
    for name, text in TREE.items():
        work.write(name, text)
    work.commit()
    work.git("tag", "base")
    return work


@pytest.fixture
def source(vllm: Work) -> Iterator[Repository]:
    with contextlib.closing(Repository(vllm.path)) as source:
        yield source


def base_of(source: Repository, ref: str = "base") -> BaseContents:
    commit = source.commit(ref)
    tree = source.listing(commit)
    held = {path: entry for path, entry in tree.files.items() if not path.startswith("tests/")}
    return BaseContents(
        facts=replace(bases.FACTS, commit=commit.id), held=replace(tree, files=held, trees={}), tree=tree
    )


def change(vllm: Work, source: Repository, files: dict[str, str], *carried: str) -> tuple[Target, Delta]:
    for name, text in files.items():
        vllm.write(name, text)
    target = Target.of(source, source.commit(vllm.commit()))
    return target, comparison.compare(target, base_of(source), carried=frozenset(carried))


def planned(path: Path, ref: str = "HEAD", *, dirty: bool = False, with_: str = "") -> list[str]:
    """What ``plan`` prints."""
    carried = frozenset(with_.split())
    with local(path, ref, dirty=dirty, carried=carried, console=Console(quiet=True)) as (target, _):
        return plan_on_commit(target, "base", flavor="cpu", carried=carried).lines()


# --- Whose tree it is --------------------------------------------------------------------------------------


def test_a_repository_that_is_not_vllm_is_refused_as_that(tmp_path: Path) -> None:
    other = Work.new(tmp_path / "other")
    other.write("setup.py", "x")
    other.commit()
    for dirty in (False, True):
        with (
            pytest.raises(SourceError, match=r"other is not a vLLM tree at \w+: it has no vllm/__init__\.py") as caught,
            local(other.path, "HEAD", dirty=dirty, carried=NOTHING, console=Console(quiet=True)),
        ):
            pass
        assert caught.value.exit_code == 3


def test_another_project_with_a_package_of_that_name_is_refused_as_that(source: Repository, tmp_path: Path) -> None:
    other = Work.new(tmp_path / "other")
    other.write("vllm/__init__.py")
    other.write("pyproject.toml", bases.PYPROJECT)
    other.commit()
    with contextlib.closing(Repository(other.path)) as found:
        target = Target.of(found, found.commit("HEAD"))
        with pytest.raises(SourceError, match="vLLM's native sources are missing") as caught:
            comparison.compare(target, base_of(source))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("kept", [("setup.py",), ("setup.py", BUILD, "CMakeLists.txt")])
def test_a_fork_without_the_folders_of_native_sources_is_refused_as_that(
    vllm: Work, source: Repository, kept: tuple[str, ...]
) -> None:
    vllm.write("CMakeLists.txt")
    vllm.commit()
    vllm.git("tag", "--force", "base")
    vllm.git("rm", "-r", "--quiet", *({"csrc", "setup.py", BUILD, "CMakeLists.txt"} - set(kept)))
    with pytest.raises(SourceError, match=r"the folders of vLLM's native sources are missing \(csrc\)") as caught:
        change(vllm, source, {})
    assert caught.value.exit_code == 3


def test_a_commit_that_moves_many_native_files_is_still_vllm(vllm: Work, source: Repository) -> None:
    vllm.git("mv", "csrc/a.cu", "csrc/b.cu")
    assert change(vllm, source, {})[1].native == ("csrc/a.cu", "csrc/b.cu")


# --- What is not carried -----------------------------------------------------------------------------------


def test_a_plan_names_the_submodules_that_a_commit_adds(vllm: Work, tmp_path: Path) -> None:
    other = Work.new(tmp_path / "ext")
    other.commit(a="x")
    vllm.git("submodule", "add", "--quiet", str(other.path), "vllm/third_party/my_ext")
    vllm.commit()
    assert "not carried: .gitmodules (1 changed), vllm/third_party/my_ext (a submodule)" in planned(vllm.path)
    vllm.git("tag", "--force", "base")
    assert planned(vllm.path)[1] == "0 files to write (0.0 kB), 0 to delete"


def test_a_plan_names_what_of_a_working_tree_is_not_read(vllm: Work) -> None:
    vllm.git("update-index", "--skip-worktree", "vllm/a.py")
    vllm.write("vllm/a.py", "mine\n")
    vllm.write("checkpoints/model.pt", "x")
    vllm.write("tests/a.py", "edited")
    Work.new(vllm.path / "vllm/my_ext").commit(x="x")
    (text,) = [line for line in planned(vllm.path, dirty=True) if line.startswith("not carried: ")]
    assert text == (
        "not carried: checkpoints (1 changed), tests (1 changed), vllm/a.py (marked skip-worktree; "
        "`git update-index --no-skip-worktree vllm/a.py` takes it), vllm/my_ext (a repository of its own)"
    )


# --- PyTorch -----------------------------------------------------------------------------------------------


def test_lines_for_torch_that_were_only_removed_are_not_native(vllm: Work, source: Repository) -> None:
    # As tools/use_existing_torch.py does it.
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["wheel"]\n',
        BUILD: "# What the build takes.\ncmake>=3.26\nwheel\n",
        "requirements/cpu.txt": "numpy\n",
    }
    _, found = change(vllm, source, files)
    assert (found.native, found.dependencies) == ((), ())


@pytest.mark.parametrize(
    "text",
    [
        "cmake>=3.26\ntorch==2.14.0\ntorchvision==0.27.0\nwheel\n",
        "torch==2.13.0\ntorchvision==0.27.0\nwheel\n",
        "cmake>=3.27\nwheel\n",
        "cmake>=3.26\nwheel\nninja\n",
        "cmake>=3.26\nwheel\ntorch\n",
        "wheel\ncmake>=3.26\n",
    ],
    ids=["another", "cmake-gone", "cmake-newer", "ninja-new", "moved", "other-order"],
)
def test_any_other_change_of_what_the_build_takes_is_native(vllm: Work, source: Repository, text: str) -> None:
    assert change(vllm, source, {BUILD: text})[1].native == (BUILD,)


# --- Refusals ----------------------------------------------------------------------------------------------


def test_a_refusal_says_that_only_comments_differ(vllm: Work, source: Repository) -> None:
    target, found = change(vllm, source, {"csrc/a.cu": "int a;  // counted\n", "setup.py": "# two\n"})
    assert found.native == ("csrc/a.cu", "setup.py")
    comments = comparison.comment_changes(target, base_of(source), found.native)
    refused = delta.refusal(found, "nightly", remedy="a new base", only_comments=comments)
    assert "csrc/a.cu (only in comments), setup.py (only in comments)" in refused.what
    assert refused.hint == "only comments differ, so the base's binaries do the same: --allow-native makes the overlay"


def test_a_plan_says_it_too(vllm: Work) -> None:
    vllm.write("csrc/a.cu", "int a;  // counted\n")
    vllm.commit()
    lines = planned(vllm.path)
    assert "native: csrc/a.cu (only in comments)" in lines
    assert lines[-1].startswith("only comments differ")
    vllm.write("vllm/_version.py")
    vllm.commit()
    assert "`git rm --cached vllm/_version.py`" in planned(vllm.path)[-1]


def test_a_refusal_with_other_changes_too_does_not(vllm: Work, source: Repository) -> None:
    target, found = change(vllm, source, {"csrc/a.cu": "int b;\n", "setup.py": "# two\n"})
    comments = comparison.comment_changes(target, base_of(source), found.native)
    refused = delta.refusal(found, "nightly", remedy="a new base", only_comments=comments)
    assert "csrc/a.cu, setup.py (only in comments)" in refused.what
    assert refused.hint.startswith("a new base; ")


def test_a_tracked_file_of_the_builds_gets_a_hint_that_helps(vllm: Work, source: Repository) -> None:
    _, found = change(vllm, source, {"vllm/_version.py": "__version__ = '1'\n"})
    refused = delta.refusal(found, "nightly", remedy="a new base")
    assert "vllm/_version.py" in refused.what
    assert "`git rm --cached vllm/_version.py`" in refused.hint
    assert "a new base" not in refused.hint


# --- New packages ------------------------------------------------------------------------------------------


def test_a_new_package_that_is_carried_is_known_as_that(vllm: Work, source: Repository) -> None:
    files = {"plugin_x/__init__.py": "", "one_y.py": "", "data-z/x.py": "", "notes/a.md": ""}
    _, found = change(vllm, source, files, "plugin_x", "one_y.py", "data-z", "notes", "tests")
    assert found.packages == ("one_y.py", "plugin_x")
    assert change(vllm, source, {})[1].packages == ()


@pytest.mark.parametrize("name", ["numpy", "json"])
def test_a_new_package_that_python_would_not_import_is_refused(vllm: Work, source: Repository, name: str) -> None:
    with pytest.raises(SourceError, match=f"--with {name}: the image has another Python package {name}"):
        change(vllm, source, {f"{name}/__init__.py": ""}, name)


def test_a_plan_without_a_base_says_that_it_cannot_tell_what_is_imported(vllm: Work) -> None:
    vllm.write("six.py")
    vllm.write("plugin_x/__init__.py")
    vllm.commit()
    lines = planned(vllm.path, with_="six.py plugin_x tests")
    told = [line for line in lines if line.startswith("not checked: whether Python imports ")]
    assert [line.split()[5].rstrip(",") for line in told] == ["plugin_x", "six.py"]
    vllm.write("numpy.py")
    vllm.commit()
    with pytest.raises(SourceError, match="the image has another Python package numpy"):
        planned(vllm.path, with_="numpy.py")
