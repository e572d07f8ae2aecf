"""What is kept out of everything that is written down."""

from __future__ import annotations

import pytest

from build.host.secrets import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:word@proxy:3128/x", "http://[redacted]@proxy:3128/x"),
        ("https://word@host, https://other@host", "https://[redacted]@host, https://[redacted]@host"),
        ("HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz012345 x", "HF_TOKEN=[redacted] x"),
        ("authorization: Bearer sk-0123456789abcdefghij", "authorization: Bearer [redacted]"),
    ],
)
def test_secret(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text", ["http://host:80/a@b", "me@host", "hf_hub_download", "hf_config.json", "the bearer of it", "Bearer key"]
)
def test_what_is_none(text: str) -> None:
    assert redacted(text) == text
