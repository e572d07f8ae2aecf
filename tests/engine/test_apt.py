"""What this machine's package sources really offer; nothing is installed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build.engine import embedded
from build.host import apt as packages
from build.host import process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.host.apt import Apt

ROOT = Path("/")
HERE = packages.release(ROOT)

pytestmark = pytest.mark.skipif(
    not HERE.has_apt or os.geteuid() != 0, reason="only root on Debian or Ubuntu can have packages installed"
)


def snapshot() -> dict[Path, int]:
    """The machine's own configuration and lists of apt, with the times of their last change."""
    folders = (Path("/etc/apt"), Path("/var/lib/apt/lists"))
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.glob("**/*")}


@pytest.fixture(scope="module")
def apt() -> Iterator[Apt]:
    """Private lists, fresh; in the end the machine's own must be as they were."""
    before = snapshot()
    with packages._private_apt(ROOT, HERE) as apt:
        assert apt.get("update", report=lambda _line: None).returncode == 0
        yield apt
    assert snapshot() == before


_VERSION = re.compile(r"^ (?:\*{3}|   ) (\S+) (-?\d+)$", re.MULTILINE)
"""A version and its priority in what ``apt-cache policy`` prints."""


def policy(apt: Apt, package: str) -> str:
    return process.run(["apt-cache", *apt.options, "policy", package]).text


def test_the_engine_offered_is_new_enough_for_cdi(apt: Apt) -> None:
    candidate = re.search(r"Candidate: (\d+)\.", policy(apt, "docker.io"))
    assert candidate is not None
    assert int(candidate[1]) >= embedded._OLDEST


def test_everything_that_may_be_missing_is_offered(apt: Apt) -> None:
    wanted = {*embedded.PACKAGES, "mmdebstrap", "docker-registry"} - {packages._CLIENT}
    assert [package for package in wanted if not apt.knows(package)] == []
    assert not apt.knows("llm-d-dev-no-such-package")


@pytest.mark.skipif(not HERE.borrows, reason="this release has a new enough engine of its own")
@pytest.mark.parametrize("package", ["libc6", "containerd", "iptables"])
def test_nothing_but_what_is_borrowed_comes_from_the_lender(apt: Apt, package: str) -> None:
    text = policy(apt, package)
    candidate = re.search(r"Candidate: (\S+)", text)
    assert candidate is not None
    priorities = {version: int(number) for version, number in _VERSION.findall(text)}
    assert priorities[candidate[1]] > 0
    # The lender's version is known, and kept out.
    assert -1 in priorities.values()
