"""Asking a registry, with a small one on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from build.errors import RegistryError
from build.registry import Registry, RepositoryName
from tests.unit.fakes import FakeRegistry
from tests.unit.loopback import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMAGE = f"sha256:{'a' * 64}"
LOGIN = "Basic " + base64.b64encode(b"me:word").decode()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited between attempts."""
    waited: list[float] = []
    monkeypatch.setattr(Registry._ask.retry, "sleep", waited.append)
    return waited


@pytest.fixture
def served() -> FakeRegistry:
    registry = FakeRegistry()
    registry.put("nightly", IMAGE)
    return registry


@pytest.fixture
def address(served: FakeRegistry) -> Iterator[str]:
    with serving(served) as address:
        yield address


@pytest.fixture
def registry(address: str) -> Registry:
    return Registry(RepositoryName(host=address, path="team/llm-d-dev"))


@pytest.fixture
def log_in(isolated: Path, address: str) -> Callable[[], None]:
    """What `docker login` leaves behind."""

    def log_in() -> None:
        (isolated / "docker").mkdir()
        stored = {"auths": {address: {"auth": base64.b64encode(b"me:word").decode()}}}
        (isolated / "docker/config.json").write_text(json.dumps(stored))

    return log_in


# --- Names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("quay.io/tms/llm-d-dev", "https://quay.io/v2"),
        ("127.0.0.1:5000/llm-d-dev", "http://127.0.0.1:5000/v2"),
        ("localhost:5000/x", "http://localhost:5000/v2"),
        ("registry.example:5000/x", "https://registry.example:5000/v2"),
        ("localhost.example/x", "https://localhost.example/v2"),
        ("docker.io/library/x", "https://registry-1.docker.io/v2"),
    ],
)
def test_only_this_machine_is_spoken_to_without_tls(name: str, address: str) -> None:
    parsed = RepositoryName.parse(name)
    assert parsed.address == address
    assert str(parsed) == name


# --- Manifests ---------------------------------------------------------------------------------------------


def test_a_manifest_is_described(registry: Registry, served: FakeRegistry) -> None:
    manifest = registry.manifest("nightly")
    assert manifest is not None
    assert manifest.digest == f"sha256:{hashlib.sha256(served.manifests['nightly']).hexdigest()}"
    assert (manifest.config, manifest.size) == (IMAGE, 1234)
    assert served.asked == ["/v2/team/llm-d-dev/manifests/nightly"]


def test_a_tag_that_is_not_there(registry: Registry) -> None:
    assert registry.manifest("local-0") is None


def test_an_index_of_several_images_has_no_configuration(registry: Registry, served: FakeRegistry) -> None:
    served.manifests["several"] = json.dumps({"manifests": [{"digest": IMAGE}]}).encode()
    manifest = registry.manifest("several")
    assert manifest is not None
    assert manifest.config is None


# --- Failures ----------------------------------------------------------------------------------------------


def test_a_registry_that_stumbles_is_asked_again(registry: Registry, served: FakeRegistry, pauses: list[float]) -> None:
    served.failures += [500, 429]
    assert registry.manifest("nightly") is not None
    assert pauses == [0.5, 1.0]


def test_one_that_keeps_stumbling_is_given_up(registry: Registry, served: FakeRegistry, pauses: list[float]) -> None:
    served.failures += [503] * 10
    with pytest.raises(RegistryError, match="does not answer: status 503") as caught:
        registry.manifest("nightly")
    assert caught.value.exit_code == 7
    assert len(pauses) == 2


@pytest.mark.parametrize("status", [400, 405, 418])
def test_other_errors_are_final(registry: Registry, served: FakeRegistry, pauses: list[float], status: int) -> None:
    served.failures.append(status)
    with pytest.raises(RegistryError, match=f"answers {status}"):
        registry.manifest("nightly")
    assert pauses == []


def test_one_that_is_down_is_named(address: str, pauses: list[float]) -> None:
    with serving(FakeRegistry()) as gone:
        pass
    assert gone != address
    with pytest.raises(RegistryError, match=f"registry {gone} does not answer: connection refused") as caught:
        Registry(RepositoryName(host=gone, path="x")).require_reachable()
    assert "engine up" in caught.value.hint
    assert pauses == []


@pytest.mark.parametrize("status", [404, 501])
def test_what_is_no_registry_is_noticed_before_long_work(status: int) -> None:
    with (
        serving(lambda _asked: Answer(status=status)) as address,
        pytest.raises(RegistryError, match=f"{status}") as caught,
    ):
        Registry(RepositoryName(host=address, path="x")).require_reachable()
    assert "check" in caught.value.hint


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b'"x"', b'{"layers": [{}]}', b""])
def test_a_website_that_answers_everything_serves_no_manifest(body: bytes) -> None:
    with serving(lambda _asked: Answer(body=body)) as address:
        registry = Registry(RepositoryName(host=address, path="x"))
        with pytest.raises(RegistryError, match="serves no manifest under nightly"):
            registry.manifest("nightly")


# --- Who may -----------------------------------------------------------------------------------------------


def test_a_token_is_fetched_where_one_is_asked_for(registry: Registry, served: FakeRegistry) -> None:
    served.token = "t0ken"  # noqa: S105 - nobody's
    assert registry.manifest("nightly") is not None
    assert served.asked[1] == "/token?service=here&scope=repository%3Ax%3Apull"
    served.asked.clear()
    assert registry.manifest("nightly") is not None
    assert len(served.asked) == 1


def test_a_token_that_ran_out_is_renewed(registry: Registry, served: FakeRegistry) -> None:
    served.token = "old"  # noqa: S105 - nobody's
    registry.require_reachable()
    served.token = "new"  # noqa: S105 - nobody's
    assert registry.manifest("nightly") is not None


def test_a_token_needs_the_stored_login(registry: Registry, served: FakeRegistry, log_in: Callable[[], None]) -> None:
    served.token, served.login = "t0ken", LOGIN
    with pytest.raises(RegistryError, match="refuses access to team/llm-d-dev") as caught:
        registry.manifest("nightly")
    assert "docker login" in caught.value.hint
    log_in()
    assert registry.manifest("nightly") is not None


def test_a_plain_password_is_enough_for_some(
    registry: Registry, served: FakeRegistry, log_in: Callable[[], None]
) -> None:
    served.basic = LOGIN
    with pytest.raises(RegistryError, match="refuses access"):
        registry.require_reachable()
    log_in()
    registry.require_reachable()


def test_a_challenge_that_nobody_can_meet(registry: Registry, served: FakeRegistry) -> None:
    served.failures.append(401)
    with pytest.raises(RegistryError, match="refuses access"):
        registry.require_reachable()


def test_forbidden_is_told_like_unauthorized(registry: Registry, served: FakeRegistry) -> None:
    served.failures.append(403)
    with pytest.raises(RegistryError, match="refuses access"):
        registry.manifest("nightly")


def test_a_registry_of_this_machine_is_not_asked_through_a_proxy(
    address: str, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{nowhere}")
    monkeypatch.setenv("http_proxy", f"http://{nowhere}")
    Registry(RepositoryName(host=address, path="x")).require_reachable()
