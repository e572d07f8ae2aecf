"""Docker's SDK and an image registry, as far as this tool asks them for anything.

The engine's own code runs: only the client that it talks through is another.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, cast

import docker.errors

from build.config import settings
from build.console import Console
from build.context import Context
from build.engine import content, labels
from build.engine.capabilities import Capabilities
from build.engine.client import Engine
from build.engine.image import Image
from build.engine.names import Upload
from build.host import processor
from tests.unit.loopback import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.unit.loopback import Asked


IMAGE_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def context_of(folder: Path, engine: Engine | None = None, *, quiet: bool = False, **overrides: object) -> Context:
    """A verb's context with folders of its own, and an engine in place of the one that is looked for."""
    folders = {"state": folder / "state", "cache": folder / "cache"}
    made = Context(settings=settings.load({**folders, **overrides}), console=Console(quiet=quiet))
    if engine is not None:
        vars(made)["engine"] = engine
    return made


CAPABILITIES = Capabilities(
    server_version="26.1",
    api_version="1.45",
    buildkit=True,
    nvidia_runtime=False,
    cdi=False,
    cdi_gpus=False,
    storage_driver="overlay2",
    takes_thin_images=True,
    root_dir="/var/lib/docker",
    cpus=2,
    memory_bytes=1,
)
"""What a plain engine can do: no GPU, no CDI."""


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(kw_only=True)
class FakeContainer:
    """A container that can be looked into and removed."""

    labels: Mapping[str, str]
    name: str = ""
    short_id: str = "0123456789ab"
    removed: bool = False
    refuses: docker.errors.APIError | None = None
    archives: Mapping[str, bytes] = field(default_factory=dict)

    def remove(self, *, force: bool, v: bool) -> None:
        assert force
        assert v
        if self.refuses:
            raise self.refuses
        self.removed = True

    def get_archive(self, path: str) -> tuple[Iterator[bytes], dict[str, Any]]:
        if path not in self.archives:
            raise docker.errors.NotFound(path)
        return (part for part in [self.archives[path]]), {}


IMAGE = Image(
    id="sha256:" + "1" * 64,
    tags=(),
    digests=(),
    labels={},
    diff_ids=("sha256:" + "2" * 64,),
    size=1,
    created="",
    config={},
)
"""One of which nothing matters."""


def _refuse(_name: str) -> list[dict[str, Any]]:
    raise docker.errors.APIError("500 Server Error", explanation="lookup hub.example: no such host")


@dataclass(kw_only=True)
class FakeDocker:
    """What the SDK's client knows: images by ID, IDs by name, containers.

    Attributes:
        pulls: What happens when a name is pulled: gives the rows of the transfer. No registry answers by default.
        imports: What happens when an archive becomes an image: gives the rows of the answer.
        pushes: What happens to an upload: takes name and image ID, gives the rows of the transfer.
        archives: Tar archives of the folders that containers have, by path.
        loads: Called while an image is loaded.
        used: IDs of images that containers use.
        cache_prunes: How the build cache was pruned, each time.
        logins: What was given along with each push.
        about: What the engine says of itself.
    """

    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    running: list[FakeContainer] = field(default_factory=list)
    pulls: Callable[[str], list[dict[str, Any]]] = _refuse
    imports: Callable[[str], list[dict[str, Any]]] = lambda _: []
    pushes: Callable[[str, str], Iterable[dict[str, Any]]] = lambda _name, _id: []
    archives: dict[str, bytes] = field(default_factory=dict)
    loads: Callable[[], None] = lambda: None
    used: set[str] = field(default_factory=set)
    cache_prunes: list[dict[str, Any]] = field(default_factory=list)
    logins: list[Mapping[str, str] | None] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=lambda: {"Architecture": processor.here()})

    def info(self) -> Mapping[str, Any]:
        return self.about

    def keep_digest(self, image_id: str, name: str) -> None:
        """Remember ``repository@digest`` of a manifest that was pushed or pulled."""
        self.known[image_id].setdefault("RepoDigests", []).append(name)

    @property
    def images(self) -> SimpleNamespace:
        return SimpleNamespace(get=self._get, load=self._load)

    @property
    def containers(self) -> SimpleNamespace:
        return SimpleNamespace(
            list=lambda **_: [one for one in self.running if labels.OWNER in one.labels], create=self._create
        )

    @property
    def api(self) -> SimpleNamespace:
        return SimpleNamespace(
            images=self._list,
            tag=self._tag,
            remove_image=self._untag,
            push=self._push,
            pull=lambda repository, *, tag, **_: iter(self.pulls(f"{repository}:{tag}")),
            remove_container=self._remove,
            import_image_from_data=self._import,
            import_image=lambda *, src, repository, tag, changes: "".join(  # noqa: ARG005
                f"{json.dumps(row)}\n" for row in self.imports(f"{repository}:{tag}")
            ),
            containers=lambda **_: [{"ImageID": image_id} for image_id in self.used],
            df=lambda: {"LayersSize": sum(attrs["Size"] for attrs in self.known.values())},
            prune_builds=self._prune_builds,
        )

    def _get(self, reference: str) -> SimpleNamespace:
        image_id = self.names.get(reference, reference)
        if image_id not in self.known:
            raise docker.errors.ImageNotFound(reference)
        names = [name for name, held in self.names.items() if held == image_id]
        return SimpleNamespace(attrs={**self.known[image_id], "RepoTags": names}, history=list)

    def _load(self, archive: Iterable[bytes]) -> None:
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
            files = {member.name: cast("IO[bytes]", tar.extractfile(member)).read() for member in tar}
        self.loads()
        (image,) = json.loads(files["manifest.json"])
        config = json.loads(files[image["Config"]])
        image_id = digest(files[image["Config"]].decode())
        self.known[image_id] = {
            "Id": image_id,
            "Config": config["config"],
            "RootFS": {"Layers": config["rootfs"]["diff_ids"]},
            "Size": len(files[image["Layers"][-1]]),
            "Created": config["created"],
        }
        self.names |= dict.fromkeys(image["RepoTags"], image_id)

    def _create(
        self, image_id: str, *, command: list[str], name: str, labels: Mapping[str, str], log_config: Mapping[str, Any]
    ) -> FakeContainer:
        assert image_id in self.known
        assert command
        assert log_config["Config"]["max-size"], "what a container prints has an end"
        container = FakeContainer(name=name, labels=labels, archives=self.archives)
        self.running.append(container)
        return container

    def _remove(self, name: str, *, force: bool, v: bool) -> None:
        found = [one for one in self.running if one.name == name]
        if not found:
            raise docker.errors.NotFound(name)
        found[0].remove(force=force, v=v)

    def _list(self, *, name: str = "", filters: Mapping[str, list[str]] | None = None) -> list[dict[str, Any]]:
        wanted = [word.partition("=") for word in (filters or {}).get("label", ())]
        found = []
        for image_id, attrs in self.known.items():
            marks = attrs["Config"].get("Labels", {})
            tags = [
                tag for tag, held in self.names.items() if held == image_id and tag.startswith(f"{name}:" * bool(name))
            ]
            fits = all(key in marks and (not equals or marks[key] == value) for key, equals, value in wanted)
            if fits and (tags or not name):
                found.append({"Id": image_id, "RepoTags": tags or None})
        return found

    def _tag(self, image: str, repository: str, tag: str) -> None:
        image_id = self.names.get(image, image)
        assert image_id in self.known
        self.names[f"{repository}:{tag}"] = image_id

    def _untag(self, name: str, *, noprune: bool) -> None:
        """As the engine has it: an image goes with its last name, or by its ID if it has none."""
        assert noprune
        image_id = self.names.pop(name, name)
        if image_id not in self.known:
            raise docker.errors.ImageNotFound(name)
        if image_id not in self.names.values():
            del self.known[image_id]

    def _import(self, data: bytes, repository: str, tag: str) -> None:
        assert not data.strip(b"\0")
        name = f"{repository}:{tag}"
        self.known[digest(name)] = {"Id": digest(name), "Config": {}, "Size": 0, "Created": ""}
        self.names[name] = digest(name)

    def _prune_builds(self, **how: Any) -> dict[str, Any]:  # noqa: ANN401 - as the SDK has it
        self.cache_prunes.append(how)
        return {"SpaceReclaimed": 5}

    def _push(
        self, repository: str, *, tag: str, stream: bool, decode: bool, auth_config: dict[str, str]
    ) -> Iterator[dict[str, Any]]:
        assert stream
        assert decode
        self.logins.append(auth_config)
        name = f"{repository}:{tag}"
        yield from self.pushes(name, self.names[name])


class FakeEngine(Engine):
    """An engine whose client is a :class:`FakeDocker`."""

    def __init__(self) -> None:
        self.host = "unix:///nonexistent"
        self.origin = "fake"
        self.tls = None
        self._tunnel = None
        self._reached = contextlib.ExitStack()
        self._ports = {}
        self.docker = FakeDocker()
        self.client = cast("docker.DockerClient", self.docker)

    def pass_gpus(self, by: str | None) -> None:
        """What its capabilities say that it passes GPUs by; in words, as Capabilities has them."""
        self.__dict__["capabilities"] = SimpleNamespace(passes_gpus=by)

    def hold(
        self,
        *names: str,
        created: str = "2026-01-01T00:00:00Z",
        layers: Sequence[str] = (digest("layer"),),
        expires: str = "",
        **marks: str,
    ) -> Image:
        """Put an image on it: its names, the ids of its layers, and its labels by their last part.

        It is as this tool made it, unless ``content`` is given.
        """
        image_id = digest(f"{names}{created}{marks}")
        own = {f"{labels.PREFIX}{name}": value for name, value in marks.items()}
        own |= {labels.QUAY_EXPIRES: expires} if expires else {}
        told = {labels.CONTENT: content.content({}, own, layers)}
        self.docker.known[image_id] = {
            "Id": image_id,
            "Config": {"Labels": {**told, **own}},
            "RootFS": {"Layers": list(layers)},
            "Size": 3_750_000_000,
            "Created": created,
        }
        for name in names:
            self.docker.names[name] = image_id
        return self.image(image_id)

    def commit(
        self, image: Image, *names: str, layers: Sequence[str] = (), env: Sequence[str] = (), **marks: str
    ) -> Image:
        """What ``docker commit --change`` makes of an image: its labels, and a layer only if a file was written."""
        attrs = self.docker.known[image.id]
        changed = {f"{labels.PREFIX}{name}": value for name, value in marks.items()}
        made = {
            **attrs,
            "Id": digest(f"{image.id}{names}{layers}{env}{marks}"),
            "Config": {**attrs["Config"], "Env": list(env), "Labels": {**image.labels, **changed}},
            "RootFS": {"Layers": [*image.diff_ids, *layers]},
            "Created": "2026-01-03T00:00:00Z",
        }
        self.docker.known[made["Id"]] = made
        for name in names:
            self.docker.names[name] = made["Id"]
        return self.image(made["Id"])


@dataclass(kw_only=True)
class FakeRegistry:
    """The registry API for manifests (OCI distribution-spec v1.1).

    Attributes:
        manifests: By tag.
        token: What must be shown; None for anybody. Whoever has ``login`` gets it.
        login: Value of the header that gets the token; None for anybody.
        basic: Value of the header that must be shown, without a token.
        refresh: What must be posted for the token, in a form; None for whoever has ``login``.
        lost: Digests of blobs that are not there.
        moved: Where blobs are instead.
        realm: Where the token is; the registry itself by default.
        failures: Statuses that are answered first.
        asked: Paths that were asked for.
        put_answer: What is answered to a manifest that is put, which then counts for nothing.
        untags: Whether a tag can be removed by its name.
        after_put: Called with the tag when a manifest was put.
    """

    manifests: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None
    login: str | None = None
    basic: str | None = None
    refresh: str | None = None
    lost: set[str] = field(default_factory=set)
    moved: str | None = None
    realm: str | None = None
    failures: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    put_answer: Answer | None = None
    untags: bool = True
    after_put: Callable[[str], None] = lambda _tag: None

    @property
    def named(self) -> set[str]:
        """All tags, less those of images on their way."""
        return {tag for tag in self.manifests if not Upload.parse(tag)}

    def put(self, tag: str, image_id: str, **changes: Any) -> str:  # noqa: ANN401 - any JSON value
        """Have an image of one layer; returns the digest of its manifest. Changes are to the manifest."""
        document = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": {"digest": image_id},
            "layers": [{"digest": digest("compressed"), "size": 1234}],
        }
        self.manifests[tag] = json.dumps({**document, **changes}).encode()
        return digest(self.manifests[tag].decode())

    def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked.path)
        if self.failures:
            return Answer(status=self.failures.pop(0))
        shown = asked.headers.get("Authorization")
        if asked.path.startswith("/token"):
            return self._token(asked)
        if self.token and shown != f"Bearer {self.token}":
            realm = f"http://{asked.headers['Host']}/token" if self.realm is None else self.realm
            challenge = f'Bearer realm="{realm}",service="here",scope="repository:x:pull"'
            return Answer(status=401, headers={"WWW-Authenticate": challenge})
        if self.basic and shown != self.basic:
            return Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="here"'})
        if asked.method in ("PUT", "DELETE"):
            return self._change(asked)
        return self._serve(asked.path)

    def _change(self, asked: Asked) -> Answer:
        name = asked.path.rpartition("/")[2]
        if asked.method == "DELETE" and not self.untags and not name.startswith("sha256:"):
            return Answer(status=405)
        if asked.method == "DELETE":
            gone = [tag for tag, content in self.manifests.items() if name in (tag, digest(content.decode()))]
            for tag in gone:
                del self.manifests[tag]
            return Answer(status=202 if gone else 404)
        if self.put_answer:
            return self.put_answer
        assert json.loads(asked.body)["mediaType"] == asked.headers["Content-Type"]
        self.manifests[name] = asked.body
        self.after_put(name)
        return Answer(status=201)

    def _token(self, asked: Asked) -> Answer:
        allowed = self.login is None or asked.headers.get("Authorization") == self.login
        if self.refresh:
            allowed = asked.method == "POST" and f"refresh_token={self.refresh}" in asked.body.decode()
        return Answer(body=json.dumps({"token": self.token}).encode()) if allowed else Answer(status=401)

    def _serve(self, path: str) -> Answer:
        if path == "/v2/":
            return Answer(body=b"{}")
        name = path.rpartition("/")[2]
        if path.endswith("/tags/list"):
            return Answer(body=json.dumps({"tags": sorted(self.manifests)}).encode())
        if "/blobs/" in path and self.moved:
            return Answer(status=307, headers={"Location": self.moved})
        if "/blobs/" in path:
            return Answer(status=404 if name in self.lost else 200)
        return Answer(body=self.manifests[name]) if name in self.manifests else Answer(status=404)
