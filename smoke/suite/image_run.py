"""One run of the suite: an image, the server made of it, and what is found out about both."""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
import shlex
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import docker.errors
import requests

from build.config import settings, starting
from build.config.gpus import ALL
from build.config.model_name import ModelName
from build.engine import client, content, embedded, labels, leftovers, serving
from build.engine.confinement import Limits
from build.errors import BusyError, EngineError
from build.gate import demands, fingerprints, ways
from build.harmless import harmless
from build.host import secrets as redact
from build.host.files import write_atomic, write_json
from smoke.diagnosis.cause import TERMINATED, Diagnosis, diagnose
from smoke.diagnosis.request import exception_since
from smoke.gpu import grant as gpus
from smoke.gpu import nvidia
from smoke.image.binaries import ANYBODY, probe
from smoke.image.contents import Contents, is_ours
from smoke.results import report
from smoke.results.findings import Findings
from smoke.server import hub_model, profile, tiny_model
from smoke.server.launch import Launch, await_healthy, running
from smoke.server.numbers import STEADY, Record
from smoke.server.server import TAIL_LINES, ContainerServer, ServerFailedError
from smoke.suite import recorded
from smoke.suite.suite_options import DEFAULT_START_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from docker.types import DeviceRequest

    from build.base.apart import Look
    from build.config.folders import Folders
    from build.engine.client import Engine
    from build.engine.image import Image
    from build.gate.verdict import Verdict
    from smoke.server.numbers import Rounds
    from smoke.suite.suite_options import Options

# What talking to the engine raises when it went away.
_ENGINE_ERRORS = (EngineError, docker.errors.DockerException, requests.RequestException)
# How long a server that just answered wrongly gets to show that it is dying.
_DEATH_S = 2.0
# A shorter value, 1 or false say, is no secret, and stands in many texts.
_SECRET_LENGTH = 6
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Start:
    """One of the starts of the server.

    Attributes:
        log: File in the report's folder with what the server printed.
        figure: Name of the seconds that it took to become healthy.
    """

    log: str
    figure: str


FIRST = Start(log="server.log", figure="healthy_s")
"""As the image says."""

AS_ANYBODY = Start(log="server-any-user.log", figure="any_user_healthy_s")
"""As an arbitrary user."""


class NotVerifiedError(Exception):
    """Something other than the image is in the way of a verdict.

    Args:
        diagnosis: What.
    """

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(f"{diagnosis.cause}: {diagnosis.line}")


@dataclass(kw_only=True)
class Run:
    """One run of the suite.

    Attributes:
        options: The command line.
        engine: Where the image is and runs.
        image: The image under test.
        findings: What is known so far.
        key: The server's API key, which must not show anywhere.
        launch: How the image is started, once that is known.
        server: The server, while it runs and was healthy.
        model: Fingerprint of the model, once there is one.
        gpus: What the container was given.
        folders: State and cache.
        rules: Fingerprint of the rules, taken before any check was collected.
        last_words: The end of the log of a server that died after it had been healthy.
        start: The last start of the server.
        logs: Everything that the server printed, by its start, once it is gone.
        numbers: How its numbers compare with its base's, once that is known.
        record: Its numbers, to compare those of others with.
    """

    options: Options
    engine: Engine
    image: Image
    findings: Findings = field(default_factory=Findings)
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    launch: Launch | None = None
    server: ContainerServer | None = None
    model: str | None = None
    gpus: gpus.Grant = gpus.NONE
    folders: Folders = field(default_factory=lambda: settings.load({}).folders)
    rules: str = field(default_factory=fingerprints.rules)
    last_words: Sequence[str] = ()
    start: Start = FIRST
    logs: dict[Start, str] = field(default_factory=dict)
    numbers: str | None = None
    record: Record | None = None
    _started_first: ContainerServer | Exception | None = None
    _serving: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @classmethod
    def prepare(cls, options: Options) -> Run:
        """Find the engine and the image, and remove what killed runs left.

        Raises:
            LlmdDevError: One of them is not there.
        """
        if options.report:
            _clear(options.report)
        found = client.find(embedded_socket=str(embedded.socket(settings.load({}).folders)))
        if found is None:
            raise EngineError("no Docker Engine answers", hint="start one, or `python -m build engine up`")
        try:
            # Two runs that sweep at once get in each other's way; no harm is done.
            with contextlib.suppress(docker.errors.APIError):
                leftovers.sweep(found)
            return cls(options=options, engine=found, image=found.image(options.image or ""))
        except _ENGINE_ERRORS as error:
            raise EngineError(str(error), hint="check that the Docker Engine runs, then test again") from error

    @property
    def flavor(self) -> str:
        """What the image runs on."""
        return serving.flavor(self.image)

    @property
    def subject(self) -> str:
        """What is tested, for a table's heading."""
        return self.image.short_id

    @property
    def header(self) -> list[str]:
        """What is tested where, in words."""
        names = ", ".join(self.image.tags) or "no name"
        told = [f"image: {self.image.short_id} ({names}), flavor {self.flavor}"]
        with contextlib.suppress(*_ENGINE_ERRORS):  # it may be gone when the report is written
            version = self.engine.capabilities.server_version
            told.append(f"engine: Docker Engine {version} at {self.engine.host}")
        return told

    def close(self) -> None:
        """Drop the connections to the engine."""
        self.engine.close()

    def redacted(self, text: str) -> str:
        """A text without the API key, the values of --env, passwords and tokens that can be told by form; harmless."""
        for secret in (self.key, *(value for value in self.options.env.values() if len(value) >= _SECRET_LENGTH)):
            text = text.replace(secret, "[redacted]")
        return harmless(redact.redacted(text))

    @contextlib.contextmanager
    def starting(self, *, scratch: Path, say: Callable[[str], None]) -> Iterator[Callable[[], ContainerServer]]:
        """The image's server, started but not waited for, while the block runs.

        Args:
            scratch: An empty folder.
            say: Called with what happens meanwhile, line by line.

        Yields:
            What waits until it is healthy; raises NotVerifiedError if it cannot be started here and
            ServerFailedError if the image is to blame that it did not start.

        Raises:
            NotVerifiedError: It cannot be judged here.
            ServerFailedError: The engine did not pass the GPUs, and the image is to blame.
        """
        try:
            with contextlib.ExitStack() as stack:
                self.launch = launch = self._launched(scratch, say, stack)
                stack.enter_context(self._serving)
                say(f"starting server … (GPUs: {self._given})")
                started = self._started_first = self._started(launch)
                yield lambda: self._healthy(started, say)
        except _ENGINE_ERRORS as error:
            raise self._not_verified(_engine_lost(error)) from error
        finally:
            self.server = None

    @functools.cached_property
    def base(self) -> Image | None:
        """The base that answers for what is not checked again on an overlay.

        None for any other image, and for an overlay whose base is not here or has no current pass.
        """
        if not self._is_overlay:
            return None
        base_id = self.image.labels.get(labels.BASE, "")
        try:
            base = self.engine.find_image(base_id) if _IMAGE_ID.fullmatch(base_id) else None
        except _ENGINE_ERRORS:  # the next question to the engine finds that it is lost
            return None
        if base is None or base.labels.get(labels.KIND) != "base":
            return None
        # What was made from one of both, and inherited its labels, may run otherwise.
        if not (content.is_genuine(self.image) and content.is_genuine(base)):
            return None
        if self.image.diff_ids[: len(base.diff_ids)] != base.diff_ids:
            return None
        required = ways.required(settings.load({}))
        why = demands.shortcoming(self.folders.verdicts, base, rules=self.rules, required=required)
        return None if why else base

    @property
    def exact(self) -> bool:
        """Whether the model is the suite's own, by its content: then every answer is known beforehand."""
        return self.options.model is None or (self.model is not None and self.model == _own_model())

    def record_of_base(self, found: Rounds) -> Record | str:
        """What the base answered in the same place; in words why there is nothing to compare with.

        Args:
            found: What the image's server answered.
        """
        place = recorded.place(self.engine.host, self.flavor, self.gpus.titles)
        self.record = Record(place=place, spread=min(found.worst.size, STEADY[self.flavor]), answers=found.first)
        if self._is_base:
            before: Record | str = "kept for its overlays to be compared with"
        else:
            before = self._started_otherwise or recorded.of(self.folders.verdicts, self.base, place=place)
        self.numbers = before if isinstance(before, str) else "as its base's"
        return before

    @property
    def _started_otherwise(self) -> str | None:
        if ways.Way.of(self._configuration()).starts_as(ways.required(settings.load({}))):
            return None
        return "not compared: started in another way than the base was"

    @property
    def any_user(self) -> bool:
        """Whether the server is also started as an arbitrary user."""
        is_open = labels.ORIGIN not in self.image.labels  # an adopted image keeps its user and its permissions
        return self.options.any_user or (self.sealed and self.base is None and is_open)

    @property
    def _is_base(self) -> bool:
        return self.image.labels.get(labels.KIND) == "base"

    @property
    def _is_overlay(self) -> bool:
        return self.image.labels.get(labels.KIND) == "overlay"

    def start_as_anybody(self, say: Callable[[str], None]) -> ContainerServer:
        """Start the server again: as an arbitrary user of group 0, on a root that cannot be written to.

        The one before is removed first, as both would not fit into a GPU's memory.

        Args:
            say: Called with what happens meanwhile, line by line.

        Raises:
            NotVerifiedError: It cannot be judged here.
            ServerFailedError: The image is to blame that it did not become healthy.
        """
        assert self.launch is not None, "the server was started before"
        self.server = None
        try:
            self._serving.close()
        except _ENGINE_ERRORS as error:
            raise self._not_verified(_engine_lost(error)) from error
        self.start = AS_ANYBODY
        why = ", as its base has no current pass" if self._is_overlay and self.base is None else ""
        say(f"starting server as {ANYBODY} on a read-only root{why} … (GPUs: {self._given})")
        return self._healthy(self._started(replace(self.launch, confined_to=ANYBODY)), say)

    def _started(self, launch: Launch) -> ContainerServer | Exception:
        """A server that is removed with the others, or why there is none."""
        try:
            return self._serving.enter_context(running(self.engine, launch, keep_log=self._keep_log))
        except (ServerFailedError, *_ENGINE_ERRORS) as error:
            return error

    def _healthy(self, started: ContainerServer | Exception, say: Callable[[str], None]) -> ContainerServer:
        try:
            if isinstance(started, Exception):
                raise started
            await_healthy(started, timeout=self.options.start_timeout, progress=say)
        except ServerFailedError as error:
            self._blame(error)
            raise
        except _ENGINE_ERRORS as error:
            raise self._not_verified(_engine_lost(error)) from error
        self.findings.figures[self.start.figure] = round(started.healthy_s, 1)
        say(f"healthy after {started.healthy_s:.1f} s")
        self.server = started
        return started

    @functools.cached_property
    def sealed(self) -> bool:
        """Return whether the image is a base or an overlay, or was made from one, whatever its labels say."""
        try:
            return is_ours(self.engine, self.image)
        except _ENGINE_ERRORS:  # the next question to the engine finds that it is lost
            return False

    @functools.cached_property
    def contents(self) -> Contents | None:
        """What the image holds, if it is ours.

        Raises:
            UnreadableError: It says that it is ours and does not hold what it should.
        """
        return Contents.read(self.engine, self.image) if self.sealed else None

    def probe(self) -> Look:
        """What is found from within the image, as long as its server lives.

        Raises:
            NotVerifiedError: The engine went away.
        """
        assert self.launch is not None, "the server is started first"
        started = self._started_first

        def is_dead() -> bool:
            return not isinstance(started, ContainerServer) or started.exit_code() is not None

        try:
            return probe(self.engine, self.launch, flavor=self.flavor, contents=self.contents, is_enough=is_dead)
        except _ENGINE_ERRORS as error:
            raise self._not_verified(_engine_lost(error)) from error

    def blame(self, words: str) -> None:
        """Take from what an image says of itself why it is broken, if it is of a known kind."""
        found = diagnose(words)
        if found.image_at_fault and found.cause != "unknown" and not self.findings.diagnosis:
            # Its line is one of the words, not of the server's log.
            self.findings.diagnosis = replace(found, line_number=None)

    @property
    def _given(self) -> str:
        """The GPUs of the container, as ``--gpus`` names them."""
        if not self.gpus.requests:
            return "none"
        return "all" if self.options.gpus.word == "auto" else str(self.options.gpus)

    def _take_gpus(self, say: Callable[[str], None], held: contextlib.ExitStack) -> None:
        """Find out which GPUs the container gets, and keep other runs from them."""
        selection = self.options.gpus
        requests = gpus.devices(selection, flavor=self.flavor, capabilities=self.engine.capabilities)
        machine = nvidia.Machine.look(nvidia.here) if requests and self.engine.is_here else None
        if reason := gpus.unverifiable(selection, image=self.image, requested=requests, machine=machine):
            raise self._not_verified(reason)
        grant = gpus.granted(selection, requests, machine)
        doing = f"smoke test of {self.image.name}"
        try:
            held.enter_context(
                gpus.held(grant, folder=self.folders.locks, engine_host=self.engine.host, doing=doing, say=say)
            )
        except BusyError as error:
            raise self._not_verified(_busy("gpu-busy", error)) from error
        if requests and machine is None:
            machine = self._look_inside(requests)
            if reason := gpus.unverifiable(ALL, image=self.image, requested=requests, machine=machine):
                raise self._not_verified(reason)
            grant = gpus.guessed(selection, requests, machine)
        self.gpus = grant

    def _look_inside(self, requests: tuple[DeviceRequest, ...]) -> nvidia.Machine | None:
        """The GPUs as a container sees them, where this machine does not tell."""
        try:
            return nvidia.look_inside(self.engine, self.image, requests)
        except docker.errors.APIError as error:
            said = str(error.explanation or error)
            raise ServerFailedError("the engine did not pass the GPUs", log=said, refused=True) from error

    def _launched(self, scratch: Path, say: Callable[[str], None], held: contextlib.ExitStack) -> Launch:
        try:
            self._take_gpus(say, held)
            return self._launch(scratch, say)
        except ServerFailedError as error:
            self._blame(error)
            raise
        except _ENGINE_ERRORS as error:
            raise self._not_verified(_engine_lost(error)) from error

    def _launch(self, scratch: Path, say: Callable[[str], None]) -> Launch:
        folder = self._model(scratch, say)
        self.model = fingerprints.model(folder)
        if isinstance(self.options.model, ModelName) and hub_model.is_damaged(folder, self.model):
            say(f"{self.options.model} was damaged in the cache: fetching it again")
            hub_model.forget(folder)
            folder = self._model(scratch, say)
            self.model = fingerprints.model(folder)
        return Launch(
            image=self.image,
            model=folder,
            devices=self.gpus.requests,
            key=self.key,
            limits=Limits.of(settings.load({})),
            network=self.options.network,
            arguments=self.options.serve_args,
            variables=self.options.env,
            profile=self.options.profile,
            units=sum(unit.startswith("GPU-") for unit in self.gpus.units),
        )

    def _model(self, scratch: Path, say: Callable[[str], None]) -> Path:
        """The folder of the model to serve."""
        chosen = self.options.model
        if chosen is None:
            tiny_model.write(scratch)
            return scratch
        if not isinstance(chosen, ModelName):
            return chosen
        try:
            return hub_model.fetch(chosen, self.folders.cache, say=say)
        except hub_model.HubError as error:
            raise self._not_verified(_hub_down(error)) from error
        except BusyError as error:
            raise self._not_verified(_busy("hub-busy", error)) from error

    def _keep_log(self, log: str) -> None:
        # What overwrites a line is told apart later.
        self.logs[self.start] = "\r".join(map(self.redacted, log.split("\r")))
        if self.options.report:
            write_atomic(self.options.report / self.start.log, self.logs[self.start])

    def _blame(self, error: ServerFailedError) -> None:
        found = diagnose(
            error.log,
            exit_code=error.exit_code,
            timed_out=error.timed_out,
            out_of_memory=error.out_of_memory,
        )
        if error.timed_out and found.cause == "timeout" and self.options.start_timeout < DEFAULT_START_TIMEOUT_S:
            longer = f"give it more time: --start-timeout {DEFAULT_START_TIMEOUT_S:g}, the default, decides"
            found = replace(found, advice=longer, image_at_fault=False)
        if error.refused and found.cause == "unknown":
            found = replace(found, cause="engine-refused", image_at_fault=False)
        if not found.image_at_fault:
            raise self._not_verified(found) from error
        self.findings.diagnosis = found
        self.findings.blocked = "the server did not start"

    def _not_verified(self, reason: Diagnosis) -> NotVerifiedError:
        self.findings.diagnosis = reason
        self.findings.blocked = f"not verified ({reason.cause})"
        return NotVerifiedError(reason)

    def engine_lost(self, error: BaseException | None) -> bool:
        """Return whether a check broke off because the engine went away, before there was a server to speak to."""
        if self.server is not None or not isinstance(error, _ENGINE_ERRORS):
            return False
        self._not_verified(_engine_lost(error))
        return True

    def look_into_failure(self) -> bool:
        """Find out why a check failed, if the server shows it.

        Returns:
            Whether the image is to blame.
        """
        if self.server is None or self.findings.diagnosis:
            return True
        try:
            return self._look_at(self.server)
        except _ENGINE_ERRORS as error:
            self._not_verified(_engine_lost(error))
            return False

    def _look_at(self, live: ContainerServer) -> bool:
        code = live.exit_code(within=0 if live.terminated else _DEATH_S)
        died = code is not None and not live.terminated
        found = diagnose(
            live.log(),
            exit_code=code if died else None,
            out_of_memory=died and live.out_of_memory,
        )
        # It takes seconds to end; until then it lives and answers no more.
        ended = died or (found.cause == TERMINATED and not live.terminated)
        if ended and not found.image_at_fault:
            self._not_verified(found)
        elif died:
            self.last_words = live.log().splitlines()[-TAIL_LINES:]
            self.findings.diagnosis = found
            self.findings.blocked = f"the server died with exit status {code}"
        elif found.image_at_fault and found.cause != "unknown":
            self.findings.diagnosis = found
        return found.image_at_fault or not ended

    def exception_since(self, moment: float) -> tuple[int, str] | None:
        """The exception that the server's log has since a moment of this machine: number and text of its line."""
        if self.server is None:
            return None
        try:
            stamped = self.server.log(timestamps=True)
            return exception_since(stamped, moment + (0.0 if self.engine.is_here else self._clock_lead))
        except _ENGINE_ERRORS:
            return None

    @property
    def _clock_lead(self) -> float:
        """Seconds that the clock of the engine's machine is ahead of this one's."""
        told = datetime.fromisoformat(self.engine.client.info()["SystemTime"])
        return told.timestamp() - time.time()

    def conclude(self) -> None:
        """Note what keeps the findings from being a verdict, when the last check has ended."""
        if fingerprints.rules() != self.rules:
            self.findings.void = _CHANGED
        elif verdict := self._passed():
            lacking = demands.missing(verdict, self.image)
            self.findings.incomplete = _incomplete(lacking) if lacking else None

    def _passed(self) -> Verdict | None:
        """The verdict, if it is a pass so far."""
        if self.findings.result != "pass":
            return None
        return self.findings.verdict(self.image, self._configuration())

    def write(self) -> None:
        """Write the documents, if a folder for them was named."""
        folder = self.options.report
        if folder is None:
            return
        configuration = self._configuration()
        write_json(folder / "report.json", report.cleaned(self.findings.report(self.image, self.header), self.redacted))
        held = recorded.entry(self.record) if self.record and self._is_base else {}
        if verdict := self.findings.verdict(self.image, configuration | held):
            write_json(folder / "verdict.json", verdict.statement())
        write_atomic(folder / "report.html", self._page(configuration))

    def _page(self, configuration: Mapping[str, Any]) -> str:
        try:
            image = report.lineage(self.engine, self.image)
        except _ENGINE_ERRORS:
            image = report.known(self.image)
        # A cause is one of the last start: nothing fails before another one.
        told = FIRST if self.findings.result == "pass" else self.start
        return report.page(
            self.findings,
            image=image,
            configuration={**configuration, "server command": self._command},
            source=self._source,
            server_log=self.logs.get(told, ""),
            log_name=told.log,
            healthy_s=self.findings.figures.get(told.figure),
            redacted=self.redacted,
        )

    @property
    def _command(self) -> str | None:
        """What the container ran, once that is known; its key and other variables are not part of it."""
        if self.launch is None:
            return None
        return shlex.join([*(self.image.config.get("Entrypoint") or ()), *self.launch.command])

    @property
    def _source(self) -> report.ImageSource | None:
        """What source the image holds, if a check has looked."""
        found: Contents | None = vars(self).get("contents")
        if found is None:
            return None
        return report.ImageSource(
            commit=found.head,
            subject=found.subject,
            base=found.facts.commit,
            changed=sorted(found.changed),
            deleted=found.deleted if found.head != found.facts.commit else (),
        )

    def _configuration(self) -> dict[str, Any]:
        return {
            "suite": self.rules,
            "flavor": self.flavor,
            "model": self.model,
            "exact": self.exact,
            "base": self.base.id if self.base else None,
            "sealed": self.sealed,
            "gpus": self._given,
            "gpu_names": list(self.gpus.titles),
            "driver": self.gpus.driver,
            "profile": self.options.profile or profile.default(gpu=bool(self.gpus.requests)),
            "serve_args": list(self.options.serve_args),
            "env": list(starting.marks(self.options.env)),
            "checks": fingerprints.checks(self.options.checks) if self.options.checks else None,
            "expect": [str(expectation) for expectation in self.options.expect],
            "numbers": self.numbers,
        }


@functools.cache
def _own_model() -> str:
    return tiny_model.fingerprint()


def _incomplete(lacking: Sequence[str]) -> Diagnosis:
    return Diagnosis(
        cause="incomplete",
        line=f"{len(lacking)} checks did not run that such an image has to pass: {', '.join(lacking[:5])}",
        advice="run the whole suite on a machine where all of it can run",
        image_at_fault=False,
    )


_CHANGED = Diagnosis(
    cause="suite-changed",
    line="the code that judges was edited while it ran",
    advice="test again",
    image_at_fault=False,
)


def _clear(report: Path) -> None:
    """Remove the documents of an earlier run: they must not be taken for this one's."""
    for name in ("report.json", "report.html", "verdict.json", "junit.xml", FIRST.log, AS_ANYBODY.log):
        (report / name).unlink(missing_ok=True)


def _busy(cause: str, error: BusyError) -> Diagnosis:
    return Diagnosis(cause=cause, line=error.what, advice=error.hint, image_at_fault=False)


def _hub_down(error: hub_model.HubError) -> Diagnosis:
    return Diagnosis(
        cause="hub",
        line=str(error),
        advice="check the model's name and that the hub answers (HF_TOKEN for a gated one), or give a folder",
        image_at_fault=False,
    )


def _engine_lost(error: Exception) -> Diagnosis:
    return Diagnosis(
        cause="engine-lost",
        line=" ".join(str(error).split()),
        advice=getattr(error, "hint", "check that the Docker Engine runs, then test again"),
        image_at_fault=False,
    )
