"""What is laid over a base, without laying it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import re
import runpy
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from build.base.store import Base
from build.config.folders import INSIDE
from build.engine import labels
from build.errors import SourceError
from build.overlay import addition, comparison, overlay
from build.overlay.overlay import Overlay
from build.source.listing import Listing
from build.source.repository import Repository
from build.source.target import Target
from tests.unit import bases
from tests.unit.fakes import FakeEngine
from tests.unit.work import Work, git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[..., Overlay]

SOURCE = "opt/vllm-source"
COMPILED = "vllm/__pycache__/a.cpython-312.pyc"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Work:
    work = Work.new(tmp_path_factory.mktemp("template") / "vllm")
    for name in ("setup.py", "vllm/__init__.py", "vllm/a.py", "vllm/lone/old.py", "vllm/made/x.py", "tests/test_a.py"):
        work.write(name, f"# {name}\n")
    work.write("pyproject.toml", bases.PYPROJECT)
    work.commit("Base")
    work.git("tag", "base")
    return work


@pytest.fixture
def work(template: Work, tmp_path: Path) -> Work:
    return template.copied(tmp_path / "vllm")


def overlay_of_head(
    source: Repository,
    *,
    expires: str = "3d",
    installed: tuple[str, ...] = (),
    compiled: tuple[str, ...] = (),
    carried: str = "",
    **facts: Any,  # noqa: ANN401 - as Facts has them
) -> Overlay:
    """The overlay of HEAD on a base of the commit with the tag `base`, which holds no tests."""
    commit = source.commit("base")
    tree = source.listing(commit)
    held = {path: entry for path, entry in tree.files.items() if not path.startswith("tests/")}
    base = Base(
        image=FakeEngine().hold("llm-d-dev:nightly", kind="base"),
        name="llm-d-dev:nightly",
        facts=replace(bases.FACTS, commit=commit.id, made_by_build=("vllm/_C.abi3.so", "vllm/made/y.so"), **facts),
        held=Listing(files=held, trees={}),
        tree=tree,
        compiled=frozenset(compiled),
    )
    target = Target.of(source, source.commit("HEAD"))
    delta = comparison.compare(target, base, carried=frozenset(carried.split()))
    return Overlay(base=base, target=target, tag="local-x", delta=delta, expires_after=expires, installed=installed)


@pytest.fixture
def make(work: Work) -> Iterator[Make]:
    """Makes the overlay of HEAD."""
    with contextlib.closing(Repository(work.path)) as source:
        yield functools.partial(overlay_of_head, source)


def archive(
    made: Overlay, write: Callable[[IO[bytes], Overlay], None] = addition.write_addition
) -> tuple[dict[str, tarfile.TarInfo], dict[str, bytes]]:
    """Members, and contents of the files, by path."""
    stream = io.BytesIO()
    write(stream, made)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        members = {member.name: member for member in tar}
        files = {name: tar.extractfile(member) for name, member in members.items() if member.isfile()}
        return members, {name: file.read() for name, file in files.items() if file}


def test_a_new_package_that_is_carried_can_be_imported(work: Work, make: Make) -> None:
    work.write("plugin_x/__init__.py", "X = 1\n")
    work.commit()
    site = "opt/vllm/lib/python3.12/site-packages"
    for made in (make(carried="plugin_x"), make(carried="plugin_x", metadata=None)):
        for write in (addition.write, addition.write_addition):
            members, files = archive(made, write)
            assert files[f"{SOURCE}/plugin_x/__init__.py"] == b"X = 1\n"
            assert files[f"{site}/llm_d_dev_carried.pth"] == b"llm_d_dev_carried\n"
            assert members[f"{site}/llm_d_dev_carried/plugin_x"].linkname == "/opt/vllm-source/plugin_x"
    assert not any("carried" in name for name in archive(make())[0])


def test_changed_files_and_the_version_are_laid_over_and_nothing_else(work: Work, make: Make) -> None:
    work.write("vllm/a.py", "# changed\n")
    work.write("tests/test_new.py")
    commit = work.commit()
    _, files = archive(make())
    outside_git = {name for name in files if "/.git/" not in name}
    assert outside_git == {f"{SOURCE}/vllm/a.py", f"{SOURCE}/vllm/_version.py"}
    assert files[f"{SOURCE}/vllm/a.py"] == b"# changed\n"
    assert files[f"{SOURCE}/.git/HEAD"].decode().strip() == commit


def test_the_version_names_the_commit(work: Work, make: Make, tmp_path: Path) -> None:
    commit = work.commit()
    made = make()
    (tmp_path / "version.py").write_bytes(archive(made)[1][f"{SOURCE}/vllm/_version.py"])
    stated = runpy.run_path(str(tmp_path / "version.py"))
    assert stated["__version__"] == made.version == f"0.32.0+cpu.g{commit[:12]}"
    assert made.labels("llm-d-dev")[labels.VERSION] == made.version


@pytest.mark.parametrize("write", [addition.write, addition.write_addition])
def test_the_same_commit_gives_the_same_bytes(
    work: Work, make: Make, write: Callable[[IO[bytes], Overlay], None]
) -> None:
    work.write("vllm/a.py", "# changed\n")
    (work.path / "vllm/lone/old.py").unlink()
    work.commit()
    first, second = io.BytesIO(), io.BytesIO()
    write(first, make())
    write(second, make())
    assert first.getvalue() == second.getvalue()


def folders(made: Overlay) -> set[str]:
    """Folders that the archive brings, other than git's."""
    members, _ = archive(made)
    return {name.removeprefix(f"{SOURCE}/") for name, one in members.items() if one.isdir() and "/.git" not in name}


def test_folders_that_the_image_has_keep_their_owner_and_time(work: Work, make: Make) -> None:
    work.write("vllm/a.py", "# changed\n")
    work.write("vllm/new/deep/b.py")
    work.commit()
    assert folders(make()) == {"vllm/new", "vllm/new/deep"}


def test_a_folder_that_goes_with_its_last_file_is_brought_back(work: Work, make: Make) -> None:
    # Deleting old.py removes vllm/lone; vllm/made stays, because of what the build made in it.
    for name in ("vllm/lone/old.py", "vllm/made/x.py"):
        (work.path / name).unlink()
        work.write(name.replace(".py", "_new.py"))
    work.commit()
    assert folders(make()) == {"vllm/lone"}


def whiteouts(made: Overlay) -> set[str]:
    """What the layer deletes."""
    marks = (name.rpartition("/.wh.") for name in archive(made, addition.write)[0])
    return {f"{folder}/{name}".removeprefix(f"{SOURCE}/") for folder, mark, name in marks if mark}


def test_a_file_goes_with_its_bytecode_and_a_folder_with_its_last_file(work: Work, make: Make) -> None:
    for name in ("vllm/a.py", "vllm/lone/old.py", "vllm/made/x.py"):
        (work.path / name).unlink()
    work.commit()
    # What the build made keeps vllm/made. A whiteout of what is not there shows, as a file that nobody can read.
    assert whiteouts(make(compiled=(COMPILED,))) == {"vllm/a.py", COMPILED, "vllm/lone", "vllm/made/x.py"}


def test_a_file_that_becomes_a_folder_is_hidden_by_it(work: Work, make: Make) -> None:
    (work.path / "vllm/a.py").unlink()
    work.write("vllm/a.py/inner.py")
    work.commit()
    assert whiteouts(make(compiled=(COMPILED,))) == {COMPILED}


def test_a_folder_that_becomes_a_file_is_hidden_by_it(work: Work, make: Make) -> None:
    (work.path / "vllm/lone/old.py").unlink()
    (work.path / "vllm/lone").rmdir()
    work.write("vllm/lone", "a file\n")
    work.commit()
    assert whiteouts(make()) == set()


def test_a_folder_that_gets_other_files_stays(work: Work, make: Make) -> None:
    (work.path / "vllm/lone/old.py").unlink()
    work.write("vllm/lone/deep/new.py")
    work.commit()
    assert whiteouts(make(compiled=(COMPILED,))) == {"vllm/lone/old.py"}


def test_a_layer_has_every_folder_on_the_way_as_the_base_has_it(work: Work, make: Make) -> None:
    work.write("vllm/a.py", "# changed\n")
    work.commit()
    members, _ = archive(make(folders={"opt": (0o755, 0, 0), f"{SOURCE}/vllm": (0o2775, 7, 8)}), addition.write)
    found = {name: (one.mode, one.uid, one.gid) for name, one in members.items() if one.isdir()}
    assert [found[name] for name in ("opt", SOURCE, f"{SOURCE}/vllm")] == [
        (0o755, 0, 0),
        (0o775, 2000, 0),
        (0o2775, 7, 8),
    ]


@pytest.mark.parametrize("name", ["vllm/.wh.a.py", "vllm/.wh..wh..opq", "vllm/.wh.x/a.py"])
def test_a_name_that_would_delete_is_refused(work: Work, make: Make, name: str) -> None:
    work.write(name)
    work.commit()
    with pytest.raises(SourceError, match=r"a layer cannot hold a file whose name starts with \.wh\."):
        archive(make(), addition.write)


def test_owners_are_the_bases(work: Work, make: Make) -> None:
    work.write("vllm/a.py", "# changed\n")
    work.commit()
    members, _ = archive(make())
    assert {(member.uid, member.gid) for member in members.values()} == {(2000, 0)}


def test_entry_points_are_rewritten_when_they_changed(work: Work, make: Make) -> None:
    scripts = '[project]\nname = "vllm"\n[project.scripts]\nvllm-new = "vllm.new:main"\n'
    work.write("pyproject.toml", bases.PYPROJECT + scripts)
    work.commit()
    members, files = archive(make())
    assert files["opt/vllm/lib/python3.12/site-packages/vllm-0.32.0.dist-info/entry_points.txt"] == (
        b"[console_scripts]\nvllm-new = vllm.new:main\n"
    )
    assert files["opt/vllm/bin/vllm-new"].startswith(b"#!/opt/vllm/bin/python\n")
    # A process that starts others imports its program again in each of them.
    assert b'if __name__ == "__main__":\n' in files["opt/vllm/bin/vllm-new"]
    # The environment is root's, as its folder is.
    program = members["opt/vllm/bin/vllm-new"]
    assert (program.mode, program.uid, program.gid) == (0o755, 0, 0)
    assert "opt/vllm/bin" not in members
    same = make(entry_points="[console_scripts]\nvllm-new = vllm.new:main\n")
    assert not [name for name in archive(same)[1] if name.startswith("opt/vllm/")]


@pytest.mark.parametrize(
    ("target", "imported", "called"),
    [
        ("vllm.new:main", "from vllm.new import main", "main()"),
        ("vllm.new:Program.main", "from vllm.new import Program", "Program.main()"),
        ("vllm.new : main [extra]", "from vllm.new import main", "main()"),
    ],
)
def test_a_program_calls_what_it_is_declared_to(
    work: Work, make: Make, target: str, imported: str, called: str
) -> None:
    work.write("pyproject.toml", f'{bases.PYPROJECT}[project.scripts]\nvllm-new = "{target}"\n')
    work.commit()
    text = archive(make())[1]["opt/vllm/bin/vllm-new"].decode()
    compile(text, "vllm-new", "exec")
    assert imported in text.splitlines()
    assert text.rstrip().endswith(f"sys.exit({called})")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("../../../etc/cron.d/x", "a:b"),
        ("..", "a:b"),
        ("a b", "a:b"),
        ("x", "a"),
        ("x", "a:b\\nimport os"),
        ("x", "a:b()"),
    ],
)
def test_what_no_installation_makes_a_program_of_is_refused(work: Work, make: Make, name: str, target: str) -> None:
    work.write("pyproject.toml", f'{bases.PYPROJECT}[project.scripts]\n"{name}" = "{target}"\n')
    work.commit()
    with pytest.raises(SourceError, match="is not an entry point"):
        archive(make())


def test_a_program_that_is_not_declared_any_more_goes(work: Work, make: Make) -> None:
    work.write("pyproject.toml", f'{bases.PYPROJECT}[project.scripts]\nvllm = "vllm.new:main"\n')
    work.commit()
    had = "[console_scripts]\nvllm = vllm.new:main\nvllm-old = vllm.old:main\n\n[other]\nname = a:b\n"
    members, _ = archive(make(entry_points=had), addition.write)
    assert {name for name in members if name.startswith("opt/vllm/bin/.wh.")} == {"opt/vllm/bin/.wh.vllm-old"}
    members, _ = archive(make(entry_points=had, programs=()), addition.write)
    assert not [name for name in members if name.startswith("opt/vllm/bin/.wh.")]


def test_labels_say_what_it_is_on_which_base(work: Work, make: Make) -> None:
    work.write("csrc/a.cu")
    commit = work.commit()
    made = make()
    marks = made.labels("llm-d-dev")
    assert marks[labels.KIND] == "overlay"
    assert marks[labels.COMMIT] == marks[labels.OCI_REVISION] == commit
    assert marks[labels.BASE] == marks[labels.OCI_BASE_DIGEST] == made.base.image.id
    assert marks[labels.OCI_BASE_NAME] == "llm-d-dev:nightly"
    assert marks[labels.QUAY_EXPIRES] == "3d"
    assert marks[labels.NATIVE] == "1"
    assert marks[labels.REPOSITORY] == "llm-d-dev"


def test_the_fingerprint_changes_with_whatever_decides_the_image(work: Work, make: Make) -> None:
    first = make().fingerprint
    assert make().fingerprint == first
    work.write("vllm/a.py", "# changed\n")
    work.commit()
    others = {make().fingerprint, make(expires="4d").fingerprint, make(installed=("x",)).fingerprint}
    assert len(others | {first}) == 4


def test_an_image_that_is_the_overlay_already_is_found_and_nothing_that_was_made_from_it(make: Make) -> None:
    made = make()
    engine = FakeEngine()
    marks = {"kind": "overlay", "fingerprint": made.fingerprint}
    ours = engine.hold("llm-d-dev:local-x", layers=(*made.base.image.diff_ids, "own"), **marks)
    changes: list[dict[str, Any]] = [{"layers": ("edited",)}, {"env": ("A=1",)}, {"native": "0"}]
    for number, change in enumerate(changes):
        engine.commit(ours, f"scratch:{number}", **change)
    assert overlay.find(engine, made) == ours
    engine.untag("llm-d-dev:local-x")
    assert overlay.find(engine, made) is None
    engine.hold("llm-d-dev:local-y", layers=("another", "own"), **marks)
    assert overlay.find(engine, made) is None


# --- What is pinned ----------------------------------------------------------------------------------------

_AT = {f"GIT_{who}_DATE": "2026-01-02T03:04:05Z" for who in ("AUTHOR", "COMMITTER")}
_BY_DIGEST = re.compile(r"(?P<kind>pack-)[0-9a-f]{40}")


@pytest.fixture
def fixed(tmp_path: Path) -> Iterator[Overlay]:
    """An overlay of whose inputs every byte is fixed: files that are new, changed, gone and executable, programs."""
    work = Work.new(tmp_path / "vllm")

    def commit() -> None:
        work.git("add", "--all")
        work.git("commit", "--quiet", "-m", "x", env=_AT)

    for name in ("setup.py", "vllm/__init__.py", "vllm/a.py", "vllm/lone/old.py", "tests/test_a.py"):
        work.write(name, f"# {name}\n")
    work.write("pyproject.toml", bases.PYPROJECT)
    commit()
    work.git("tag", "base")
    work.write("vllm/a.py", "# changed\n")
    work.write("vllm/new/b.py", "# new\n")
    work.write("vllm/run.sh", "#!/bin/sh\n", mode=0o755)
    (work.path / "vllm/lone/old.py").unlink()
    work.write("pyproject.toml", f'{bases.PYPROJECT}[project.scripts]\nvllm-new = "vllm.new:main"\n')
    commit()
    with contextlib.closing(Repository(work.path)) as source:
        yield overlay_of_head(source, compiled=(COMPILED,))


def _described(content: bytes, folder: Path) -> Iterator[str]:
    """Everything about an archive that does not depend on the releases of git and zlib that made it."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            name = _BY_DIGEST.sub(r"\g<kind>", member.name)
            if name.endswith(".rev"):  # not every git writes one
                continue
            file = tar.extractfile(member)
            what = _content(name, file.read() if file else b"", folder)
            yield f"{name} {member.type!r} {member.mode:o} {member.uid} {member.gid} {member.mtime} {what}"


def _content(name: str, content: bytes, folder: Path) -> str:
    if name.endswith(".pack"):
        (folder / "x.pack").write_bytes(content)
        git(folder, "index-pack", "--object-format=sha1", folder / "x.pack")
        rows = git(folder, "show-index", "--object-format=sha1", stdin=(folder / "x.idx").read_bytes()).split(b"\n")
        return repr(sorted(row.split()[1] for row in rows if row))
    if name.endswith((".idx", "/index")):
        return "as git has it"
    return hashlib.sha256(content).hexdigest()


def test_what_an_overlay_holds_changes_only_together_with_its_number(
    fixed: Overlay, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """If this fails, raise FORMAT and write down the digest: overlays that are there must not be taken for the new."""
    whole, added, folder = io.BytesIO(), io.BytesIO(), tmp_path_factory.mktemp("git")
    addition.write(whole, fixed)
    addition.write_addition(added, fixed)
    parts = [
        *_described(whole.getvalue(), folder),
        *_described(added.getvalue(), folder),
        *sorted(fixed.labels("llm-d-dev")),
        *(hashlib.sha256(path.read_bytes()).hexdigest() for path in (overlay.DOCKERFILE, INSIDE / "delete.py")),
    ]
    pinned = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    assert (overlay.FORMAT, pinned) == (5, "99e07aa64e03518fab4d4fcc8f35e9e5e07af08b87cc822a6eba9e1ca788bea9"), (
        "\n".join(parts)
    )


def test_an_overlay_of_another_format_is_made_anew(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make().fingerprint
    monkeypatch.setattr(overlay, "FORMAT", overlay.FORMAT + 1)
    assert make().fingerprint != before


def test_an_overlay_does_not_depend_on_where_the_code_lies(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make().fingerprint
    monkeypatch.setattr(overlay, "DOCKERFILE", Path("/elsewhere"))
    assert make().fingerprint == before
