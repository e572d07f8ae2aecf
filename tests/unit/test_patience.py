"""What is tried again, and what is not."""

from __future__ import annotations

import pytest

from build.errors import BuildError, GateError, LlmdDevError, RegistryError
from build.host import retry


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.0)


@pytest.mark.parametrize(
    "words",
    [
        "dial tcp: lookup quay.io on 10.0.0.2:53: no such host",
        "received unexpected HTTP status: 503 Service Unavailable",
        "toomanyrequests: You have reached your unauthenticated pull rate limit",
        "429 Too Many Requests",
        "net/http: TLS handshake timeout",
        "read tcp 10.0.0.1:44->1.1.1.1:443: read: connection reset by peer",
        "E: Failed to fetch http://x Temporary failure resolving 'mirror.example'",
        "error: Request failed after 3 retries: error sending request for url",
        "#12 ERROR: failed to copy: httpReadSeeker: failed open: unexpected status: 502 Bad Gateway",
    ],
)
def test_what_can_get_better(words: str) -> None:
    assert retry.can_get_better(words)


@pytest.mark.parametrize(
    "words",
    [
        "unauthorized: access to the requested resource is not authorized",
        "denied: requested access to the resource is denied",
        "manifest invalid",
        "csrc/a.cu(503): error: identifier is undefined",
        "[429/503] Building CXX object",
        "no space left on device",
        "exit code: 1",
        "x509: certificate signed by unknown authority",
    ],
)
def test_what_cannot(words: str) -> None:
    assert not retry.can_get_better(words)


def failing(*errors: LlmdDevError | None) -> tuple[list[str], LlmdDevError | None]:
    """Lines that are said, and how it ends, when attempts fail with these errors in turn."""
    left, said = list(errors), list[str]()

    def work() -> None:
        if error := left.pop(0):
            raise error

    try:
        retry.patiently(work, say=said.append)
    except LlmdDevError as error:
        return said, error
    return said, None


def test_it_is_tried_again_and_said() -> None:
    said, error = failing(RegistryError("503", hint="x", may_pass=True), None)
    assert error is None
    assert said == ["attempt 1 of 3 failed (503); the next one in 0 s"]


def test_not_for_ever() -> None:
    errors = [BuildError(str(number), hint="x", may_pass=True) for number in range(3)]
    said, error = failing(*errors, None)
    assert (len(said), error) == (2, errors[-1])


def test_what_stays_as_it_is_fails_at_once() -> None:
    refused = GateError("not what was tested", hint="x")
    assert failing(refused, None) == ([], refused)
