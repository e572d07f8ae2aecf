"""The table of what exists: what it calls an image, the other verbs accept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.engine.conftest import LOCAL, commit_all

if TYPE_CHECKING:
    import git

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli


def row_of(cli: Cli, image_id: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = cli("status", "--json").json["images"]
    return next(row for row in rows if row["id"] == image_id)


def overlay(cli: Cli, clone: git.Repo, base: str) -> str:
    ran = cli("dev", clone.working_dir, "--base", base, "--no-smoke", "--json")
    assert ran.returncode == 0, ran.stderr
    return str(ran.json["id"])


def test_names_are_whole_and_accepted(cli: Cli, engine: Engine, base: Image, clone: git.Repo) -> None:
    Path(clone.working_dir, "vllm/envs.py").write_text("STATUS = 1\n", encoding="utf-8")
    commit_all(clone, "A change")
    made = overlay(cli, clone, row_of(cli, base.id)["name"])
    cli.pass_smoke(engine.image(made))
    row = row_of(cli, made)
    assert 0 < row["layer_bytes"] < 1_000_000 < row["bytes"]
    words = cli("status", COLUMNS="40").stdout.split()
    assert row["name"] in words
    assert cli("push", row["name"]).returncode == 0
    # Only the registry's name is left.
    engine.untag(row["name"])
    pushed = row_of(cli, made)["name"]
    assert pushed.startswith(cli.repository)
    assert cli("push", pushed).returncode == 0


def test_an_unnamed_image_is_called_by_its_id(cli: Cli, engine: Engine, base: Image, clone: git.Repo) -> None:
    Path(clone.working_dir, "vllm/envs.py").write_text("STATUS = 2\n", encoding="utf-8")
    commit_all(clone, "Another change")
    made = overlay(cli, clone, base.id)
    (name,) = engine.image(made).tags
    # A name that moves on leaves the image without one.
    engine.tag(base.id, name)
    engine.untag(name)
    called = row_of(cli, made)["name"]
    assert called == made.removeprefix("sha256:")[:12]
    assert called in cli("status").stdout.split()
    ran = cli("push", called, "--json")
    # It is found, and has not been tested.
    assert (ran.returncode, ran.json["error"]["word"]) == (7, "gate")
    assert name.startswith(LOCAL)
