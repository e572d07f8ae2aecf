"""The one way to build an image: ``docker buildx build`` on the engine's own BuildKit."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.config.folders import REPOSITORY
from build.errors import BuildError, EngineError, LlmdDevError, UsageError, full_engine
from build.host import apt, process, reason, scratch
from build.host.retry import can_get_better
from build.host.secrets import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from build.engine.client import Engine

DOCKERFILES = REPOSITORY / "dockerfiles"

_LOG = "the log holds the output of every step"

_LONGEST = 160
_FAILED_STEP = re.compile(r"^#(\d+) ERROR: ")
_STEP = re.compile(r"^#\d+ (?:\[.*?\] )?(?:\d+\.\d+ )?")
# "connection refused" alone may be a registry's, or a package index's inside a step.
_ENGINE_GONE = re.compile(
    r"^(?!#).*(?:Cannot connect to the Docker daemon|error during connect|error reading from server: EOF"
    r"|dial unix .*(?:connection refused|no such file))",
    re.MULTILINE,
)
_NO_BUILDER = re.compile(r"^ERROR: no builder .* found", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ImageBuild:
    """One build.

    Attributes:
        dockerfile: Path of the Dockerfile.
        context: Folder that ``COPY`` and ``ADD`` read; everything in it is sent to the engine.
        target: Stage to build; the last one if None.
        tags: Names that the image gets if the build succeeds.
        arguments: Build arguments. They end up in the image's history: never a secret.
        contexts: Further named contexts: folders.
        secrets: Files by secret id; they reach only the steps that mount them and no layer.
        secret_variables: Environment variables by secret id, likewise.
        hidden_arguments: Build arguments whose values stay out of the command line: proxies, say, may hold a password,
            and BuildKit keeps them out of the history.
        labels: Labels of the image.
        builder: Name of another buildx builder than the engine's own; the image is loaded into the engine.
        cache_to: Where the build cache is exported to, as buildx has it.
        cache_from: Where it is imported from.
        uncached: Stages that are built anew, whatever the cache holds.
    """

    dockerfile: Path
    context: Path
    target: str | None = None
    tags: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, Path] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    secret_variables: Mapping[str, str] = field(default_factory=dict)
    hidden_arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    builder: str | None = None
    cache_to: str | None = None
    cache_from: str | None = None
    uncached: tuple[str, ...] = ()

    def argv(self, *, metadata: Path) -> list[str]:
        """The command line; what was made is written to ``metadata``."""
        # `default` is the builder inside the engine that DOCKER_HOST names, whatever the user selected.
        words = ["docker", "buildx", "build", "--builder", self.builder or "default", "--progress", "plain"]
        # A builder elsewhere keeps what it builds, unless told.
        words += ["--load"] if self.builder else []
        words += ["--file", str(self.dockerfile), "--metadata-file", str(metadata)]
        # An attestation manifest would make an index of the image and carry the time of the build.
        words += ["--provenance", "false"]
        words += ["--target", self.target] if self.target else []
        for tag in self.tags:
            words += ["--tag", tag]
        for name, value in sorted(self.arguments.items()):
            words += ["--build-arg", f"{name}={value}"]
        for name in sorted(self.hidden_arguments):
            words += ["--build-arg", name]
        for name, folder in sorted(self.contexts.items()):
            # Without the slash a folder called `x.git` is taken for a remote repository.
            words += ["--build-context", f"{name}={folder}/"]
        for name, file in sorted(self.secrets.items()):
            words += ["--secret", f"id={name},src={file}"]
        for name, variable in sorted(self.secret_variables.items()):
            words += ["--secret", f"id={name},env={variable}"]
        for name, value in sorted(self.labels.items()):
            words += ["--label", f"{name}={value}"]
        words += ["--cache-to", self.cache_to] if self.cache_to else []
        words += ["--cache-from", self.cache_from] if self.cache_from else []
        words += ["--no-cache-filter", ",".join(self.uncached)] if self.uncached else []
        return [*words, str(self.context)]


def build(engine: Engine, request: ImageBuild, *, progress: process.OnLine) -> str:
    """Build an image.

    Args:
        engine: Where.
        request: What.
        progress: Called with each line that a step prints.

    Returns:
        The image ID.

    Raises:
        BuildError: A step failed; names its error.
        DiskError: The engine ran out of space.
        EngineError: The engine went away.
        UsageError: There is no such builder, or it cannot export its cache.
    """
    with scratch.folder() as folder:
        metadata = Path(folder) / "metadata.json"
        done = process.run(
            request.argv(metadata=metadata),
            env={**engine.environment, **request.hidden_arguments},
            on_line=lambda line: progress(_STEP.sub("", line)),
        )
        if done.returncode:
            raise _failure(request, done.tail)
        made = json.loads(metadata.read_text(encoding="utf-8"))
    return _image_id(engine, request, made)


def _image_id(engine: Engine, request: ImageBuild, made: Mapping[str, Any]) -> str:
    """What the engine calls the image: the digest of its configuration or, in the containerd store, of its manifest."""
    for key in ("containerimage.digest", "containerimage.config.digest"):
        digest = made.get(key)
        if isinstance(digest, str) and engine.find_image(digest):
            return digest
    raise BuildError(
        f"{request.dockerfile.name}: builder {request.builder or 'default'} built what is not on the engine",
        hint="use a builder whose images `docker buildx build --load` brings to this engine",
        see_log=True,
    )


def _failure(request: ImageBuild, tail: tuple[str, ...]) -> LlmdDevError:
    text = "\n".join(tail)
    name = request.dockerfile.name
    if full := full_engine(name, text):
        return full
    if _ENGINE_GONE.search(text):
        return EngineError(
            f"{name}: the engine went away during the build",
            hint="`python -m build engine status` shows whether it runs",
        )
    if request.builder and _NO_BUILDER.search(text):
        return UsageError(
            f"there is no builder {request.builder!r}",
            hint="`docker buildx ls` lists them; `docker buildx create` makes one",
        )
    if request.cache_to and "cache export" in text.lower() and "not supported" in text.lower():
        return UsageError(
            "this builder cannot export its cache",
            hint="--builder NAME of a docker-container, kubernetes or remote builder; or leave --cache-to out",
        )
    errors = [line for line in tail if "ERROR" in line or "error:" in line] or list(tail[-1:])
    last = errors[-1].strip() if errors else "docker buildx failed without a word"
    why = _reason(tail)
    return BuildError(
        f"{name}: {why} ({_shortened(last)})" if why else f"{name}: {last}",
        hint=_LOG,
        see_log=True,
        may_pass=can_get_better(text),
    )


def _reason(tail: tuple[str, ...]) -> str | None:
    """What the step that failed printed about it; None where no step did, or it printed nothing."""
    failed = [match[1] for line in tail if (match := _FAILED_STEP.match(line))]
    if not failed:
        return None
    output = re.compile(rf"^#{failed[-1]} \d+\.\d+ ?(.*)")
    lines = [match[1] for line in tail if (match := output.match(line))]
    spoken = [line.strip() for line in lines if line.strip()]
    return reason.of(lines) or (_shortened(redacted(spoken[-1])) if spoken else None)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def require_buildkit(engine: Engine) -> None:
    """Check that images can be built: the engine has BuildKit, and its client here has buildx.

    Raises:
        EngineError: One of them is missing; says which.
    """
    capabilities = engine.capabilities
    if not capabilities.buildkit:
        raise EngineError(
            f"the engine ({engine.origin}, release {capabilities.server_version}) has no BuildKit",
            hint="upgrade it to Docker Engine 23 or newer, or set DOCKER_HOST to one that is",
        )
    client = apt.program("docker")
    if client is None or process.run([client, "buildx", "version"], env=engine.environment).returncode:
        raise EngineError(
            "`docker buildx version` fails: this machine's Docker client is missing or has no buildx",
            hint="install the package docker-buildx (docker-buildx-plugin from Docker's own repository)",
        )
