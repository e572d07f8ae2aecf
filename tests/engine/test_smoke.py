"""The smoke suite against images that are broken in one way each, on a real engine."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import docker.errors
import git
import pytest

from build.config.folders import Folders
from build.engine import labels, leftovers
from build.gate import fingerprints, verdict
from build.gate.verdict import Verdict
from build.host import identity
from smoke.server import tiny_model
from smoke.suite import recorded
from tests.engine.conftest import commit_all, make_cli
from tests.engine.faults import BATCHES, FAULTS, GONE, MADE_NUMBERS, OWNER, SHIFTED, Fault
from tests.engine.test_api_contract import ALONE, HARMLESS, ROWS
from tests.standin import faults, trial
from tests.standin.image import changed
from tests.standin.verdicts import numbers_on, passing

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from docker.models.containers import Container

    from build.engine.client import Engine
    from build.engine.image import Image
    from tests.engine.conftest import Cli
    from tests.standin.trial import Outcome

_APPEARS_S = 120.0
_ANY_USER = {"any_user/health", "any_user/completion", "any_user/dead_engine"}
EXIT_STATUS = {"pass": 0, "fail": 1, "inconclusive": 8}


class Ground:
    """What faults are made on: sound images, and a repository whose commits become overlays.

    Args:
        engine: Where.
        cli: Makes overlays.
        clone: The repository.
    """

    def __init__(self, engine: Engine, cli: Cli, clone: git.Repo) -> None:
        self._engine = engine
        self._cli = cli
        self._clone = clone
        self.images: dict[str, str] = {}

    @property
    def variables(self) -> dict[str, str]:
        """Variables of a run of the suite that knows of the base's pass."""
        return {"LLM_D_DEV_STATE": str(self._cli.folders.state)}

    def overlay(self, edits: Mapping[str, str]) -> str:
        """An overlay of the repository's commit with edits, which are not kept; returns the image ID."""
        before = self._clone.git.rev_parse("HEAD")
        self.commit(edits)
        made = self._cli("dev", self._clone.working_dir, "--no-smoke", "--json")
        self._clone.git.reset("--hard", "--quiet", before)
        assert made.returncode == 0, made.stderr
        return str(made.json["id"])

    def commit(self, edits: Mapping[str, str]) -> None:
        """Commit texts by path, empty for files to delete."""
        for path, text in edits.items():
            file = Path(self._clone.working_dir, path)
            if text:
                file.write_text(text, encoding="utf-8")
            else:
                file.unlink()
        commit_all(self._clone, "Edited")
        self._clone.git.clear_cache()

    @contextlib.contextmanager
    def broken(self, batch: Sequence[Fault]) -> Iterator[str]:
        """An image with a fault, or several of the server, while the block runs."""
        fault = batch[0]
        if len(batch) > 1:
            names = ",".join(one.name for one in batch)
            fault = replace(fault, changes=(f"ENV STANDIN_FAULT={names}",))
        image_id = self.overlay(fault.edits) if fault.edits else self.images[fault.on]
        if not fault.script and not fault.changes:
            yield image_id
            return
        with contextlib.ExitStack() as made:
            broken = made.enter_context(changed(self._engine, image_id, fault.changes, script=fault.script))
            if fault.later:
                broken = made.enter_context(changed(self._engine, broken, (), script=fault.later))
            yield broken


@pytest.fixture(scope="session")
def ground(  # noqa: PLR0917 - fixtures come by name
    engine: Engine,
    registry_address: str,
    base: Image,
    standin: str,
    vllm: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("ground")
    with contextlib.closing(git.Repo.clone_from(str(vllm), folder / "vllm")) as clone:
        cli = make_cli(engine, registry_address, folder)
        made = Ground(engine, cli, clone)
        owner_text = (folder / "vllm" / OWNER).read_text(encoding="utf-8").replace('"vllm"', '"somebody-else"')
        made.commit({OWNER: owner_text, GONE: "", "tools/check.sh": "#!/bin/sh\nexit 1\n"})
        cli.pass_smoke(base)
        made.images |= {"foreign": standin, "base": base.id, "overlay": made.overlay({})}
        yield made


@pytest.fixture(scope="session")
def sound(engine: Engine, ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run on an overlay of the stand-in with nothing broken."""
    folder = tmp_path_factory.mktemp("sound")
    expect = '/v1/models="owned_by": "somebody-else"'
    options = ("--any-user", "--expect", expect)
    return trial.run(engine, ground.images["overlay"], folder, *options, **ground.variables)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A run of the suite on an image with one fault, or several of its server."""

    batch: Sequence[Fault]
    outcome: Outcome


@pytest.fixture(scope="session")
def tried(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tried]:
    """Tries a fault, once."""

    @functools.cache
    def run(first: str) -> Tried:
        batch, folder = BATCHES[first], tmp_path_factory.mktemp(first)
        if batch[0].on == "server":
            return Tried(batch=batch, outcome=_served(batch, folder))
        engine, ground = request.getfixturevalue("engine"), request.getfixturevalue("ground")
        with ground.broken(batch) as image_id:
            outcome = trial.run(engine, image_id, folder, *batch[0].options, **ground.variables)
        return Tried(batch=batch, outcome=outcome)

    return lambda name: run(BATCHES[name][0].name)


def _served(batch: Sequence[Fault], folder: Path) -> Outcome:
    """A run on a server without an image that has these faults."""
    names = ",".join(one.name for one in batch if one.name in faults.RUNNING)
    with trial.serving(folder / "vllm", names) as url:
        return trial.run_url(url, folder / "report", *batch[0].options, VLLM_API_KEY=trial.KEY)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found_and_named(tried: Callable[[str], Tried], fault: str) -> None:
    run, expected = tried(fault), FAULTS[fault]
    outcome = run.outcome
    report = outcome.report
    assert (report["result"], report["cause"]) == (expected.result, expected.cause), outcome.text
    assert outcome.status == EXIT_STATUS[expected.result]
    # No check is failed by two faults of a run.
    assert outcome.named("failed") == {check for one in run.batch for check in one.failed}
    assert report["advice"]
    # A verdict is about an image.
    assert (outcome.verdict is None) == (expected.result == "inconclusive" or expected.on == "server")
    assert not outcome.left


def test_every_check_is_failed_by_some_fault(sound: Outcome) -> None:
    of_contract = {name for row in (*ROWS, *ALONE) for way in row.ways for name in row.checks(way)}
    failed = {name.partition("[")[0] for name in of_contract.union(*(fault.failed for fault in FAULTS.values()))}
    checks = {check["name"].partition("[")[0] for check in sound.report["checks"]}
    # Those of a GPU have their faults in test_gpus.py.
    assert {name for name in checks if not name.startswith("gpu/")} == failed


def test_every_fault_of_the_standin_is_tried() -> None:
    assert {*faults.AT_START, *faults.RUNNING} <= {
        HARMLESS,
        *FAULTS,
        *",".join(row.fault for row in (*ROWS, *ALONE)).split(","),
    }


def test_sound_image_passes_every_check(sound: Outcome) -> None:
    assert sound.status == 0, sound.text
    assert sound.report["result"] == "pass"
    assert {check["outcome"] for check in sound.report["checks"] if not check["name"].startswith("gpu/")} == {"passed"}
    assert all(check["contract"].endswith(".") for check in sound.report["checks"])
    assert sound.report["figures"]["healthy_s"] > 0
    assert not sound.left


@pytest.mark.soak
@pytest.mark.parametrize("time", range(10))
def test_sound_image_passes_time_and_again(engine: Engine, ground: Ground, tmp_path: Path, time: int) -> None:
    outcome = trial.run(engine, ground.images["overlay"], tmp_path, **ground.variables)
    assert outcome.status == 0, (time, outcome.text)


def test_base_is_also_started_as_an_arbitrary_user(engine: Engine, ground: Ground, tmp_path: Path) -> None:
    outcome = trial.run(engine, ground.images["base"], tmp_path)
    assert outcome.status == 0, outcome.text
    assert outcome.named("passed") >= _ANY_USER
    assert outcome.report["figures"]["any_user_healthy_s"] > 0
    for log in ("server.log", "server-any-user.log"):
        assert "Starting vLLM server" in (tmp_path / log).read_text(encoding="utf-8")
    assert "any user healthy" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not outcome.left
    assert outcome.verdict is not None
    kept = Verdict.parse(outcome.verdict).configuration
    assert kept["record"] == recorded.entry(numbers_on(engine.host))["record"]


def test_numbers_that_are_changed_on_purpose_pass_and_are_kept(engine: Engine, ground: Ground, tmp_path: Path) -> None:
    other = ground.overlay({MADE_NUMBERS: SHIFTED})
    outcome = trial.run(engine, other, tmp_path, "--numbers", "changed", **ground.variables)
    assert outcome.status == 0, outcome.text
    assert outcome.verdict is not None
    found = Verdict.parse(outcome.verdict)
    assert found.changes_numbers
    told = found.configuration["numbers"]
    assert re.fullmatch(r"changed: prompt of .*: token \d .*, log-probabilities 0\.01 apart", told)
    assert told in [check["message"] for check in outcome.report["checks"] if check["name"] == "numbers/as_base"]
    assert told in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_numbers_are_not_compared_without_a_base_that_passed(engine: Engine, ground: Ground, tmp_path: Path) -> None:
    other = ground.overlay({MADE_NUMBERS: SHIFTED})
    outcome = trial.run(engine, other, tmp_path, LLM_D_DEV_STATE=str(tmp_path))
    assert outcome.status == 0, outcome.text
    assert outcome.verdict is not None
    assert Verdict.parse(outcome.verdict).configuration["numbers"].startswith("not compared: ")


@pytest.mark.parametrize("kind", ["overlay", "foreign"])
def test_other_image_is_not_unless_asked(engine: Engine, ground: Ground, tmp_path: Path, kind: str) -> None:
    outcome = trial.run(engine, ground.images[kind], tmp_path, **ground.variables)
    assert outcome.status == 0, outcome.text
    assert outcome.named("skipped") >= _ANY_USER
    assert "not applicable: no base" in outcome.text
    assert outcome.verdict is not None
    assert "any_user_healthy_s" not in outcome.report["figures"]
    assert not (tmp_path / "server-any-user.log").exists()


@pytest.mark.parametrize("judged", ["never", "failed"])
def test_overlay_of_a_base_that_did_not_pass_is_checked_down_to_its_lowest_layer(
    engine: Engine, ground: Ground, cli: Cli, tmp_path: Path, judged: str
) -> None:
    """Whoever pulls the overlay pulls what a layer of the base holds and a later one deletes."""
    leak = "echo 'machine index.example login me password secret' >/root/.netrc"
    with (
        changed(engine, ground.images["base"], (), script=leak) as leaking,
        changed(engine, leaking, (), script="rm /root/.netrc") as base,
        changed(engine, base, [f"LABEL {labels.KIND}=overlay {labels.BASE}={base}"]) as overlay,
    ):
        if judged == "failed":
            found = replace(passing(engine.image(base)), failed=("image/secret_files",))
            verdict.record(cli.folders.verdicts, found)
        outcome = trial.run(engine, overlay, tmp_path, LLM_D_DEV_STATE=str(cli.folders.state))
    assert outcome.named("failed") == {"image/secret_files"}, outcome.text
    assert ".netrc in layer" in outcome.text


def test_run_uses_the_folders_that_its_command_line_names(
    engine: Engine, ground: Ground, base: Image, cli: Cli, tmp_path: Path
) -> None:
    """The pass of the base is known there alone, and the engine is told by a variable."""
    named = replace(cli, folders=Folders(state=tmp_path / "named", cache=tmp_path / "cached"))
    named.pass_smoke(base)
    overlay = ground.images["overlay"]
    words = ("smoke", overlay, "--json", "--state", named.folders.state, "--cache", named.folders.cache)
    ran = cli(*words, PYTEST_ADDOPTS="-k health", PYTEST_PLUGINS="no_such_plugin", PYTHONWARNINGS="error")
    assert ran.returncode == 0, ran.stderr
    assert not _ANY_USER & set(ran.json["checks"])
    assert "openai/many_at_once" in ran.json["checks"]
    assert Path(ran.json["report"]).is_relative_to(named.folders.reports)
    kept = verdict.recall(named.folders.verdicts, engine.image(overlay).id)
    assert kept is not None
    assert kept.configuration["base"] == base.id
    assert not cli.folders.verdicts.exists()


def test_overlay_of_a_base_that_nobody_judged_is_also_started_as_an_arbitrary_user(
    engine: Engine, ground: Ground, cli: Cli, tmp_path: Path
) -> None:
    outcome = trial.run(engine, ground.images["overlay"], tmp_path, LLM_D_DEV_STATE=str(cli.folders.state))
    assert outcome.status == 0, outcome.text
    assert outcome.named("passed") >= _ANY_USER


@pytest.mark.parametrize(
    "variables", [(), ("ENV XDG_CACHE_HOME=/srv/cache TRITON_CACHE_DIR=/srv/triton",)], ids=["home", "elsewhere"]
)
def test_arbitrary_user_can_use_caches(
    engine: Engine, standin: str, tmp_path: Path, variables: tuple[str, ...]
) -> None:
    # As FlashInfer and Triton do, which load what they compiled from there.
    folders = '"${XDG_CACHE_HOME:-$HOME/.cache}/flashinfer" "${TRITON_CACHE_DIR:-$HOME/.triton/cache}"'
    load = "import sys, ctypes; ctypes.CDLL(sys.argv[1])"
    script = (
        f'for folder in {folders}; do mkdir -p "$folder"; cp /opt/vllm-source/vllm/_C.abi3.so "$folder/made.so"; '
        f'/opt/vllm/bin/python -c "{load}" "$folder/made.so"; done; exec "$@"'
    )
    changes = [f"ENTRYPOINT {json.dumps(['/bin/sh', '-euc', script, 'sh'])}", *variables]
    with changed(engine, standin, changes, script="mkdir -m 777 /srv/cache /srv/triton") as image_id:
        outcome = trial.run(engine, image_id, tmp_path, "--any-user")
    assert outcome.status == 0, outcome.text
    assert outcome.named("passed") >= _ANY_USER


@pytest.mark.parametrize("fault", ["writes-to-its-source"])
def test_log_of_the_server_that_failed_is_shown(tried: Callable[[str], Tried], fault: str) -> None:
    outcome = tried(fault).outcome
    report, page = outcome.report, (outcome.folder / "report.html").read_text(encoding="utf-8")
    log = (outcome.folder / "server-any-user.log").read_text(encoding="utf-8").splitlines()
    assert "Read-only file system" in log[report["line_number"] - 1]
    assert "← the cause: permission" in page
    assert "Read-only file system" not in (outcome.folder / "server.log").read_text(encoding="utf-8")
    assert report["figures"].keys() >= {"healthy_s", "shutdown_s"}


def test_engine_without_a_process_of_its_own_is_not_killed(engine: Engine, standin: str, tmp_path: Path) -> None:
    with changed(engine, standin, ["ENV VLLM_ENABLE_V1_MULTIPROCESSING=0"]) as image_id:
        outcome = trial.run(engine, image_id, tmp_path, "--any-user")
    assert outcome.status == 0, outcome.text
    assert "any_user/dead_engine" in outcome.named("skipped")


def test_verdict_is_about_the_image_that_was_started(sound: Outcome) -> None:
    assert sound.verdict is not None
    found = Verdict.parse(sound.verdict)
    assert found.ok
    assert found.image_id == sound.report["image_id"]
    asked = found.configuration
    of_image = {"suite", "flavor", "model", "exact", "base", "sealed", "gpus", "gpu_names", "driver", "numbers"}
    assert set(asked) == of_image | {"profile", "serve_args", "env", "checks", "expect"}
    assert asked["expect"] == ['/v1/models="owned_by": "somebody-else"']
    assert asked["exact"] is True


def test_report_has_pytests_own_and_the_log(sound: Outcome) -> None:
    assert "<testsuite" in (sound.folder / "junit.xml").read_text(encoding="utf-8")
    assert "Application shutdown complete" in (sound.folder / "server.log").read_text(encoding="utf-8")


def test_progress_is_printed(sound: Outcome) -> None:
    assert "starting server" in sound.text
    assert "healthy after" in sound.text


@pytest.mark.parametrize("fault", ["crash", "entry-point-runs-nothing"])
def test_death_is_noticed_before_the_time_to_start_is_over(tried: Callable[[str], Tried], fault: str) -> None:
    (health,) = (check for check in tried(fault).outcome.report["checks"] if check["name"] == "server/health")
    assert "the server exited with status" in health["message"]


@pytest.mark.parametrize("fault", ["crash"])
def test_log_of_the_dead_is_shown(tried: Callable[[str], Tried], fault: str) -> None:
    outcome = tried(fault).outcome
    assert "exited with status 1" in outcome.text
    assert "RuntimeError: this is the reason" in outcome.text
    assert "RuntimeError: this is the reason" in (outcome.folder / "server.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("fault", ["commands-the-terminal"])
def test_words_of_the_image_do_not_command_the_terminal(tried: Callable[[str], Tried], fault: str) -> None:
    outcome = tried(fault).outcome
    written = [path.read_text(encoding="utf-8") for path in outcome.folder.iterdir()]
    assert any(r"\x1b]52;c;" in text for text in written)
    for text in (outcome.text, *written):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "\r" not in outcome.text


@pytest.mark.parametrize("fault", ["prints-without-end"])
def test_output_without_end_is_not_kept(tried: Callable[[str], Tried], fault: str) -> None:
    log = tried(fault).outcome.folder / "server.log"
    assert 0 < log.stat().st_size < 20 * 2**20


@pytest.mark.parametrize("fault", ["says-nothing", "streams-without-end"])
def test_server_that_does_not_answer_is_asked_once(tried: Callable[[str], Tried], fault: str) -> None:
    checks = {check["name"]: check for check in tried(fault).outcome.report["checks"]}
    after = [checks[f"openai/{name}"] for name in ("completion_is_right", "chat", "key[none]")]
    assert {check["outcome"] for check in after} == {"skipped"}
    assert all("did not answer in time" in check["message"] for check in after)


@pytest.mark.parametrize("fault", ["redirects"])
def test_where_a_redirect_leads_is_said(tried: Callable[[str], Tried], fault: str) -> None:
    (metrics,) = (check for check in tried(fault).outcome.report["checks"] if check["name"] == "server/metrics")
    assert "answered with 302, a redirect to 'http://127.0.0.1:1/" in metrics["message"]


@pytest.mark.parametrize(
    "entrypoint",
    [
        "[]",
        '["vllm"]',
        '["/usr/bin/env"]',
        '["python", "-m", "vllm.entrypoints.openai.api_server"]',
    ],
)
def test_entry_points(engine: Engine, standin: str, tmp_path: Path, entrypoint: str) -> None:
    with changed(engine, standin, [f"ENTRYPOINT {entrypoint}"]) as image_id:
        outcome = trial.run(engine, image_id, tmp_path)
    assert outcome.status == 0, outcome.text


def test_copy_of_the_suites_own_model_is_as_exact_as_that(engine: Engine, standin: str, tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "model")
    with changed(engine, standin, ["ENV STANDIN_FAULT=mixes-up"]) as image_id:
        outcome = trial.run(engine, image_id, tmp_path / "report", "--model", str(tmp_path / "model"))
    assert outcome.named("failed") == {"openai/many_at_once"}, outcome.text
    assert outcome.verdict is not None
    assert Verdict.parse(outcome.verdict).configuration["exact"] is True


@pytest.mark.parametrize("padding", [0, 100 * 2**20], ids=["copied", "mounted"])
def test_model_of_ones_own(engine: Engine, standin: str, tmp_path: Path, padding: int) -> None:
    tiny_model.write(tmp_path / "model")
    with (tmp_path / "model" / "padding").open("wb") as file:
        file.truncate(padding)
    outcome = trial.run(engine, standin, tmp_path / "report", "--model", str(tmp_path / "model"))
    assert outcome.status == 0, outcome.text
    assert "openai/chat_is_right" in outcome.named("skipped")
    assert outcome.verdict is not None
    fingerprint = fingerprints.fingerprint(tmp_path / "model", "**/*")
    configuration = Verdict.parse(outcome.verdict).configuration
    assert (configuration["model"], configuration["exact"]) == (fingerprint, False)


def test_hub_that_does_not_answer_is_no_failure_of_the_image(engine: Engine, standin: str, tmp_path: Path) -> None:
    variables = {"HF_ENDPOINT": "http://127.0.0.1:1", "LLM_D_DEV_CACHE": str(tmp_path / "cache")}
    outcome = trial.run(engine, standin, tmp_path / "report", "--model", "org/name@main", **variables)
    assert (outcome.status, outcome.report["cause"]) == (8, "hub"), outcome.text
    assert outcome.verdict is None


def test_cuda_image_without_gpu_is_not_verified(engine: Engine, standin: str, tmp_path: Path) -> None:
    with changed(engine, standin, [f"LABEL {labels.FLAVOR}=cuda"]) as image_id:
        outcome = trial.run(engine, image_id, tmp_path, "--gpus", "none")
    assert (outcome.status, outcome.report["cause"]) == (8, "no-gpu")
    assert outcome.verdict is None


def test_gpus_that_are_not_there(engine: Engine, standin: str, tmp_path: Path) -> None:
    outcome = trial.run(engine, standin, tmp_path, "--gpus", "all")
    if outcome.status:
        assert (outcome.status, outcome.report["cause"]) == (8, "no-gpu"), outcome.text
    else:
        assert outcome.verdict is not None
        assert Verdict.parse(outcome.verdict).configuration["gpus"] == "all"
    assert not outcome.left


@pytest.mark.parametrize(
    "option", [("-k", "health"), ("-k", "nothing_like_it"), ("--ignore", "smoke/test_4_openai.py")]
)
def test_part_of_the_suite_passes_no_image(
    engine: Engine, standin: str, tmp_path: Path, option: tuple[str, str]
) -> None:
    outcome = trial.run(engine, standin, tmp_path, *option)
    assert (outcome.status, outcome.report["cause"]) == (8, "incomplete")
    assert outcome.verdict is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--image IMAGE"),
        (["--image", "no-such-image"], "'no-such-image' is not on this engine"),
        (["--image", "No Image"], "is not an image name"),
        (["--image", "x", "--expect", "models"], "is not ROUTE=TEXT"),
        (["--image", "x", "--model", "/nowhere"], "not a folder with a config.json"),
        (["--image", "x", "--start-timeout", "0"], "seconds above 0"),
        (["--url", "http://127.0.0.1:1", "--any-user"], "give --image, not --url"),
    ],
)
def test_wrong_usage(engine: Engine, options: list[str], said: str) -> None:
    with trial.start(engine, *options) as process:
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 4
    assert said in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("number", "fault", "log"),
    [
        (signal.SIGINT, "hangs", "server.log"),
        (signal.SIGTERM, "hangs", "server.log"),
        (signal.SIGINT, "hangs-for-anybody", "server-any-user.log"),
        (signal.SIGTERM, "hangs-for-anybody", "server-any-user.log"),
    ],
)
def test_interrupt_leaves_nothing(  # noqa: PLR0917 - fixtures and parameters come by name
    engine: Engine, standin: str, tmp_path: Path, number: signal.Signals, fault: str, log: str
) -> None:
    with _hanging(engine, standin, tmp_path, fault=fault) as (process, container, who):
        key = dict(word.split("=", 1) for word in container.attrs["Config"]["Env"])["VLLM_API_KEY"]
        process.send_signal(number)
        text, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cause"] == "interrupted"
    assert not trial.containers_of(engine, who)
    assert "Waiting for something that never comes" in (tmp_path / log).read_text(encoding="utf-8")
    assert not (tmp_path / "verdict.json").exists()
    assert key not in text + "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())


def test_interrupt_ends_a_server_that_prints_without_end(engine: Engine, standin: str, tmp_path: Path) -> None:
    with changed(engine, standin, ["ENV STANDIN_FAULT=prints-without-end"]) as image_id:
        with trial.start(engine, "--image", image_id, "--report", tmp_path) as process:
            who = identity.identity(process.pid)
            for line in process.stdout or ():
                if line.startswith("still starting"):
                    break
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert not trial.containers_of(engine, who)
    assert process.returncode == 2
    assert (tmp_path / "server.log").stat().st_size < 20 * 2**20


def test_kill_leaves_what_the_next_run_sweeps(engine: Engine, standin: str, tmp_path: Path) -> None:
    with _hanging(engine, standin, tmp_path) as (process, container, who):
        process.kill()
        process.communicate(timeout=30)
        # Another run on this engine may sweep it first.
        assert {left.id for left in trial.containers_of(engine, who)} <= {container.id}
        leftovers.sweep(engine)
        assert not _left_at_last(engine, who)


def test_arbitrary_user_has_no_privileges(engine: Engine, standin: str, tmp_path: Path) -> None:
    with _hanging(engine, standin, tmp_path, fault="hangs-for-anybody") as (process, container, _):
        config, host = container.attrs["Config"], container.attrs["HostConfig"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert config["User"] == "1234567:0"
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert not host["PortBindings"]


@contextlib.contextmanager
def _hanging(
    engine: Engine, standin: str, folder: Path, *, fault: str = "hangs"
) -> Iterator[tuple[subprocess.Popen[str], Container, str]]:
    """A run of the suite whose server runs and never becomes healthy."""
    with (
        changed(engine, standin, [f"ENV STANDIN_FAULT={fault}"]) as image_id,
        trial.start(engine, "--image", image_id, "--any-user", "--report", folder) as process,
    ):
        who = identity.identity(process.pid)
        yield process, _waits(engine, who), who


def _left_at_last(engine: Engine, who: str) -> list[Container]:
    deadline = time.monotonic() + _APPEARS_S
    while (left := trial.containers_of(engine, who)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _waits(engine: Engine, who: str) -> Container:
    """The server's container, once the image was looked into and the server is waited for.

    The image is looked into by a container beside the server, which may not be there yet: so it must have ended.
    """
    ended = {"event": "die", "label": f"{labels.OWNER}={who}"}
    since = int(time.time() - _APPEARS_S)
    deadline = time.monotonic() + _APPEARS_S
    while time.monotonic() < deadline:
        with contextlib.suppress(docker.errors.APIError):  # a container may go while it is looked at
            found = trial.containers_of(engine, who)
            looked = list(engine.client.events(since=since, until=int(time.time()), filters=ended))
            if looked and len(found) == 1 and b"never comes" in found[0].logs():
                found[0].reload()
                return found[0]
        time.sleep(0.1)
    raise AssertionError("the server did not start")
