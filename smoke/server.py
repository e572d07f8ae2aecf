"""The server under test: one that can be spoken to, and, in a container, watched."""

from __future__ import annotations

import functools
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import requests
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from docker.models.containers import Container
    from prometheus_client import Metric
    from testcontainers.core.container import DockerContainer

PORT = 8000
"""vLLM's default (vllm/entrypoints/launchers/cli_args.py, 0.32.0)."""

TAIL_LINES = 40
"""How much of a log is shown of a server that failed."""

POLL_S = 0.25

_LOAD = ("vllm:num_requests_running", "vllm:num_requests_waiting")

_ANSWER_TIMEOUT_S = 1.0
_REQUEST_TIMEOUT_S = 60.0


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
        self._requests = requests.Session()
        # A proxy from the environment has no business between us and a server under test.
        self._requests.trust_env = False
        self.key = key

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

    @functools.cached_property
    def _card(self) -> dict[str, Any]:
        cards: list[dict[str, Any]] = self.get("/v1/models").json()["data"]
        return cards[0]

    def get(self, route: str, *, authorized: bool = True, timeout: float = _REQUEST_TIMEOUT_S) -> requests.Response:
        """GET a route.

        Args:
            route: Its path.
            authorized: Whether to send the API key.
            timeout: Seconds to wait for each part of the answer.
        """
        headers = self._headers if authorized else {}
        return self._requests.get(self.url + route, headers=headers, timeout=timeout)

    def post(self, route: str, document: dict[str, Any]) -> requests.Response:
        """POST a JSON document to a route with the API key."""
        return self._requests.post(self.url + route, json=document, headers=self._headers, timeout=_REQUEST_TIMEOUT_S)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def healthy(self) -> bool:
        """Whether it answers ``/health`` with 200 within a second."""
        try:
            return self.get("/health", timeout=_ANSWER_TIMEOUT_S).status_code == HTTPStatus.OK
        except (requests.RequestException, KeyError):
            return False

    def metrics(self) -> list[Metric]:
        """What ``/metrics`` says.

        Raises:
            ValueError: It is not in Prometheus' text format.
        """
        answer = self.get("/metrics")
        if not answer.ok:
            raise ValueError(f"/metrics answered {answer.status_code}")
        return list(text_string_to_metric_families(answer.text))

    def load(self) -> float:
        """How many requests it works on or keeps waiting (vllm/v1/metrics/loggers.py, 0.32.0)."""
        found = [metric for metric in self.metrics() if metric.name in _LOAD]
        return sum(sample.value for metric in found for sample in metric.samples)

    def redacted(self, text: str) -> str:
        """A text without the API key."""
        return text.replace(self.key, "[redacted]") if self.key else text

    def close(self) -> None:
        """Drop the connections to it."""
        self._requests.close()


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

    def published(self) -> int | None:
        """Its port on the loopback interface of the engine's machine; None if it does not run."""
        self._wrapped.reload()
        bound = self._wrapped.attrs["NetworkSettings"]["Ports"].get(f"{PORT}/tcp")
        return int(bound[0]["HostPort"]) if bound else None

    def log(self, *, tail: int | None = None) -> str:
        """What it printed, the API key blacked out.

        Args:
            tail: How many of the last lines; all by default.
        """
        raw = self._wrapped.logs(stdout=True, stderr=True, tail="all" if tail is None else tail)
        return self.redacted(raw.decode(errors="replace"))

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
