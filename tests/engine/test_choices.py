"""What `dev` does when it is told more than a ref: uncommitted work, native changes, requirements, more folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.engine import labels
from smoke.image.contents import Contents
from tests.engine.conftest import LOCAL, commit_all
from tests.standin.image import changed

if TYPE_CHECKING:
    import git

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli, Ran

pytestmark = pytest.mark.usefixtures("base")


def dev(cli: Cli, clone: git.Repo, *words: str) -> Ran:
    return cli("dev", clone.working_dir, "--no-smoke", "--json", *words)


def inside(engine: Engine, image: str, command: str) -> str:
    output = engine.client.containers.run(
        image, entrypoint=["sh", "-c", command], working_dir="/opt/vllm-source", network_mode="none", remove=True
    )
    return output.decode().strip()


def append(clone: git.Repo, path: str, text: str) -> None:
    with (Path(clone.working_dir) / path).open("a", encoding="utf-8") as file:
        file.write(text)


def test_uncommitted_work_is_taken_when_asked_for(cli: Cli, clone: git.Repo, engine: Engine) -> None:
    append(clone, "vllm/version.py", "# edited\n")
    (Path(clone.working_dir) / "vllm/new.py").write_text("x = 1\n")
    (Path(clone.working_dir) / "vllm/py.typed").unlink()
    head = clone.head.commit.hexsha
    made = dev(cli, clone, "--dirty").json
    assert made["image"].startswith(f"{LOCAL}:local-{head}-dirty-")
    assert (made["written"], made["deleted"]) == (2, 1)
    assert inside(engine, made["id"], "git status --porcelain; tail -1 vllm/version.py; cat vllm/new.py") == (
        "# edited\nx = 1"
    )
    assert dev(cli, clone, "--dirty").json["id"] == made["id"]


def test_a_native_change_is_made_only_when_allowed_and_then_pushed_only_when_allowed(
    cli: Cli, clone: git.Repo, engine: Engine
) -> None:
    append(clone, "csrc/cpu/ops.cpp", "// changed\n")
    commit_all(clone, "Change an operator")
    refused = dev(cli, clone)
    assert refused.returncode == 4
    assert "csrc/cpu/ops.cpp" in refused.stderr
    made = dev(cli, clone, "--allow-native")
    assert made.json["native"] == ["csrc/cpu/ops.cpp"]
    image = engine.image(made.json["id"])
    assert image.labels[labels.NATIVE] == "1"
    cli.pass_smoke(image)
    held_back = cli("push", image.name)
    assert held_back.returncode == 7
    assert "--allow-native" in held_back.stderr
    assert f"push --allow-native {image.name}`" in cli("dev", clone.working_dir, "--allow-native").stderr
    assert cli("push", image.name, "--allow-native", "--json").json["pushed"]


def test_a_missing_requirement_is_refused_or_installed(cli: Cli, clone: git.Repo, engine: Engine, base: Image) -> None:
    append(clone, "requirements/common.txt", "six >= 1.16\nnot-for-us; python_version < '3'\n")
    commit_all(clone, "Require six")
    refused = dev(cli, clone)
    assert refused.returncode == 4
    assert "six" in refused.stderr
    assert "--install-deps" in refused.stderr
    made = dev(cli, clone, "--install-deps")
    assert made.returncode == 0, made.stderr
    assert made.json["installed"] == ["six >= 1.16"]
    assert inside(engine, made.json["id"], "/opt/vllm/bin/python -c 'import six; print(six.__name__)'") == "six"
    image = engine.image(made.json["id"])
    assert image.config["User"] == base.config["User"]
    assert len(image.diff_ids) == len(base.diff_ids) + 2


def test_a_folder_that_the_base_lacks_is_carried_when_asked_for(cli: Cli, clone: git.Repo, engine: Engine) -> None:
    append(clone, "tests/test_nothing.py", "# changed\n")
    commit_all(clone, "Change a test")
    without = dev(cli, clone).json
    assert without["written"] == 0
    made = dev(cli, clone, "--base", "auto", "--flavor", "cpu", "--with", "tests/").json
    assert made["written"] == 1
    assert inside(engine, made["id"], "git status --porcelain; tail -1 tests/test_nothing.py") == "# changed"
    assert Contents.read(engine, engine.image(made["id"])).wrong == ()
    with changed(engine, made["id"], (), script="echo '# altered' >>tests/test_nothing.py") as altered:
        assert Contents.read(engine, engine.image(altered)).wrong == ("tests/test_nothing.py",)


def test_a_new_package_that_is_carried_can_be_imported(cli: Cli, clone: git.Repo, engine: Engine) -> None:
    folder = Path(clone.working_dir, "plugin_x")
    folder.mkdir()
    (folder / "__init__.py").write_text("X = 'carried'\n")
    commit_all(clone, "A package beside vLLM")
    made = dev(cli, clone, "--with", "plugin_x").json
    script = "import plugin_x, vllm; print(plugin_x.X, plugin_x.__file__)"
    shown = inside(engine, made["id"], f"cd / && /opt/vllm/bin/python -c '{script}'")
    assert shown.startswith("carried ")
    assert inside(engine, made["id"], "git status --porcelain") == ""
    assert Contents.read(engine, engine.image(made["id"])).wrong == ()


def test_changed_entry_points_are_those_of_an_installation(cli: Cli, clone: git.Repo, engine: Engine) -> None:
    file = Path(clone.working_dir) / "pyproject.toml"
    script = 'vllm = "vllm.entrypoints.cli.main:main"\n'
    changed = file.read_text().replace(script, script + 'vllm-version = "vllm.version:show"\n')
    file.write_text(changed + '\n[project.entry-points."vllm.general_plugins"]\nmine = "vllm.version:show"\n')
    append(clone, "vllm/version.py", "\n\ndef show():\n    print('shown', __version__)\n")
    commit_all(clone, "Add a program and a plugin")
    made = dev(cli, clone).json
    assert inside(engine, made["id"], "vllm-version").startswith("shown 0.32.0+cpu.g")
    code = "from importlib.metadata import entry_points as e; print([p.name for p in e(group='vllm.general_plugins')])"
    assert inside(engine, made["id"], f'/opt/vllm/bin/python -c "{code}"') == "['mine']"


def test_a_plan_on_a_commit_needs_no_engine(cli: Cli, clone: git.Repo) -> None:
    append(clone, "vllm/version.py", "# edited\n")
    append(clone, "requirements/common.txt", "six >= 1.16\n")
    commit_all(clone, "Edit")
    ran = cli("plan", clone.working_dir, "--base-commit", "HEAD~1", "--json", DOCKER_HOST="tcp://127.0.0.1:1")
    assert ran.json["verdict"] == "dependencies"
    assert ran.json["dependencies"] == ["six >= 1.16"]
    assert ran.json["written"] == 2
    assert ran.json["base"] == clone.commit("HEAD~1").hexsha
