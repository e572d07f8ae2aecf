"""What ``smoke/inside/binaries.py`` finds out within an image, and what of it is the image's fault."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import docker.errors
import requests
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from build.base.store import PYTHON, SOURCE
from build.config.folders import REPOSITORY
from build.engine import confinement
from smoke.server.launch import ENVIRONMENT
from smoke.server.server import printed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from build.engine.client import Engine
    from smoke.image.contents import Contents
    from smoke.server.launch import Launch

SCRIPT = REPOSITORY / "smoke" / "inside" / "binaries.py"

ANYBODY = "1234567:0"
"""An arbitrary user of group 0: what OpenShift runs containers as."""

_TIMEOUT_S = 300

_Text = Annotated[str, StringConstraints(max_length=4096)]


class _Strict(BaseModel):
    """What an image prints is taken only in exactly the form that the script gives it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ImportedTorch(_Strict):
    """The image's torch: why it cannot be imported, its version and the CUDA version it was built for."""

    failure: _Text | None
    version: _Text | None
    cuda: _Text | None


class Vllm(_Strict):
    """Where the image imports vllm from, or why it cannot."""

    failure: _Text | None
    file: _Text | None


class Operators(_Strict):
    """Which variants of its compiled code vLLM chose, which one fits the processor, and which operators it lacks.

    An operator is named with its namespace, as in ``_C_cache_ops.swap_blocks``.
    """

    failure: _Text | None
    chosen: list[_Text]
    expected: _Text | None
    missing: list[_Text]


class ImportFailure(_Strict):
    """A module that cannot be imported.

    Attributes:
        module: Its dotted name.
        error: Why.
        file: The last of vLLM's files that ran, relative to the source folder.
        number: The line in it.
        text: That line.
        sealed: Whether the base could import the module.
    """

    module: _Text
    error: _Text
    file: _Text
    number: int
    text: _Text
    sealed: bool


_STAGES: Mapping[str, TypeAdapter[Any]] = {
    "compile": TypeAdapter(list[tuple[_Text, _Text]]),
    "files": TypeAdapter(dict[_Text, _Text]),
    "writable": TypeAdapter(list[_Text]),
    "torch": TypeAdapter(ImportedTorch),
    "libraries": TypeAdapter(dict[_Text, list[_Text]]),
    "vllm": TypeAdapter(Vllm),
    "load": TypeAdapter(dict[_Text, _Text | None]),
    "operators": TypeAdapter(Operators),
    "importing": TypeAdapter(_Text),
    "modules": TypeAdapter(list[ImportFailure]),
}


_REPEATED = "importing"
"""The stage that is said of each module."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the script found.

    Attributes:
        stages: Finding by stage; those that it did not come to are missing.
        end: How it broke off, None if it ran through or stopped at source that does not compile.
    """

    stages: Mapping[str, Any]
    end: str | None

    @classmethod
    def parse(cls, output: str, *, status: int, errors: str) -> Probe:
        """From what the script printed.

        Args:
            output: Its standard output.
            status: Its exit status.
            errors: The end of its error output.
        """
        stages: dict[str, Any] = {}
        for line in output.splitlines():
            try:
                stage, finding = json.loads(line)
                # As JSON: a tuple of the model is a list there.
                read = _STAGES[stage].validate_json(json.dumps(finding))
                again = stage in stages and stage != _REPEATED
            except (ValueError, TypeError, KeyError, ValidationError):
                return cls(
                    stages=stages, end=f"its Python printed something else than it was asked for: {line[:200]!r}"
                )
            if again:
                return cls(stages=stages, end=f"its Python said twice what it was asked for: {line[:200]!r}")
            stages[stage] = read
        if status:
            where = f" while it imported {stages['importing']}" if "importing" in stages else ""
            last = next((line for line in reversed(errors.splitlines()) if line.strip()), "it said nothing")
            return cls(stages=stages, end=f"its Python ended with status {status}{where}: {last[:500]}")
        if stages.get("compile") == [] and "modules" not in stages:
            return cls(stages=stages, end="its Python ended before it was done")
        return cls(stages=stages, end=None)


def probe(engine: Engine, launch: Launch, *, flavor: str, contents: Contents | None) -> Probe:
    """Run the script in an image: as an arbitrary user of group 0, on a root that cannot be written to, offline.

    Args:
        engine: Where.
        launch: How the image is started otherwise.
        flavor: ``cpu`` or ``cuda``.
        contents: What an image of ours holds; None for somebody else's, whose own user and Python are taken.
    """
    changed = sorted(path for path in contents.changed if path in contents.found and _plain(path)) if contents else []
    script = SCRIPT.read_text(encoding="utf-8")
    options: dict[str, Any] = {
        "entrypoint": [str(PYTHON) if contents else "python3"],
        "command": ["-I", "-S", "-c", script, flavor, str(SOURCE) if contents else "-", *changed],
        **confinement.options(engine, launch.limits),
        "read_only": True,
        # exec: Triton compiles a library there that asks the driver what GPU there is.
        "tmpfs": {"/tmp": "mode=1777,exec"},  # noqa: S108 - in the container, which is ours alone
        "device_requests": list(launch.devices),
        "environment": dict(ENVIRONMENT),
    }
    if contents:
        options["user"] = ANYBODY
    with engine.created(launch.image.id, **options) as container:
        try:
            container.start()
        except docker.errors.APIError as error:
            return Probe(stages={}, end=f"its Python does not start: {error.explanation}")
        try:
            status = container.wait(timeout=_TIMEOUT_S)["StatusCode"]
        except requests.RequestException:
            return Probe(stages={}, end=f"its Python was not done after {_TIMEOUT_S} s")
        output = printed(container, stdout=True, stderr=False).decode(errors="replace")
        errors = printed(container, stdout=False, stderr=True, tail=20).decode(errors="replace")
    return Probe.parse(output, status=status, errors=errors)


def _plain(path: str) -> bool:
    """Whether a path is text that the engine's API can carry."""
    return "\0" not in path and path.encode("utf-8", "replace").decode() == path


def misfits(failures: Sequence[ImportFailure], contents: Contents) -> list[ImportFailure]:
    """Those failed imports that are the image's fault.

    Many of vLLM's modules are for other devices or for packages that an image need not have. One that fails counts
    if the base could import it, or if it fails at something that the base's file does not have.
    """
    return [failure for failure in failures if failure.sealed or _is_new(failure, contents)]


def _is_new(failure: ImportFailure, contents: Contents) -> bool:
    if failure.file not in contents.changed:
        return False
    before = contents.base_texts.get(failure.file, "")
    names = [word.strip("'\"") for word in failure.error.split() if word.startswith(("'", '"'))]
    return failure.text not in before or any(name not in before for name in names[:1])
