"""What a server's log says of a request that went wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from smoke.diagnosis.request import exception_since

ASKED = datetime(2026, 11, 26, 0, 42, 10, 500_000, tzinfo=UTC).timestamp()

BEFORE = """\
Traceback (most recent call last):
  File "a.py", line 1, in before
ValueError: of another request"""

REPORTED = """\
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7] Error in the request
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7] Traceback (most recent call last):
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7]   File "a.py", line 1, in asked
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7] KeyError: 'first'
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7]
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7] The above exception was the direct cause of the following exception:
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7]
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7] Traceback (most recent call last):
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7]   File "a.py", line 2, in asked
(APIServer pid=1) ERROR 11-26 00:42:11 [a.py:7] RuntimeError: second
(APIServer pid=1) INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 500 Internal Server Error"""

# As uvicorn prints what an application raises: after it has answered.
DROPPED = """\
(APIServer pid=1) INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 500 Internal Server Error
(APIServer pid=1) ERROR:    Exception in ASGI application
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "a.py", line 1, in asked
(APIServer pid=1) KeyError: 'first'"""


def stamped(text: str, second: int) -> str:
    return "".join(f"2026-11-26T00:42:{second:02}.123456789Z {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(("said", "number"), [(REPORTED, 7), (DROPPED, 8)], ids=["reported", "dropped"])
def test_first_exception_since_the_request(said: str, number: int) -> None:
    found = exception_since(stamped(BEFORE, 10) + stamped(said, 11), ASKED)
    assert found is not None
    assert found[0] == number
    assert found[1].endswith("KeyError: 'first'")


def test_what_another_request_raised_before_is_not_taken_for_it() -> None:
    said = 'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 400 Bad Request'
    assert exception_since(stamped(BEFORE, 10) + stamped(said, 11), ASKED) is None
    assert exception_since(stamped(BEFORE, 10), ASKED) is None
    assert exception_since("", ASKED) is None
