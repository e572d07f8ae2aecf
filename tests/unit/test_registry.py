"""Asking a registry, with a small one on loopback."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from build.errors import RegistryError
from build.registry import client, refusal
from build.registry.client import Registry
from build.registry.repository_name import RepositoryName
from tests.standin.tls import make_certificates
from tests.unit.fakes import FakeRegistry
from tests.unit.loopback import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.loopback import Asked

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


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    make_certificates(tmp_path / "certificates")
    return tmp_path / "certificates"


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


@pytest.mark.parametrize(
    "changes",
    [
        {"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []},
        {"mediaType": "application/vnd.docker.distribution.manifest.list.v2+json"},
        {"manifests": [{"digest": IMAGE}]},
        {"mediaType": "application/vnd.example"},
    ],
)
def test_a_list_of_images_is_no_image_whatever_its_configuration(
    registry: Registry, served: FakeRegistry, changes: dict[str, Any]
) -> None:
    served.put("nightly", IMAGE, **changes)
    manifest = registry.manifest("nightly")
    assert manifest is not None
    assert manifest.config == IMAGE
    assert not manifest.is_of_one_image


def test_layers_that_are_gone(registry: Registry, served: FakeRegistry) -> None:
    served.lost.add("sha256:0")
    assert [registry.has_blob(digest) for digest in ("sha256:0", "sha256:1")] == [False, True]


def test_where_a_layer_is_stored_is_not_visited() -> None:
    away = Answer(status=307, headers={"Location": "http://storage.invalid/"})
    with serving(lambda _asked: away) as address:
        assert Registry(RepositoryName(host=address, path="x")).has_blob("sha256:0")


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


def test_one_that_says_when_to_ask_again_is_asked_then(pauses: list[float]) -> None:
    answers = [Answer(status=429, headers={"Retry-After": "7"}), Answer(body=b"{}")]
    with serving(lambda _asked: answers.pop(0)) as address:
        Registry(RepositoryName(host=address, path="x")).require_reachable()
    assert pauses == [7.0]


def test_one_that_says_to_ask_tomorrow_is_not_waited_for(pauses: list[float]) -> None:
    later = Answer(status=429, headers={"Retry-After": "86400"})
    with (
        serving(lambda _asked: later) as address,
        pytest.raises(RegistryError, match="status 429, try again after 86400 s") as caught,
    ):
        Registry(RepositoryName(host=address, path="x")).require_reachable()
    assert pauses == []
    assert not caught.value.may_pass


@pytest.mark.parametrize("slow", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"])
def test_one_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch, slow: bytes) -> None:
    monkeypatch.setattr(client, "_REQUEST_S", 0.3)
    with dripping(slow) as address, pytest.raises(RegistryError, match=r"no answer within 0\.3 s"):
        Registry(RepositoryName(host=address, path="x")).manifest("nightly")


_DRIPS = 200


@contextlib.contextmanager
def dripping(words: bytes) -> Iterator[str]:
    """A server that says something, and then a byte now and then, for longer than it may be listened to."""
    over = threading.Event()

    def drip(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.sendall(words)
            # It ends at some time, so that whoever listens to the end fails and does not hang.
            for _ in range(_DRIPS):
                if over.wait(0.05):
                    break
                client.sendall(b"X")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_manifest_is_not_read(*, packed: bool) -> None:
    body = gzip.compress(bytes(50 << 20)) if packed else bytes(5 << 20)
    answer = Answer(body=body, headers={"Content-Encoding": "gzip"} if packed else {})
    with (
        serving(lambda _asked: answer) as address,
        pytest.raises(RegistryError, match="answers GET /v2/x/manifests/nightly with more than 4 MiB"),
    ):
        Registry(RepositoryName(host=address, path="x")).manifest("nightly")


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
        with pytest.raises(RegistryError, match="does not serve a manifest under nightly"):
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


def test_an_identity_token_is_exchanged_at_the_realm(
    registry: Registry, served: FakeRegistry, isolated: Path, address: str
) -> None:
    served.token, served.refresh = "t0ken", "REFRESH"
    with pytest.raises(RegistryError, match="refuses access"):
        registry.manifest("nightly")
    write_login(isolated, address, {"identitytoken": "REFRESH"})
    assert registry.manifest("nightly") is not None


def write_login(home: Path, address: str, entry: object) -> None:
    (home / "docker").mkdir()
    (home / "docker/config.json").write_text(json.dumps({"auths": {address: entry}}))


def test_a_trouble_with_the_stored_login_is_told_when_it_is_missed(
    registry: Registry, served: FakeRegistry, isolated: Path, address: str
) -> None:
    write_login(isolated, address, {"auth": "!"})
    assert registry.manifest("nightly") is not None
    served.basic = LOGIN
    with pytest.raises(RegistryError, match=rf"refuses access to team/llm-d-dev: the entry of {address} in "):
        registry.manifest("nightly")


def test_the_netrc_is_not_used(registry: Registry, served: FakeRegistry, isolated: Path) -> None:
    (isolated / ".netrc").write_text("machine 127.0.0.1 login me password word\n")
    (isolated / ".netrc").chmod(0o600)
    with registry._exchange._session("http://127.0.0.1") as kept:
        kept.trust_env = True
    served.basic = LOGIN
    with pytest.raises(RegistryError, match="refuses access"):
        registry.manifest("nightly")


@pytest.mark.parametrize("realm", ["http://elsewhere.invalid/token", "ftp://127.0.0.1/token", "127.0.0.1/token", ""])
def test_credentials_go_to_no_other_host_in_the_clear(
    registry: Registry, served: FakeRegistry, log_in: Callable[[], None], realm: str
) -> None:
    served.token, served.realm = "t0ken", realm
    log_in()
    with pytest.raises(RegistryError, match=r"neither https nor its own host|refuses access"):
        registry.manifest("nightly")


def test_a_redirection_to_another_host_takes_no_credentials_along(
    registry: Registry, served: FakeRegistry, log_in: Callable[[], None]
) -> None:
    elsewhere: list[Asked] = []

    def store(asked: Asked) -> Answer:
        elsewhere.append(asked)
        return Answer(body=b"{}")

    served.basic = LOGIN
    log_in()
    registry.require_reachable()
    with serving(store) as there:
        served.moved = f"http://localhost:{there.rpartition(':')[2]}/blob"
        assert registry.blob("sha256:0") == {}
    assert "Authorization" not in elsewhere[0].headers


BOTH = ["basic", "bearer"]


@pytest.mark.parametrize(
    ("header", "schemes"),
    [
        (
            'Basic realm="a", Bearer realm="b",service="c,d e=f",scope="repository:x:pull,push,delete"',
            ["basic", "bearer"],
        ),
        ("Bearer realm=b,service=c", ["bearer"]),
        ("Negotiate, Basic realm=a", ["negotiate", "basic"]),
        ("", []),
    ],
)
def test_several_challenges_in_one_header(header: str, schemes: list[str]) -> None:
    challenges = refusal.challenges(header)
    assert list(challenges) == schemes
    if "bearer" in challenges:
        assert challenges["bearer"]["realm"] == "b"
    if "scope" in challenges.get("bearer", {}):
        assert challenges["bearer"]["scope"] == "repository:x:pull,push,delete"


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("unauthorized: authentication required", "docker login"),
        ("denied: requested access to the resource is denied", "docker login"),
        ("no basic auth credentials", "docker login"),
        ("denied: adding 3.9 GiB of storage resource will exceed the configured upper limit", "quota"),
        ("error parsing HTTP 413 response body: <html>413 Request Entity Too Large", "request size limit"),
        (
            "tag invalid: The image tag 'nightly' cannot be overwritten because the repository is immutable",
            "allow this tag",
        ),
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("x509: certificate signed by unknown authority", "trust its certificate"),
        ("toomanyrequests: retry-after: 1ms", "try again"),
        ("received unexpected HTTP status: 502 Bad Gateway", "try again"),
        ("blob upload unknown", "check"),
        ("manifest invalid: manifest invalid", "check"),
    ],
)
def test_a_login_is_advised_only_where_one_helps(said: str, word: str) -> None:
    hint = refusal.advice(said, "r.example")
    assert word in hint
    assert ("docker login" in hint) == (word == "docker login")


def test_a_refusal_for_another_reason_says_the_reason() -> None:
    errors = {"errors": [{"code": "DENIED", "message": "would exceed the quota"}]}
    with (
        serving(lambda _asked: Answer(status=403, body=json.dumps(errors).encode())) as address,
        pytest.raises(RegistryError, match="refuses access to x: denied: would exceed the quota") as caught,
    ):
        Registry(RepositoryName(host=address, path="x")).require_reachable()
    assert "docker login" not in caught.value.hint


def test_forbidden_is_told_like_unauthorized(registry: Registry, served: FakeRegistry) -> None:
    served.failures.append(403)
    with pytest.raises(RegistryError, match="refuses access"):
        registry.manifest("nightly")


# --- Without TLS that is verified --------------------------------------------------------------------------


def named(address: str) -> RepositoryName:
    """A name that is not a loopback address, and leads to one."""
    return RepositoryName(host=address.replace("127.0.0.1", "0x7f.1"), path="x")


def test_what_the_engine_calls_insecure_is_spoken_to_without_tls(address: str) -> None:
    registry = Registry(named(address), insecure=True)
    assert registry.manifest("nightly") is not None
    assert registry.manifest("nightly") is not None


def test_other_registries_are_not(address: str) -> None:
    with pytest.raises(RegistryError, match="does not answer") as caught:
        Registry(named(address)).require_reachable()
    assert "insecure-registries" in caught.value.hint


@pytest.mark.parametrize("name", ["127.0.0.1", "0x7f.1"])
def test_tls_of_an_insecure_registry_is_not_verified(served: FakeRegistry, certificates: Path, name: str) -> None:
    with serving(served, certificates=certificates) as address:
        host = address.replace("127.0.0.1", name)
        assert Registry(RepositoryName(host=host, path="x"), insecure=True).manifest("nightly") is not None


def test_a_registry_of_this_machine_is_not_asked_through_a_proxy(
    address: str, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{nowhere}")
    monkeypatch.setenv("http_proxy", f"http://{nowhere}")
    Registry(RepositoryName(host=address, path="x")).require_reachable()
