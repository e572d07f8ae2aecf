"""The contents of an unsealed image, as a script inside it reports them. Findings are checked before use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import docker.errors
from pydantic import BaseModel, ConfigDict, TypeAdapter

from build.base import apart
from build.base.store import OWN_LAYOUT, AbsolutePath, Layout, VersionText
from build.config.folders import INSIDE
from build.engine import confinement
from build.engine.confinement import Limits
from build.errors import BuildError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import PurePosixPath

    from build.engine.client import Engine
    from build.engine.image import Image

_SCRIPT = INSIDE / "probe.py"
_TIMEOUT_S = 300

_WHAT_A_BASE_NEEDS = "a base needs one vLLM that its Python imports: installed from a wheel, or editable"


class InstalledTorch(BaseModel):
    """The torch installation of an image.

    Attributes:
        version: Version; None without torch.
        cuda: CUDA version that it was built for; None on the CPU.
    """

    model_config = ConfigDict(frozen=True)

    version: str | None
    cuda: str | None


class Found(BaseModel):
    """The contents of an image.

    Attributes:
        files: Path below the source folder, git mode and blob ID of every file there.
        folders: Permissions, user and group of the folders that an overlay may add to, by path.
        uid: User ID of the source folder.
        gid: Group ID of the source folder.
        folder_mode: Permissions of the source folder.
        file_mode: Permissions of a source file.
        version: Value of ``vllm.__version__``.
        commit: Value of ``vllm._version.__commit_id__``; None without it.
        distributions: Version of each installed distribution, by normalised name.
        provided: Extras of the distributions, by normalised name.
        requires: Requirements of the distributions for these extras.
        metadata: Metadata folder of vllm's distribution; None if it was not found.
        distribution: Name of that distribution.
        record: Its ``RECORD``; empty if vLLM is installed editable.
        layout: The places of vLLM.
        programs: Names of the files in the folder of its programs.
        python: Version of its Python.
        machine: Processor in the form of ``uname -m``.
        torch: Torch installation.
        has_repository: Whether the image has a git directory.
    """

    model_config = ConfigDict(frozen=True)

    files: list[tuple[str, str, str]]
    folders: Mapping[str, tuple[int, int, int]]
    uid: int
    gid: int
    folder_mode: int
    file_mode: int
    version: VersionText
    commit: str | None
    distributions: Mapping[str, str]
    provided: Mapping[str, list[str]]
    requires: Mapping[str, list[str]]
    metadata: AbsolutePath | None
    distribution: str | None
    record: str
    layout: Layout
    programs: list[str]
    python: VersionText
    machine: str
    torch: InstalledTorch
    has_repository: bool


# Not parsed by pydantic's JSON reader: file names that are not UTF-8 hold surrogates.
_READERS: apart.Readers = {
    "sources": TypeAdapter(list[str]).validate_python,
    "files": Found.model_validate,
    "vllm": TypeAdapter(str | None).validate_python,
}


def probe(engine: Engine, image: Image, *, python: PurePosixPath = OWN_LAYOUT.python) -> Found:
    """Examine an image with ``build/base/inside/probe.py``, without network and privileges.

    Args:
        engine: The engine that has the image.
        image: The image.
        python: The Python in it that imports vLLM.

    Raises:
        SourceError: The image does not have exactly one vLLM that this Python imports.
        BuildError: The script failed, or printed unexpected output.
    """
    options = confinement.options(engine, Limits())
    try:
        looked = apart.look(
            engine, image.id, apart.words(str(python), _SCRIPT), readers=_READERS, seconds=_TIMEOUT_S, **options
        )
    except docker.errors.APIError as error:
        said = error.explanation or error
        raise SourceError(f"{image.short_id} has no {python}: {said}", hint=_WHAT_A_BASE_NEEDS) from error
    _require_one(image, looked.stages.get("sources"))
    if looked.end:
        raise BuildError(f"{image.short_id} could not be examined: {looked.end}", hint=_WHAT_A_BASE_NEEDS)
    found: Found = looked.stages["files"]
    vllm, expected = looked.stages["vllm"], str(found.layout.source / "vllm")
    if vllm != expected:
        raise SourceError(f"{image.short_id} imports vllm from {vllm}, not from {expected}", hint=_WHAT_A_BASE_NEEDS)
    return found


def _require_one(image: Image, sources: Sequence[str] | None) -> None:
    if sources is not None and len(sources) != 1:
        has = f"has {len(sources)} vLLMs: in {', '.join(sources)}" if sources else "has no vLLM that its Python imports"
        raise SourceError(f"{image.short_id} {has}", hint=_WHAT_A_BASE_NEEDS)
