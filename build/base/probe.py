"""What an image holds, before it is sealed: as a script says that runs inside it, checked before it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import docker.errors
from pydantic import BaseModel, ConfigDict, TypeAdapter

from build.base import apart, store
from build.base.store import AbsolutePath, VersionText
from build.config.folders import INSIDE
from build.engine import confinement
from build.engine.confinement import Limits
from build.errors import BuildError, SourceError

if TYPE_CHECKING:
    from build.engine.client import Engine
    from build.engine.image import Image

_SCRIPT = INSIDE / "probe.py"
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


# Not by pydantic's own reader of JSON: names of files that are no UTF-8 hold surrogates.
_READERS: apart.Readers = {"files": Found.model_validate, "vllm": TypeAdapter(str | None).validate_python}


def probe(engine: Engine, image: Image) -> Found:
    """Look into an image with ``build/base/inside/probe.py``, without network and privileges.

    Raises:
        SourceError: It has no vLLM where a base has it.
        BuildError: The script did not run through, or printed something else than what it is to find.
    """
    argv = apart.words(str(store.PYTHON), _SCRIPT, str(store.SOURCE))
    options = confinement.options(engine, Limits())
    try:
        looked = apart.look(engine, image.id, argv, readers=_READERS, seconds=_TIMEOUT_S, **options)
    except docker.errors.APIError as error:
        said = error.explanation or error
        raise SourceError(f"{image.short_id} has no {store.PYTHON}: {said}", hint=_WHAT_A_BASE_NEEDS) from error
    if looked.end:
        raise BuildError(f"{image.short_id} could not be looked at: {looked.end}", hint=_WHAT_A_BASE_NEEDS)
    found: Found = looked.stages["files"]
    vllm, expected = looked.stages["vllm"], str(store.SOURCE / "vllm")
    if vllm != expected:
        raise SourceError(
            f"{image.short_id} imports vllm from {vllm}, not from {expected}",
            hint="install vLLM there with `pip install --editable`",
        )
    return found
