"""What an image holds, before it is sealed: as a script says that runs inside it, checked before it is believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import docker.errors
from pydantic import BaseModel, ConfigDict, ValidationError

from build.base import store
from build.base.store import AbsolutePath, VersionText
from build.config.folders import INSIDE
from build.engine import confinement
from build.engine.confinement import Limits
from build.errors import BuildError, SourceError

if TYPE_CHECKING:
    from build.engine.client import Engine, Image

_TIMEOUT_S = 300

_WHAT_A_BASE_NEEDS = "a base needs vLLM editable at /opt/vllm-source and its environment at /opt/vllm"


class InstalledTorch(BaseModel):
    """The torch of an image.

    Attributes:
        version: None without one.
        cuda: CUDA version that it was built for, None on the CPU.
    """

    model_config = ConfigDict(frozen=True)

    version: str | None
    cuda: str | None


class Found(BaseModel):
    """What an image holds.

    Attributes:
        files: Path below the source folder, git mode and blob id of every file there.
        folders: Permissions, user and group of the folders that an overlay may add to, by path.
        uid: Owner of the source folder.
        gid: Its group.
        folder_mode: Its permissions.
        file_mode: Permissions of a source file.
        vllm: Folder that ``import vllm`` imports; None if there is none.
        version: What ``vllm.__version__`` says.
        distributions: Version of each installed distribution, by normalised name.
        provided: Extras that they have, by normalised name.
        requires: What they require for them.
        metadata: Folder of the metadata that the editable installation of vllm made; None if it was not found.
        programs: Names of what is in the folder of its Python.
        python: Version of its Python.
        machine: Its processor, as ``uname -m`` has it.
        torch: Its torch.
        has_repository: Whether there is a git directory.
    """

    model_config = ConfigDict(frozen=True)

    files: list[tuple[str, str, str]]
    folders: Mapping[str, tuple[int, int, int]]
    uid: int
    gid: int
    folder_mode: int
    file_mode: int
    vllm: str | None
    version: VersionText
    distributions: Mapping[str, str]
    provided: Mapping[str, list[str]]
    requires: Mapping[str, list[str]]
    metadata: AbsolutePath | None
    programs: list[str]
    python: VersionText
    machine: str
    torch: InstalledTorch
    has_repository: bool


def probe(engine: Engine, image: Image) -> Found:
    """Look into an image with ``build/base/inside/probe.py``, without network and privileges.

    Raises:
        SourceError: It has no vLLM where a base has it.
        BuildError: The script did not run through, or printed something else than what it is to find.
    """
    script = (INSIDE / "probe.py").read_text(encoding="utf-8")
    options = {
        "entrypoint": [str(store.PYTHON)],
        "command": ["-c", script, str(store.SOURCE)],
        **confinement.options(engine, Limits()),
    }
    with engine.created(image.id, **options) as container:
        try:
            container.start()
        except docker.errors.APIError as error:
            said = error.explanation or error
            raise SourceError(f"{image.short_id} has no {store.PYTHON}: {said}", hint=_WHAT_A_BASE_NEEDS) from error
        status = container.wait(timeout=_TIMEOUT_S)["StatusCode"]
        if status:
            last = container.logs(tail=1).decode(errors="replace").strip()
            raise BuildError(f"{image.short_id} could not be looked at: {last}", hint=_WHAT_A_BASE_NEEDS)
        printed = container.logs(stdout=True, stderr=False)
        found = _parse(image, printed.rstrip().rpartition(b"\n")[2])
    expected = str(store.SOURCE / "vllm")
    if found.vllm != expected:
        raise SourceError(
            f"{image.short_id} imports vllm from {found.vllm}, not from {expected}",
            hint="install vLLM there with `pip install --editable`",
        )
    return found


def _parse(image: Image, line: bytes) -> Found:
    try:
        # Not by pydantic's own reader of JSON: names of files that are no UTF-8 hold surrogates.
        return Found.model_validate(json.loads(line))
    except ValueError as error:
        raise BuildError(
            f"{image.short_id} does not say what it holds: {_first(error)}", hint=_WHAT_A_BASE_NEEDS
        ) from error


def _first(error: ValueError) -> str:
    """What is wrong first, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False, include_input=False)[0]
    return ": ".join((*(".".join(map(str, found["loc"])),) * bool(found["loc"]), found["msg"]))
