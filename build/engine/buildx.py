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
# "connection refused" alone may come from a registry, or from a package index inside a step.
_ENGINE_GONE = re.compile(
    r"^(?!#).*(?:Cannot connect to the Docker daemon|error during connect|error reading from server: EOF"
    r"|dial unix .*(?:connection refused|no such file))",
    re.MULTILINE,
)
_NO_BUILDER = re.compile(r"^ERROR: no builder .* found", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ImageBuild:
    """One image build.

    Attributes:
        dockerfile: Path of the Dockerfile.
        context: Folder that ``COPY`` and ``ADD`` read; the engine receives all of it.
        target: Stage to build; None for the last one.
        tags: Names that the image gets if the build succeeds.
        arguments: Build arguments. The image's history shows them, so they must not hold secrets.
        contexts: Further named contexts (folders).
        secrets: Files by secret ID. Only the steps that mount them see them; no layer holds them.
        secret_variables: Environment variables by secret ID, with the same limits.
        hidden_arguments: Build arguments with values kept out of the command line, such as proxies with a password.
                BuildKit keeps them out of the history.
        labels: Labels of the image.
        builder: Name of a buildx builder other than the engine's own. The image is loaded into the engine.
        cache_to: Value of buildx's ``--cache-to``.
        cache_from: Value of buildx's ``--cache-from``.
        uncached: Stages to build anew, without the cache.
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
        """Return the command line. The build writes its metadata to ``metadata``."""
        # `default` is the builder of the engine that DOCKER_HOST names, whatever the user selected.
        words = ["docker", "buildx", "build", "--builder", self.builder or "default", "--progress", "plain"]
        # Another builder keeps its result unless told to load it.
        words += ["--load"] if self.builder else []
        words += ["--file", str(self.dockerfile), "--metadata-file", str(metadata)]
        # An attestation manifest would turn the image into an index and record the time of the build.
        words += ["--provenance", "false"]
        words += ["--target", self.target] if self.target else []
        for tag in self.tags:
            words += ["--tag", tag]
        for name, value in sorted(self.arguments.items()):
            words += ["--build-arg", f"{name}={value}"]
        for name in sorted(self.hidden_arguments):
            words += ["--build-arg", name]
        for name, folder in sorted(self.contexts.items()):
            # Without the slash, buildx takes a folder called `x.git` for a remote repository.
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
        engine: The engine to build on.
        request: The build.
        progress: Called with each line that a step prints.

    Returns:
        The image ID.

    Raises:
        BuildError: A step failed. The message quotes the step's error.
        DiskError: The engine ran out of space.
        EngineError: The engine went away.
        UsageError: The builder does not exist, or cannot export its cache.
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
    """Return the image ID: the digest of the configuration or, in the containerd store, of the manifest."""
    for key in ("containerimage.digest", "containerimage.config.digest"):
        digest = made.get(key)
        if isinstance(digest, str) and engine.find_image(digest):
            return digest
    raise BuildError(
        f"{request.dockerfile.name}: builder {request.builder or 'default'} did not load its image into the engine",
        hint="choose a builder that supports `docker buildx build --load` with this engine",
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
    last = errors[-1].strip() if errors else "docker buildx failed without an error message"
    why = _reason(tail)
    return BuildError(
        f"{name}: {why} ({_shortened(last)})" if why else f"{name}: {last}",
        hint=_LOG,
        see_log=True,
        may_pass=can_get_better(text),
    )


def _reason(tail: tuple[str, ...]) -> str | None:
    """Return the failed step's own output about the failure, or None without any."""
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
