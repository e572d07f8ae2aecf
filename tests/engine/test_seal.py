"""What sealing finds out about an image, and what it adds to it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from build.base import seal, store
from build.base.probe import probe
from build.console import Console
from build.engine import labels
from build.errors import BuildError, SourceError
from build.layer import gitdir
from build.source.remotes import REMOTES
from build.source.repository import Repository
from tests.engine import faults
from tests.engine.conftest import commit_all, inside
from tests.standin.image import changed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import git

    from build.base.store import Base
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.source.repository import Commit
    from tests.engine.inside import Inside

QUIET = Console(quiet=True)
NOT_IN_IMAGES = ("tests/", "docs/")

# Every compiled module below a folder, with the flags of its header: 0 checked by time stamp, 3 by hash (PEP 552).
_BYTECODE = """
import json, pathlib
print(json.dumps({str(path): int.from_bytes(path.read_bytes()[4:8], "little")
                  for folder in ("/opt/vllm-source", "/opt/vllm")
                  for path in pathlib.Path(folder).rglob("*.pyc")}))
"""
# Every folder of bytecode, with owner, group and permissions, and those of the folder that it is in.
_PERMISSIONS = """
import json, pathlib
def of(path): return [path.stat().st_mode & 0o777, path.stat().st_uid, path.stat().st_gid]
print(json.dumps([(str(path), of(path), of(path.parent))
                  for folder in ("/opt/vllm-source", "/opt/vllm")
                  for path in pathlib.Path(folder).rglob("__pycache__")]))
"""
_IMPORTED = """
import json, sys
import vllm.entrypoints.cli.main
print(json.dumps([module.__cached__ for name, module in sys.modules.items() if name.startswith("vllm")]))
"""


@pytest.fixture(scope="module")
def source(vllm: Path) -> Iterator[Repository]:
    repository = Repository(vllm)
    yield repository
    repository.close()


@pytest.fixture(scope="module")
def commit(source: Repository) -> Commit:
    return source.commit("main")


@pytest.fixture(scope="module")
def sealed(engine: Engine, base: Image, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """What the base says of itself."""
    return store.load(engine, base, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def shell(engine: Engine, base: Image) -> Iterator[Inside]:
    """A container of the base, without network."""
    with inside(engine, base) as entered:
        yield entered


def try_to_seal(engine: Engine, image: Image, source: Repository, commit: Commit) -> str:
    return seal.seal(engine, image, flavor="cpu", source=source, commit=commit, marks={}, console=QUIET)


def test_description_names_what_the_image_holds(sealed: Base, commit: Commit) -> None:
    facts = sealed.facts
    assert (facts.flavor, facts.commit, facts.version) == ("cpu", commit.id, "0.32.0+cpu")
    assert (facts.torch, facts.cuda) == ("2.13.0+cpu", None)
    assert facts.distributions["numpy"] == "2.4.6"
    compiled = ("vllm/_C.abi3.so", "vllm/_C_AVX2.abi3.so", "vllm/_C_AVX512.abi3.so")
    assert facts.made_by_build == (*compiled, "vllm/_version.py")
    assert (facts.modified, facts.unmet) == ((), ())
    assert (facts.owner.uid, facts.owner.gid) == (2000, 0)
    assert facts.owner.file_mode & 0o060 == 0o060


def test_description_is_readable_json(shell: Inside, commit: Commit) -> None:
    assert json.loads(shell.run("cat", str(store.FACTS / "base.json")))["commit"] == commit.id


def test_listings_are_the_commits(sealed: Base, source: Repository, commit: Commit) -> None:
    tree = source.listing(commit)
    assert sealed.tree == tree
    assert sealed.held.files == {
        path: entry for path, entry in tree.files.items() if not path.startswith(NOT_IN_IMAGES)
    }


def test_labels(base: Image, commit: Commit) -> None:
    expected = {
        labels.KIND: "base",
        labels.FLAVOR: "cpu",
        labels.COMMIT: commit.id,
        labels.VERSION: "0.32.0+cpu",
        labels.OCI_REVISION: commit.id,
        labels.QUAY_EXPIRES: "14d",
    }
    assert {name: base.labels[name] for name in expected} == expected


@pytest.mark.parametrize("key", ["User", "Entrypoint", "Cmd", "Env", "WorkingDir", "ExposedPorts"])
def test_configuration_survives(base: Image, unsealed: Image, key: str) -> None:
    assert base.config.get(key) == unsealed.config.get(key)


def test_git_knows_the_commit_and_sees_no_change(shell: Inside, commit: Commit) -> None:
    assert shell.git("rev-parse", "HEAD") == commit.id
    assert shell.git("log", "-1", "--format=%s") == commit.subject
    assert shell.git("status", "--porcelain") == ""
    assert shell.git("rev-parse", gitdir.BASE_REF.removeprefix("refs/")) == commit.id


def test_git_shows_a_change_without_network(shell: Inside) -> None:
    shell.run("sh", "-c", f"echo '# more' >>{store.OWN_LAYOUT.source}/vllm/version.py")
    try:
        assert "+# more" in shell.git("diff").splitlines()
        assert shell.git("status", "--porcelain") == " M vllm/version.py"
    finally:
        shell.git("checkout", "--quiet", "--", "vllm/version.py")
    assert shell.git("diff") == ""


def test_git_has_the_remotes(shell: Inside) -> None:
    lines = {tuple(line.split()[:2]) for line in shell.git("remote", "--verbose").splitlines()}
    assert lines == set(REMOTES.items())


def test_no_bytecode_is_checked_by_time_stamp(shell: Inside) -> None:
    flags = shell.python(_BYTECODE)
    assert flags
    assert set(flags.values()) == {0b11}


def test_what_the_server_imports_is_compiled(shell: Inside) -> None:
    compiled, imported = set(shell.python(_BYTECODE)), shell.python(_IMPORTED)
    assert imported
    assert not {path for path in imported if path.startswith("/opt") and path not in compiled}


# What group 0 may not write to below a folder, or what is of another group.
_SHUT = """
import json, pathlib
found = [path for path in pathlib.Path("/opt/vllm-source").rglob("*") if not path.is_symlink()]
print(json.dumps([str(path) for path in found if path.stat().st_mode & 0o220 == 0o200 or path.stat().st_gid]))
"""


@pytest.mark.parametrize("left", ["chmod -R g-w,o= .", "chgrp -R 2000 ."])
def test_group_0_may_change_the_source_however_the_build_leaves_it(
    engine: Engine, unsealed: Image, source: Repository, commit: Commit, tmp_path: Path, *, left: str
) -> None:
    with changed(engine, unsealed.id, (), script=left) as image_id:
        made = engine.image(try_to_seal(engine, engine.image(image_id), source, commit))
    try:
        with inside(engine, made) as container:
            assert container.python(_SHUT) == []
            folder = store.OWN_LAYOUT.source / "vllm"
            script = f"cd {folder} && echo '# x' >>version.py && touch new.py && git -C .. status --short"
            assert container.run("sh", "-c", script, user="1234567:0") == " M vllm/version.py\n?? vllm/new.py\n"
        facts = store.load(engine, made, tmp_path).facts
        assert (facts.owner.file_mode & 0o660, facts.owner.folder_mode & 0o770, facts.owner.gid) == (0o660, 0o770, 0)
        inside_source = {path: marks for path, marks in facts.folders.items() if path.startswith("opt/vllm-source")}
        assert not [path for path, (mode, _, gid) in inside_source.items() if gid or mode & 0o770 != 0o770]
    finally:
        engine.discard(made)


def test_bytecode_can_be_written_by_whoever_may_edit(shell: Inside) -> None:
    folder = PurePosixPath(store.OWN_LAYOUT.source, "vllm", "__pycache__")
    shell.run("sh", "-c", f"for file in {folder}/*; do test -w $file || exit 1; done; touch {folder}/new", user="99:0")


def test_bytecode_can_be_written_by_nobody_else(shell: Inside) -> None:
    caches = shell.python(_PERMISSIONS)
    assert caches
    assert [folder for folder, own, around in caches if own != around] == []


def test_a_commit_that_the_image_does_not_hold_is_refused(engine: Engine, unsealed: Image, clone: git.Repo) -> None:
    Path(clone.working_dir, "vllm/version.py").write_text("other = 1\n", encoding="utf-8")
    commit_all(clone, "Something else")
    other = Repository(Path(clone.working_dir))
    with (
        contextlib.closing(other),
        pytest.raises(SourceError, match=r"does not hold .*: 1 files .*vllm/version\.py") as refused,
    ):
        try_to_seal(engine, unsealed, other, other.commit("HEAD"))
    assert refused.value.exit_code == 3


def test_an_image_without_vllm_is_refused(engine: Engine, system: Image, source: Repository, commit: Commit) -> None:
    with pytest.raises(SourceError, match="has no") as refused:
        try_to_seal(engine, system, source, commit)
    assert refused.value.exit_code == 3


# Stands before the image's Python and does one thing more or less.
_WRAPPER = """
cd /opt/vllm/bin && mv python python.real && printf '%s\\n' '#!/bin/sh' "$WORDS" \
    'exec -a /opt/vllm/bin/python /opt/vllm/bin/python.real "$@"' >python && sed -i 's,/bin/sh,/bin/bash,' python
chmod 755 python
"""


def test_a_base_without_its_bytecode_is_not_made(
    engine: Engine, unsealed: Image, source: Repository, commit: Commit
) -> None:
    fails = "WORDS='case $1 in *bytecode.py) exit 3;; esac'" + _WRAPPER
    with changed(engine, unsealed.id, (), script=fails) as image_id, pytest.raises(BuildError) as refused:
        try_to_seal(engine, engine.image(image_id), source, commit)
    assert refused.value.exit_code == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("case $1 in -I) echo [{}, {}]; exit 0;; esac", "printed unexpected output"),
        ("case $1 in -I) echo no JSON; exit 0;; esac", "ended before it was done"),
        ("case $1 in -I) printf [%080000000d 0; exit 0;; esac", "printed unexpected output"),
    ],
)
def test_what_an_image_says_of_itself_is_checked(engine: Engine, unsealed: Image, words: str, said: str) -> None:
    with (
        changed(engine, unsealed.id, (), script=f"WORDS='{words}'{_WRAPPER}") as image_id,
        pytest.raises(BuildError, match=said),
    ):
        probe(engine, engine.image(image_id))


def test_what_an_image_starts_does_not_say_what_it_holds(
    engine: Engine, unsealed: Image, source: Repository, commit: Commit
) -> None:
    sound = probe(engine, unsealed).model_dump(mode="json")
    said = [("files", sound), ("vllm", f"{store.OWN_LAYOUT.source}/vllm")]
    forged = faults.STARTED + faults.forging("started.py", "def package_folders", said)
    script = f"echo '# altered' >>vllm/version.py; {forged}"
    with (
        changed(engine, unsealed.id, (), script=script) as image_id,
        pytest.raises(BuildError, match="ended with status 1"),
    ):
        try_to_seal(engine, engine.image(image_id), source, commit)


def test_an_image_that_prints_before_it_answers_is_understood(
    engine: Engine, unsealed: Image, source: Repository, commit: Commit
) -> None:
    with changed(engine, unsealed.id, (), script=f"WORDS='echo welcome'{_WRAPPER}") as image_id:
        made = try_to_seal(engine, engine.image(image_id), source, commit)
    engine.discard(engine.image(made))


def test_what_is_made_from_a_base_is_no_base(engine: Engine, base: Image, tmp_path: Path) -> None:
    with (
        changed(engine, base.id, (), script=f"echo '# mine' >>{store.OWN_LAYOUT.source}/vllm/version.py") as image_id,
        pytest.raises(SourceError, match="was made from an image of this tool"),
    ):
        store.load(engine, engine.image(image_id), tmp_path)


def test_its_bytecode_is_listed(sealed: Base, shell: Inside) -> None:
    there = {path.removeprefix(f"{store.OWN_LAYOUT.source}/") for path in shell.python(_BYTECODE)}
    assert sealed.compiled == {path for path in there if not path.startswith("/")}
    assert sealed.compiled
