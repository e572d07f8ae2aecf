"""Bases without an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from build.base.store import BaseContents, Facts
from build.layer.archive import Ownership
from build.source.listing import REGULAR, Entry, Listing, blob_id

if TYPE_CHECKING:
    from collections.abc import Mapping

FACTS = Facts(
    flavor="cpu",
    commit="b" * 40,
    version="0.32.0+cpu",
    python="3.12.3",
    torch="2.13.0+cpu",
    cuda=None,
    machine="x86_64",
    extras={"ray": ("default",)},
    distributions={"numpy": "2.3.1", "torch": "2.13.0+cpu"},
    owner=Ownership(uid=2000, gid=0, file_mode=0o664, folder_mode=0o775),
    folders={"opt": (0o755, 0, 0), "opt/vllm": (0o755, 0, 0), "opt/vllm/bin": (0o755, 0, 0)},
    made_by_build=("vllm/_C.abi3.so", "vllm/_version.py"),
    modified=(),
    build_requires=("torch==2.13.0",),
    unmet=(),
    metadata="/opt/vllm/lib/python3.12/site-packages/vllm-0.32.0.dist-info",
    entry_points="",
    programs=("vllm-old",),
    own_git=False,
)

PYPROJECT = '[build-system]\nrequires = ["torch == 2.13.0"]\n'


def listing(files: Mapping[str, str | tuple[str, str]]) -> Listing:
    """A tree of these contents; a pair is mode and content."""
    pairs = {path: content if isinstance(content, tuple) else (REGULAR, content) for path, content in files.items()}
    entries = {path: Entry(mode=mode, oid=blob_id(content.encode())) for path, (mode, content) in pairs.items()}
    return Listing(files=entries, trees={})


def base(files: Mapping[str, str | tuple[str, str]], *, absent: tuple[str, ...] = (), **facts: Any) -> BaseContents:  # noqa: ANN401 - as Facts has them
    """A base made of these files, which holds all but the absent ones.

    Args:
        files: The tree of its commit.
        absent: Beginnings of paths that the image does not hold.
        facts: What is not as in :data:`FACTS`.
    """
    tree = listing({"pyproject.toml": PYPROJECT, **files})
    held = {path: entry for path, entry in tree.files.items() if not path.startswith(absent)}
    return BaseContents(facts=replace(FACTS, **facts), held=Listing(files=held, trees={}), tree=tree)
