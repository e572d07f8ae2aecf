"""Models from Hugging Face's hub: fetched once, onto this machine, before anything is started."""

from __future__ import annotations

import fnmatch
import logging
import shutil
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from build.gate import fingerprints
from build.host import stored, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from build.config.model_name import ModelName

# Weights in safetensors and what a tokenizer and a chat template are made of; not the same weights in older formats.
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]

_TURN_S = 3600.0
"""Seconds that another run may take to fetch a model: some have a hundred gigabytes."""


class HubError(Exception):
    """The hub does not answer, or does not have the model."""


def fetch(model: ModelName, cache: Path, *, say: Callable[[str], None], timeout_s: float = _TURN_S) -> Path:
    """The folder of a model, fetched if it is not there.

    A copy that is there is used as it is, also if the revision is a branch that has moved since, so that a run needs
    no network. It is readable by everyone, as the user inside a container has to read it.

    Args:
        model: Which.
        cache: Cache folder.
        say: Called when this run has to wait for another that fetches it.
        timeout_s: Seconds to wait for that.

    Raises:
        HubError: It cannot be fetched.
        BusyError: Another run fetches it for too long.
    """
    name = str(model).replace("/", "--")
    folder, partial = cache / "models" / name, cache / "models" / f".{name}"
    spoken = turn.Spoken(note=say)
    with turn.taken(folder.parent, f".{name}", doing=f"fetching {model}", console=spoken, timeout_s=timeout_s):
        if not folder.is_dir():
            stored.clear(folder)
            _download(model, partial)
            # The client's notes on where files came from: with times in them, the model would not be the same twice.
            shutil.rmtree(partial / ".cache", ignore_errors=True)
            for path in (partial, *partial.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            stored.write(_record(folder), {"digest": fingerprints.model(partial)})
            partial.rename(folder)
    return folder


def is_damaged(folder: Path, digest: str) -> bool:
    """Whether a model was changed since it was fetched.

    Args:
        folder: What :func:`fetch` returned.
        digest: Digest of what it holds now (:func:`build.gate.fingerprints.model`).
    """
    known = stored.read(_record(folder), _RECORD, level=logging.DEBUG)
    # Older versions of this tool wrote none.
    return known is not None and known.get("digest") != digest


def forget(folder: Path) -> None:
    """Remove a model, which is then fetched again."""
    for path in (_record(folder), folder):
        stored.clear(path)


_RECORD = TypeAdapter(dict[Literal["digest"], str]).validate_python


def _record(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _download(model: ModelName, folder: Path) -> None:
    # Here, because it takes half a second to import and hardly any run needs it.
    from huggingface_hub import HfApi  # noqa: PLC0415

    api = HfApi()
    try:
        known = api.model_info(model.repository, revision=model.revision, files_metadata=True)
        files = {file.rfilename: file.size for file in known.siblings or ()}
        api.snapshot_download(model.repository, revision=known.sha, local_dir=folder, allow_patterns=_WANTED)
    # Whatever stops it, from a refused connection to a hub that answers nonsense, is not the image's fault.
    except Exception as error:
        raise HubError(f"{model} could not be fetched: {' '.join(str(error).split())}") from error
    if "config.json" not in files:
        raise HubError(f"{model} has no config.json")
    # A hub that goes away meanwhile leaves the client content with what there is.
    for name, size in files.items():
        path, wanted = folder / name, any(fnmatch.fnmatchcase(name, pattern) for pattern in _WANTED)
        if wanted and (not path.is_file() or size not in (None, path.stat().st_size)):
            raise HubError(f"{model} came without {name}")
