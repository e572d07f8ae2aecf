"""``python -m build`` whose cpu flavor is built from the stand-in: a nightly in seconds.

Only the build itself is another: everything before and after it is the tool's own.
Variables: ``STANDIN_TREE``, the working tree to build from; ``STANDIN_BUILD_FAILS``, with which words.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from build.cli import main
from build.engine import labels, rootfs
from build.errors import BuildError
from build.flavors import cpu
from tests.standin.image import build_standin

if TYPE_CHECKING:
    from build.config.settings import Settings
    from build.console import Console
    from build.engine.client import Engine
    from build.pypi.index import PackageIndex
    from build.source.repository import Commit


def _build(engine: Engine, settings: Settings, index: PackageIndex, commit: Commit, *, console: Console) -> str:
    del index
    if words := os.environ.get("STANDIN_BUILD_FAILS"):
        raise BuildError(words, hint="read the log")
    system = rootfs.ensure(engine, image=settings.rootfs_image, install=False, console=console)
    marks = {labels.KIND: "unsealed", labels.REPOSITORY: settings.repository}
    source = Path(os.environ["STANDIN_TREE"])
    return build_standin(engine, system.tags[0], source=source, commit=commit.id, marks=marks)


if __name__ == "__main__":
    cpu.build = _build
    sys.exit(main.main(sys.argv[1:]))
