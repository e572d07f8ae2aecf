"""`serve`, and `logs`, `shell` and `diff` beside it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from build.engine import labels, servers
from tests.engine.conftest import commit_all
from tests.standin.image import changed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import git

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli

_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A `serve` that runs.

    Attributes:
        process: The verb.
        url: The server's address.
        key_file: The file with its API key.
        printed: What the verb printed until it served.
    """

    process: subprocess.Popen[str]
    url: str
    key_file: Path
    printed: str

    def get(self, route: str, *, key: str) -> requests.Response:
        return requests.get(self.url + route, headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def line(self, wanted: str) -> str:
        """The next line with a text."""
        assert self.process.stdout
        return next(line for line in self.process.stdout if wanted in line)


@contextlib.contextmanager
def serving(cli: Cli, image: str, *options: str) -> Iterator[Serving]:
    process = cli.start("serve", image, *options)
    try:
        assert process.stdout
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("try: curl"):
                break
        found = re.search(r"serving \S+ at (http://127\.0\.0\.1:\d+), .*\n.* key is in (\S+);", printed)
        assert found, printed + process.communicate()[1]
        yield Serving(process=process, url=found[1], key_file=Path(found[2]), printed=printed)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=_TIMEOUT_S)


def test_server_gets_further_arguments_and_variables(cli: Cli, engine: Engine, base: Image) -> None:
    given = ("--serve-arg=--max-num-seqs=8", "--env", "A_WORD=open-sesame")
    with serving(cli, base.id, *given) as server:
        (container,) = servers.running(engine, base)
        assert container.attrs["Config"]["Cmd"][-1] == "--max-num-seqs=8"
        assert "A_WORD=open-sesame" in container.attrs["Config"]["Env"]
        container.exec_run(["sh", "-c", "echo the word is $A_WORD >/proc/1/fd/1"])
        assert "the word is [redacted]" in server.line("the word is")
        # Only the verb, which the user typed, has the value among its arguments.
        suite = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        assert not any("sesame" in Path(f"/proc/{pid}/cmdline").read_text() for pid in suite)


def left(engine: Engine, image: Image) -> list[str]:
    found = engine.client.containers.list(all=True, filters={"label": f"{labels.SERVER}={image.id}"})
    return [str(each.name) for each in found]


def test_serves_on_loopback_with_a_key_of_the_users_until_ctrl_c(cli: Cli, engine: Engine, base: Image) -> None:
    with serving(cli, base.id) as server:
        key = server.key_file.read_text(encoding="utf-8").strip()
        assert stat.S_IMODE(server.key_file.stat().st_mode) == 0o600
        assert server.get("/v1/models", key=key).json()["data"]
        assert server.get("/v1/models", key="another").status_code == requests.codes.unauthorized
        assert key not in server.printed
        (container,) = servers.running(engine, base)
        assert not container.ports
        server.process.send_signal(signal.SIGINT)
        _, said = server.process.communicate(timeout=_TIMEOUT_S)
    assert server.process.returncode == 0, said
    assert left(engine, base) == []
    assert not server.key_file.exists()
    log = re.search(r"ended; its log: (\S+)", said)
    assert log
    kept = Path(log[1]).read_text(encoding="utf-8")
    assert "Starting vLLM server" in kept
    assert key not in kept
    # The last that ran here is still told of.
    assert cli("logs", base.id).stdout == kept
    # It is no test.
    assert cli("report", "--json").json == {"reports": []}


def test_log_is_followed_by_both_verbs_and_a_shell_opens_beside_it(cli: Cli, engine: Engine, base: Image) -> None:
    with serving(cli, base.id) as server:
        (container,) = servers.running(engine, base)
        container.exec_run(["sh", "-c", "echo said-by-the-server >/proc/1/fd/1"])
        assert server.line("said-by-the-server")
        follower = cli.start("logs", base.id)
        assert follower.stdout
        assert next(line for line in follower.stdout if "said-by-the-server" in line)
        follower.send_signal(signal.SIGINT)
        assert "the server keeps running" in follower.communicate(timeout=_TIMEOUT_S)[1]
        inside = shell(cli, "hostname; ls /tmp/llm-d-dev-model", base.id)
        assert "config.json" in inside.stdout, inside.stderr
        assert f"in {container.name}, which serves now" in inside.stderr


def test_shell_without_a_server_is_in_a_container_of_its_own(cli: Cli, engine: Engine, base: Image) -> None:
    ran = shell(cli, "echo $HOME; ls /sys/class/net; exit 3", base.id)
    assert (ran.returncode, ran.stdout) == (0, "/home/vllm\nlo\n"), ran.stderr
    assert left(engine, base) == []


def shell(cli: Cli, said: str, image: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "build", "shell", image]
    return subprocess.run(
        argv,
        cwd=cli.checkout,
        env=cli.environment,
        input=said,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )


def test_what_a_killed_serve_leaves_the_next_run_sweeps(cli: Cli, engine: Engine, base: Image) -> None:
    with serving(cli, base.id) as server:
        (container,) = servers.running(engine, base)
        # The program that has the container, at a moment at which it can do nothing about it.
        owner = int(re.findall(r"\d+", container.labels[labels.OWNER])[-1])
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        assert children
        for pid in (server.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        server.process.wait(_TIMEOUT_S)
        assert owner
        deadline = time.monotonic() + _TIMEOUT_S
        while any(Path("/proc", pid).exists() for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert left(engine, base) == [container.name]
        assert cli("status").returncode == 0
        assert left(engine, base) == []
        assert not server.key_file.exists()


def test_image_that_does_not_serve_says_why(cli: Cli, engine: Engine, base: Image) -> None:
    with changed(engine, base.id, ["ENV STANDIN_FAULT=missing-op"]) as broken:
        ran = cli("serve", broken)
    assert ran.returncode == 6, ran.stderr
    assert re.search(r"error\[smoke\]: .* does not serve \(undefined-symbol: .*_ZNK3c10", ran.stderr)


@pytest.mark.parametrize("verb", ["serve", "shell"])
def test_verbs_for_a_person_refuse_json(cli: Cli, base: Image, verb: str) -> None:
    ran = cli(verb, base.id, "--json")
    assert (ran.returncode, ran.json["error"]["word"]) == (2, "usage")


def test_differing_files_are_listed(cli: Cli, base: Image, clone: git.Repo) -> None:
    source = Path(clone.working_dir)
    (source / "vllm/entrypoints/serve/engine/protocol.py").write_text("DIFFERS = 1\n", encoding="utf-8")
    (source / "vllm/new.py").write_text("NEW = 1\n", encoding="utf-8")
    (source / "vllm/model_executor/models/llama.py").unlink()
    commit = commit_all(clone, "Change three files")
    made = cli("dev", clone.working_dir, "--no-smoke", "--json").json["id"]
    ran = cli("diff", base.id, made)
    assert (
        ran.stdout
        == "M vllm/entrypoints/serve/engine/protocol.py\nD vllm/model_executor/models/llama.py\nA vllm/new.py\n"
    ), ran.stderr
    back = cli("diff", made, base.id, "--json").json
    assert back["files"] == {
        "vllm/entrypoints/serve/engine/protocol.py": "modified",
        "vllm/model_executor/models/llama.py": "added",
        "vllm/new.py": "deleted",
    }
    assert back["commits"] == [commit, base.labels[labels.COMMIT]]
    assert cli("diff", made, made).stdout == ""


def test_images_that_do_not_say_what_they_hold_are_not_compared(cli: Cli, base: Image, system: Image) -> None:
    ran = cli("diff", base.id, system.id)
    assert ran.returncode == 3
    assert "cannot be compared: the image has no /opt/llm-d-dev" in ran.stderr
