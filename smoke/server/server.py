"""The server under test: one that can be spoken to, and, in a container, watched."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import docker.errors
import requests
from prometheus_client.parser import text_string_to_metric_families

from build.config.folders import REPOSITORY
from build.engine import confinement
from build.engine.serving import PORT
from build.registry.exchange import Exchange, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docker.models.containers import Container
    from prometheus_client import Metric
    from testcontainers.core.container import DockerContainer

    from build.registry.exchange import Answer

MODEL_FOLDER = "/tmp/llm-d-dev-model"  # noqa: S108 - in the container, which is the suite's alone
"""Where a container has its model."""

_END_ENGINE = REPOSITORY / "smoke" / "inside" / "end_engine.py"

TAIL_LINES = 40
"""How much of a log is shown of a server that failed."""

POLL_S = 0.25

_LOAD = ("vllm:num_requests_running", "vllm:num_requests_waiting")

HEALTH_S = 10.0
"""Seconds that a healthy server may take to say so."""

ANSWER_S = 120.0
"""Seconds that one answer may take in all, unless another number is given: many times what a slow machine needs."""

_LONGEST_S = 86400.0

ANSWER_LIMIT = 16 * 2**20
"""Bytes that one answer may have: vLLM's OpenAPI document and metrics are below one MiB."""

_SHOWN = 200


class WrongAnswerError(Exception):
    """The server answers in a way that no server under test may: with a redirect, or without end."""


def refuse_redirect(route: str, status: int, headers: Mapping[str, str]) -> None:
    """Refuse an answer that leads elsewhere: whatever is asked there, it is the caller's network that is asked.

    Raises:
        WrongAnswerError: It does.
    """
    if status in _REDIRECTS:
        where = headers.get("Location", "")[:_SHOWN]
        raise WrongAnswerError(f"{route} was answered with {status}, a redirect to {where!a}, which is not followed")


_REDIRECTS = (301, 302, 303, 307, 308)


class ServerFailedError(Exception):
    """The server did not become healthy.

    Args:
        what: What happened, one line.
        log: What it printed until then.
        exit_code: How it ended; None if it still ran or never started.
        out_of_memory: Whether the kernel killed it for memory.
        timed_out: Whether it was given up while it ran.
        refused: Whether the engine did not start it; then the log is what the engine said.
    """

    def __init__(
        self,
        what: str,
        *,
        log: str,
        exit_code: int | None = None,
        out_of_memory: bool = False,
        timed_out: bool = False,
        refused: bool = False,
    ) -> None:
        super().__init__("\n".join([what, *log.splitlines()[-TAIL_LINES:]]))
        self.log = log
        self.exit_code = exit_code
        self.out_of_memory = out_of_memory
        self.timed_out = timed_out
        self.refused = refused


class Server:
    """A server that can be spoken to.

    Args:
        url: Its address, without a path.
        key: Its API key; empty if it wants none.
    """

    def __init__(self, *, url: str, key: str) -> None:
        self._url = url
        # A proxy from the environment has no business between us and a server under test.
        self._exchange = Exchange(seconds=_LONGEST_S, is_untrusted=True)
        self.key = key
        self.answer_s = ANSWER_S
        """Seconds that one answer may take in all."""

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return self._url

    @functools.cached_property
    def model(self) -> str:
        """What it calls its model: the first that it lists."""
        return str(self._card["id"])

    @functools.cached_property
    def context(self) -> int:
        """Tokens that prompt and answer may have together; 0 where it does not say so."""
        return int(self._card.get("max_model_len") or 0)

    @property
    def is_own_model(self) -> bool:
        """Whether it says that it serves a folder of the name that the suite's own model has in a container."""
        return self._card.get("root") == MODEL_FOLDER

    @functools.cached_property
    def _card(self) -> dict[str, Any]:
        cards: list[dict[str, Any]] = self.get("/v1/models").json()["data"]
        return cards[0]

    def get(self, route: str, *, authorized: bool = True, timeout: float | None = None) -> Answer:
        """GET a route.

        Args:
            route: Its path.
            authorized: Whether to send the API key.
            timeout: Seconds that the answer may take in all, if not :attr:`answer_s`.

        Raises:
            WrongAnswerError: It is a redirect, or has too many bytes.
            TimeoutError: It does not come in time.
            requests.RequestException: There is none.
        """
        return self._send("GET", route, self._headers if authorized else {}, timeout=timeout)

    def post(self, route: str, document: dict[str, Any]) -> Answer:
        """POST a JSON document to a route with the API key. Raises what :meth:`get` does."""
        headers = {**self._headers, "Content-Type": "application/json"}
        return self._send("POST", route, headers, body=json.dumps(document).encode())

    def _send(
        self,
        method: str,
        route: str,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Answer:
        try:
            answer = self._exchange.send(
                method,
                self.url + route,
                limit=ANSWER_LIMIT,
                headers=headers,
                form=body,
                seconds=timeout or self.answer_s,
            )
        except TooLargeError as error:
            raise WrongAnswerError(f"{route} was answered with {error}") from error
        refuse_redirect(route, answer.status, answer.headers)
        return answer

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def healthy(self, *, within: float = HEALTH_S) -> bool:
        """Whether it answers ``/health`` with 200.

        Args:
            within: Seconds that the answer may take in all.
        """
        try:
            return self.get("/health", timeout=within).status == HTTPStatus.OK
        except (requests.RequestException, TimeoutError, WrongAnswerError, KeyError):
            return False

    def metrics(self) -> list[Metric]:
        """What ``/metrics`` says.

        Raises:
            ValueError: It is not in Prometheus' text format.
        """
        answer = self.get("/metrics")
        if not answer.ok:
            raise ValueError(f"/metrics answered {answer.status}")
        return list(text_string_to_metric_families(answer.text))

    def load(self) -> float:
        """How many requests it works on or keeps waiting (vllm/v1/metrics/loggers.py, 0.32.0)."""
        found = [metric for metric in self.metrics() if metric.name in _LOAD]
        return sum(sample.value for metric in found for sample in metric.samples)

    def totals(self, names: Sequence[str]) -> list[float]:
        """What samples of ``/metrics`` with these names sum up to, each over all of its labels."""
        samples = [sample for metric in self.metrics() for sample in metric.samples]
        return [sum(sample.value for sample in samples if sample.name == name) for name in names]

    def redacted(self, text: str) -> str:
        """A text without the API key."""
        return text.replace(self.key, "[redacted]") if self.key else text

    def close(self) -> None:
        """Drop the connections to it."""
        self._exchange.close()


class ContainerServer(Server):
    """A server in a container, which can also be watched and ended.

    Args:
        container: The container; it need not run yet.
        key: The API key that it was given.
        model: What it was told to call its model.
    """

    def __init__(self, container: DockerContainer, *, key: str, model: str) -> None:
        super().__init__(url="", key=key)
        self.model = model
        self._container = container
        self.address: tuple[str, int] | None = None
        """Host and port where it is reached from this machine, once that is known."""
        self.started = 0.0
        """When it was started, on the monotonic clock."""
        self.healthy_s = 0.0
        """Seconds from the start to the first healthy answer."""
        self.terminated = False
        """Whether it was told to end."""

    @property
    def _wrapped(self) -> Container:
        return self._container.get_wrapped_container()

    @property
    def container(self) -> Container:
        """The container that it runs in."""
        return self._wrapped

    @property
    def url(self) -> str:
        """Its address, without a path.

        Raises:
            KeyError: It does not run.
        """
        if self.address is None:
            raise KeyError(PORT)
        return "http://{}:{}".format(*self.address)

    def log(self, *, tail: int | None = None, timestamps: bool = False) -> str:
        """What it printed, as far as that is kept, the API key blacked out.

        Args:
            tail: How many of the last lines; all by default.
            timestamps: Whether each line begins with the engine's time, as RFC 3339 has it with nine digits, and a
                space.
        """
        said = confinement.printed(self._wrapped, tail=tail, timestamps=timestamps)
        return self.redacted(said.decode(errors="replace"))

    def tells_key(self) -> list[str]:
        """Forms of its API key that it printed, in words."""
        text = confinement.printed(self._wrapped)
        forms = {"as it is": self.key.encode(), "in hexadecimal": self.key.encode().hex().encode()}
        # What base64 makes of the key's middle bytes hangs on how many are before it.
        for before in range(3):
            encoded = base64.b64encode(b"x" * before + self.key.encode())
            forms[f"in base64, shifted by {before}"] = encoded[4:-4]
        return [form for form, looks in forms.items() if looks in text]

    def kill(self) -> None:
        """End it at once: from then on it prints nothing."""
        with contextlib.suppress(docker.errors.APIError):  # it has ended
            self._wrapped.kill()

    def end_engine(self, pythons: Sequence[str]) -> bool:
        """Have the engine of vLLM killed within a moment, and nothing else; return whether it has its own process.

        Args:
            pythons: What the image's Python may be called.
        """
        words = ["-I", "-S", "-c", _END_ENGINE.read_text(encoding="utf-8")]
        return any(self._succeeds([python, *words]) for python in pythons)

    def _succeeds(self, words: Sequence[str]) -> bool:
        """Run a program in the container, without a connection to it; return whether it ended with 0 in time."""
        assert self._wrapped.client is not None, "it was started by one"
        api = self._wrapped.client.api
        deadline = time.monotonic() + self.answer_s
        try:
            number = api.exec_create(self._wrapped.id, [*words], stdout=False, stderr=False)["Id"]
            api.exec_start(number, detach=True)
            while (status := api.exec_inspect(number)["ExitCode"]) is None and time.monotonic() < deadline:
                time.sleep(POLL_S)
        except docker.errors.APIError:  # there is no such program, or no longer a container
            return self.exit_code() is not None
        return bool(status == 0)

    def exit_code(self, *, within: float = 0.0) -> int | None:
        """How it ended, None if it still runs.

        Args:
            within: Seconds to wait for its end.
        """
        deadline = time.monotonic() + within
        while True:
            self._wrapped.reload()
            state = self._wrapped.attrs["State"]
            if state["Status"] not in ("created", "running"):
                return int(state["ExitCode"])
            if time.monotonic() >= deadline:
                return None
            time.sleep(POLL_S)

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel killed it for memory, as of the last :meth:`exit_code`."""
        return bool(self._wrapped.attrs["State"]["OOMKilled"])

    def terminate(self, *, within: float) -> int | None:
        """Send SIGTERM.

        Args:
            within: Seconds to wait for its end.

        Returns:
            How it ended, None if it still runs then.
        """
        self.terminated = True
        self._wrapped.kill(signal="SIGTERM")
        return self.exit_code(within=within)
