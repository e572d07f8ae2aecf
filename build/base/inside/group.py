"""Give group 0 what the owner may do, below one folder: OpenShift runs containers as an arbitrary user of that group.

llm-d's Dockerfile sets default ACLs before it clones vLLM; ``setfacl`` may be missing there, and a build cache keeps no
ACLs. Run as ``python group.py FOLDER``; what is right already is not touched, because it would be stored once more.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def main() -> None:
    """Open the folder and everything below it to group 0."""
    top = Path(sys.argv[1])
    for folder, _, names in os.walk(top):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            share(path)


def share(path: Path) -> None:
    """Let group 0 do with a file or folder what its owner may do."""
    status = path.lstat()
    if status.st_gid:
        os.chown(path, -1, 0, follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISLNK(status.st_mode) and (wanted := mode | (mode & stat.S_IRWXU) >> 3) != mode:
        path.chmod(wanted)


main()
