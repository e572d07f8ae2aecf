"""What an overlay holds, and when one is made at all."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import git
import pytest

from build.base import store as bases
from build.base.probe import probe
from build.base.store import OWN_LAYOUT
from build.cli import dev as dev_verb
from build.cli.deliver import Delivery
from build.config import settings
from build.console import Console
from build.context import Context
from build.engine import labels
from build.engine.client import Engine
from build.gate.smoke_run import SmokeOptions
from build.overlay.choice import BaseWishes
from build.source.listing import Listing
from build.source.repository import Repository
from tests.engine import changes
from tests.engine.conftest import LOCAL, assert_refused, commit_all, inside, make_cli
from tests.standin.image import another_base, changed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.engine.image import Image
    from tests.engine.changes import Change
    from tests.engine.conftest import Cli, Ran
    from tests.engine.inside import Inside

pytestmark = pytest.mark.usefixtures("base")

OWNER_FILE = Path("vllm/entrypoints/serve/engine/protocol.py")
OWNER = """
import json
from vllm.entrypoints.serve.engine.protocol import ModelCard
print(json.dumps(ModelCard("x").owned_by))
"""

USERS = {"the image's user": "", "an arbitrary user of group 0": "1234567:0"}


def dev(cli: Cli, clone: git.Repo, *words: str, **variables: str) -> Ran:
    return cli("dev", clone.working_dir, "--no-smoke", "--json", *words, **variables)


def replace(clone: git.Repo, path: Path, old: str, new: str) -> None:
    file = Path(clone.working_dir, path)
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


# --- Overlays with everything that can happen to a file ------------------------------------------------------------

# Loaded as a layer; or built, as on an engine that takes no thin images. A commit that deletes nothing takes no step
# that runs in the image then.
KINDS = {
    "loaded, with deletions": changes.ALL,
    "built, with deletions": changes.ALL,
    "built, without deletions": changes.ADDITIONS,
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def target(kind: str, vllm: Path, base: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[git.Repo]:
    """A clone with a commit that changes everything."""
    del base  # made from the source as it is before
    folder = tmp_path_factory.mktemp("target") / "vllm"
    with contextlib.closing(git.Repo.clone_from(str(vllm), folder)) as clone:
        changes.remove(folder, (change.before for change in KINDS[kind]))
        changes.write(folder, (change.after for change in KINDS[kind]))
        # Not the same commit twice: its image would be there.
        commit_all(clone, f"Change everything, {kind}")
        yield clone


@pytest.fixture(scope="module")
def made(
    engine: Engine, registry_address: str, target: git.Repo, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What `dev` says of it."""
    folder = tmp_path_factory.mktemp("made")
    if kind.startswith("built"):
        return built(engine, folder, target)
    ran = dev(make_cli(engine, registry_address, folder), target)
    assert ran.returncode == 0, ran.stderr
    document: dict[str, Any] = ran.json
    return document


def built(engine: Engine, folder: Path, target: git.Repo) -> dict[str, Any]:
    """What `dev` says where the engine takes no thin images."""
    loaded = settings.load({"state": folder / "state", "cache": folder / "cache", "repository": LOCAL})
    context = Context(settings=loaded, console=Console(quiet=True))
    with contextlib.closing(Engine(host=engine.host, origin="tests")) as other:
        vars(other)["capabilities"] = replace_fields(engine.capabilities, takes_thin_images=False)
        vars(context)["engine"] = other
        request = Delivery(
            wishes=BaseWishes(base=None, flavor="cpu", carried=frozenset()),
            allow_native=False,
            install_deps=False,
            smoke=False,
            push=False,
            force=False,
            options=SmokeOptions(),
        )
        return dev_verb.dev(context, path=Path(target.working_dir), ref="HEAD", dirty=False, request=request).document()


@pytest.fixture(scope="module")
def overlay(engine: Engine, made: dict[str, Any]) -> Image:
    return engine.image(made["id"])


@pytest.fixture(scope="module")
def shell(engine: Engine, overlay: Image) -> Iterator[Inside]:
    """A container of the overlay, without network."""
    with inside(engine, overlay) as entered:
        yield entered


@pytest.fixture(scope="module")
def found(engine: Engine, overlay: Image) -> Listing:
    """The source files that are in the overlay."""
    rows = probe(engine, overlay).files
    return Listing.parse(
        b"".join(b"%s blob %s\t%s\0" % (mode.encode(), oid.encode(), os.fsencode(path)) for path, mode, oid in rows)
    )


@pytest.mark.parametrize("change", changes.ALL, ids=lambda change: change.name)
def test_a_file_is_as_the_commit_has_it(found: Listing, kind: str, change: Change) -> None:
    wanted = change.after if change in KINDS[kind] else change.before
    for path in {file.path for file in (change.before, change.after) if file}:
        assert found.files.get(path) == (wanted.entry if wanted else None)


def test_the_image_holds_the_commit_and_what_the_build_made(
    found: Listing, target: git.Repo, engine: Engine, base: Image, tmp_path: Path
) -> None:
    source = Repository(Path(target.working_dir))
    tree = source.listing(source.commit("HEAD"))
    source.close()
    wanted = {path for path in tree.files if not path.startswith(("tests/", "docs/"))}
    assert found.files.keys() == wanted | set(bases.load(engine, base, tmp_path).facts.made_by_build)
    assert {path for path in wanted if found.files[path] != tree.files[path]} == set()


def test_a_deleted_package_cannot_be_imported(shell: Inside, kind: str) -> None:
    code, output = shell.status(str(bases.OWN_LAYOUT.python), "-B", "-c", "import vllm.gone_package")
    deletes = kind.endswith("with deletions")
    assert (code, "ModuleNotFoundError" in output) == ((1, True) if deletes else (0, False))


def test_nothing_of_what_is_deleted_shows(shell: Inside) -> None:
    """What hides a file that no layer below has would be listed, and could not be read."""
    ghosts = "find /opt/vllm-source /opt/vllm/bin -type c; find /opt/vllm-source ! -type d ! -type l ! -type f"
    assert shell.run("sh", "-c", ghosts) == ""


def test_git_knows_the_commit_and_sees_no_change(shell: Inside, target: git.Repo, kind: str) -> None:
    assert shell.git("status", "--porcelain") == ""
    assert shell.git("log", "-1", "--format=%H %s") == f"{target.head.commit.hexsha} Change everything, {kind}"


def test_git_shows_what_the_overlay_changed(shell: Inside, target: git.Repo) -> None:
    words = ("diff", "--no-renames", "--name-status", "-z")
    ours = shell.git(*words, "llm-d-dev/base")
    theirs = target.git.execute(["git", *words, "HEAD~1"], stdout_as_string=False, strip_newline_in_stdout=False)
    assert ours == os.fsdecode(theirs)
    assert "+new = 22" in shell.git("diff", "llm-d-dev/base", "--", "vllm/changed.py").splitlines()


def test_the_version_names_the_commit(shell: Inside, made: dict[str, Any], target: git.Repo) -> None:
    short = target.head.commit.hexsha[:12]
    facts = shell.python(
        "import json, vllm._version as v; print(json.dumps([v.__version__, v.__version_tuple__, v.__commit_id__]))"
    )
    assert facts == [f"0.32.0+cpu.g{short}", [0, 32, 0, f"cpu.g{short}"], f"g{short}"]
    assert made["version"] == facts[0]


def test_owner_and_permissions_are_the_bases(shell: Inside, engine: Engine, base: Image) -> None:
    format_ = ("stat", "--format=%u:%g %a")
    folder = str(OWN_LAYOUT.source / "vllm")
    with inside(engine, base) as before:
        of_folder = before.run(*format_, folder)
        of_file, of_script = (before.run(*format_, f"{folder}/{name}") for name in ("version.py", "mode_off.sh"))
    assert of_file.startswith("2000:0 66")
    added = ("added.py", "changed.py", "new/package/__init__.py", "_version.py", "mode_off.sh")
    assert {shell.run(*format_, f"{folder}/{name}") for name in added} == {of_file}
    assert {shell.run(*format_, f"{folder}/{name}") for name in ("added.sh", "mode_on.sh")} == {of_script}
    assert {shell.run(*format_, f"{folder}/{name}") for name in ("", "new", "new/package", "names")} == {of_folder}


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_people_can_work_in_it(engine: Engine, overlay: Image, user: str) -> None:
    with inside(engine, overlay) as shell:
        work(shell, user)


def work(shell: Inside, user: str) -> None:
    folder = OWN_LAYOUT.source / "vllm"
    head = shell.git("rev-parse", "HEAD", user=user)
    for path in ("changed.py", "added.py", "version.py", "new/package/more.py"):
        shell.run("sh", "-c", f"echo '# by hand' >>{folder / path}", user=user)
    shell.run("rm", str(folder / "case.py"), user=user)
    assert shell.git("status", "--porcelain", user=user).split() == [
        *("M", "vllm/added.py", "D", "vllm/case.py", "M", "vllm/changed.py"),
        *("M", "vllm/version.py", "??", "vllm/new/package/more.py"),
    ]
    shell.git("add", "--all", user=user)
    shell.git("-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "-m", "By hand", user=user)
    shell.git("reset", "--quiet", "--hard", head, user=user)
    assert shell.git("status", "--porcelain", user=user) == ""


def test_labels_say_what_it_is(overlay: Image, base: Image, target: git.Repo) -> None:
    commit = target.head.commit.hexsha
    expected = {
        labels.KIND: "overlay",
        labels.FLAVOR: "cpu",
        labels.COMMIT: commit,
        labels.BASE: base.id,
        labels.OCI_REVISION: commit,
        labels.OCI_BASE_DIGEST: base.id,
        labels.OCI_SOURCE: "https://github.com/vllm-project/vllm",
        labels.QUAY_EXPIRES: "3d",
    }
    assert {name: overlay.labels[name] for name in expected} == expected
    assert overlay.labels[labels.OCI_BASE_NAME] in base.tags
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", overlay.labels[labels.OCI_CREATED])


@pytest.mark.parametrize("key", ["User", "Entrypoint", "Cmd", "Env", "WorkingDir", "ExposedPorts"])
def test_configuration_survives(overlay: Image, base: Image, key: str) -> None:
    assert overlay.config.get(key) == base.config.get(key)


def test_labels_of_the_base_survive(overlay: Image, base: Image) -> None:
    assert base.labels.keys() <= overlay.labels.keys()


def test_history_tells_of_the_layer_and_of_those_below(engine: Engine, overlay: Image, base: Image) -> None:
    rows, below = (engine.client.images.get(image.id).history() for image in (overlay, base))
    added = rows[: len(rows) - len(below)]
    assert sum(row["Size"] for row in added) == overlay.size - base.size
    assert [(row["CreatedBy"], row["Size"]) for row in rows[len(added) :]] == [
        (row["CreatedBy"], row["Size"]) for row in below
    ]


def test_it_is_small(overlay: Image, base: Image) -> None:
    assert overlay.diff_ids[: len(base.diff_ids)] == base.diff_ids
    assert overlay.size - base.size < 200_000


# --- When one is made ------------------------------------------------------------------------------------------


def test_an_edit_of_equal_size_and_time_runs(
    cli: Cli, clone: git.Repo, engine: Engine, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(clone, OWNER_FILE, '"vllm"', '"mllv"')
    stat = ("stat", "--format=%s %Y", str(OWN_LAYOUT.source / OWNER_FILE))
    with inside(engine, base) as before:
        size_and_time = before.run(*stat)
        assert before.python(OWNER) == "vllm"
    monkeypatch.setenv("GIT_COMMITTER_DATE", f"{size_and_time.split()[1]} +0000")
    commit_all(clone, "Same size, same time")
    with inside(engine, engine.image(dev(cli, clone).json["id"])) as after:
        assert after.run(*stat) == size_and_time
        assert after.python(OWNER) == "mllv"


def test_the_same_target_is_built_once(cli: Cli, clone: git.Repo) -> None:
    commit_all(clone, "Built once")
    first, second = dev(cli, clone).json, dev(cli, clone).json
    assert (first["built"], second["built"]) == (True, False)
    assert {**second, "built": True} == first


def test_what_is_made_from_an_overlay_is_not_taken_for_it(cli: Cli, clone: git.Repo, engine: Engine) -> None:
    commit_all(clone, "Debugged")
    first = dev(cli, clone).json
    with changed(engine, first["id"], (), script="echo '# mine' >>/opt/vllm-source/vllm/version.py") as image_id:
        assert engine.image(image_id).labels[labels.FINGERPRINT]
        assert dev(cli, clone).json["id"] == first["id"]


def test_a_new_base_makes_a_new_image(cli: Cli, clone: git.Repo, engine: Engine, base: Image) -> None:
    own = f"{LOCAL}-moved"
    commit_all(clone, "Built twice")
    engine.tag(base.id, f"{own}:nightly-cpu")
    first = dev(cli, clone, LLM_D_DEV_REPOSITORY=own).json
    with another_base(engine, base.id, ["LABEL made=again"]) as image_id:
        engine.tag(image_id, f"{own}:nightly-cpu")
        second = dev(cli, clone, LLM_D_DEV_REPOSITORY=own).json
        assert (first["built"], second["built"]) == (True, True)
        made = [engine.image(document["id"]) for document in (first, second)]
        assert [image.labels[labels.BASE] for image in made] == [base.id, image_id]
        assert made[1].tags == (f"{own}:local-{second['commit']}-cpu",)
        assert made[0].tags == ()


def test_a_commit_of_the_bases_own_is_an_overlay_too(cli: Cli, clone: git.Repo, engine: Engine) -> None:
    ran = dev(cli, clone)
    assert ran.returncode == 0, ran.stderr
    made = ran.json
    assert (made["written"], made["deleted"]) == (0, 0)
    with inside(engine, engine.image(made["id"])) as entered:
        assert entered.git("status", "--porcelain") == ""
        assert entered.git("rev-parse", "HEAD") == made["commit"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("csrc/cpu/ops.cpp", "return 1", "return 2"), "native sources differ .*csrc/cpu/ops.cpp"),
        (("CMakeLists.txt", "CXX", "C CXX"), "native sources differ .*CMakeLists.txt"),
        (("pyproject.toml", "torch == 2.13.0", "torch == 2.14.0"), "native sources differ .*pyproject.toml"),
        (("requirements/common.txt", "numpy", "numpy\nnowhere-to-be-had>=1"), "lacks .*nowhere-to-be-had>=1"),
        (("requirements/common.txt", ">= 3.20.3", ">= 99"), "lacks .*filelock >= 99"),
    ],
)
def test_what_an_overlay_cannot_bring_is_refused(
    cli: Cli, clone: git.Repo, engine: Engine, edit: tuple[str, str, str], said: str
) -> None:
    path, old, new = edit
    replace(clone, Path(path), old, new)
    commit = commit_all(clone, "Too much")
    assert_refused(dev(cli, clone), 4, "incompatible", said)
    assert engine.find_image(f"{LOCAL}:local-{commit}-cpu") is None


def test_uncommitted_work_is_mentioned_in_one_line(cli: Cli, clone: git.Repo, engine: Engine) -> None:
    commit = commit_all(clone, "Committed")
    replace(clone, OWNER_FILE, '"vllm"', '"not committed"')
    Path(clone.working_dir, "vllm/not_committed.py").touch()
    ran = cli("dev", clone.working_dir, "--no-smoke")
    assert ran.returncode == 0, ran.stderr
    told = [line for line in ran.stderr.splitlines() if "uncommitted" in line]
    assert told == [f"uncommitted work in {clone.working_dir} is not in the image (--dirty takes it)"]
    with inside(engine, engine.image(f"{LOCAL}:local-{commit}-cpu")) as entered:
        assert entered.python(OWNER) == "vllm"
        assert entered.git("status", "--porcelain") == ""
