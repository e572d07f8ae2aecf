"""What ``smoke/inside/binaries.py`` finds out within an image, and what of it is the image's fault."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import docker.errors
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

from build.base import apart
from build.base.apart import Look
from build.config.folders import REPOSITORY
from build.engine import confinement
from smoke.server import profile
from smoke.server.launch import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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


def _reader(form: TypeAdapter[Any]) -> Callable[[Any], Any]:
    # As JSON: a tuple of the model is a list there.
    return lambda finding: form.validate_json(json.dumps(finding))


_STAGES: Mapping[str, TypeAdapter[Any]] = {
    "compile": TypeAdapter(list[tuple[_Text, _Text]]),
    "files": TypeAdapter(dict[_Text, _Text]),
    "writable": TypeAdapter(list[_Text]),
    "bytecode": TypeAdapter(list[_Text]),
    "torch": TypeAdapter(ImportedTorch),
    "libraries": TypeAdapter(dict[_Text, list[_Text]]),
    "vllm": TypeAdapter(Vllm),
    "load": TypeAdapter(dict[_Text, _Text | None]),
    "operators": TypeAdapter(Operators),
    "importing": TypeAdapter(_Text),
    "modules": TypeAdapter(list[ImportFailure]),
}

READERS: apart.Readers = {stage: _reader(form) for stage, form in _STAGES.items()}

REPEATED = "importing"
"""The stage that is said of each module."""


def probe(
    engine: Engine, launch: Launch, *, flavor: str, contents: Contents | None, is_enough: Callable[[], bool]
) -> Look:
    """Run the script in an image: on a root that cannot be written to, offline.

    An image that was built for it runs as an arbitrary user of group 0.

    Args:
        engine: Where.
        launch: How the image is started otherwise.
        flavor: ``cpu`` or ``cuda``.
        contents: Contents of a base or an overlay; None for any other image, whose own user and Python are used.
        is_enough: Whether the rest need not be looked at (:func:`build.base.apart.look`).
    """
    changed = sorted(path for path in contents.changed if path in contents.found and _plain(path)) if contents else []
    layout = contents.facts.layout if contents else None
    source, python = (str(layout.source), str(layout.python)) if layout else ("-", "python3")
    options: dict[str, Any] = {
        **confinement.options(engine, launch.limits),
        "read_only": True,
        # exec: Triton compiles a library there that asks the driver what GPU there is.
        "tmpfs": {"/tmp": "mode=1777,exec"},  # noqa: S108 - in the container, which is ours alone
        "device_requests": list(launch.devices),
        "environment": {**ENVIRONMENT, **profile.variables(profile.FAST)},
        **({"user": ANYBODY} if layout and layout.editable else {}),
    }
    argv = apart.words(python, SCRIPT, flavor, source, *changed)
    try:
        return apart.look(
            engine,
            launch.image.id,
            argv,
            readers=READERS,
            repeated=REPEATED,
            seconds=_TIMEOUT_S,
            is_enough=is_enough,
            **options,
        )
    except docker.errors.APIError as error:
        return Look(stages={}, end=f"its Python does not start: {error.explanation}")


def _plain(path: str) -> bool:
    """Return whether a path is text that the engine's API can carry."""
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
