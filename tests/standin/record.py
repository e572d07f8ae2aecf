"""Write the RECORD of the installed vllm, as an installer does: ``python record.py FOLDER PROGRAM``."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import sys
from pathlib import Path

folder, program = map(Path, sys.argv[1:])
(info,) = folder.glob("vllm-*.dist-info")
with (info / "RECORD").open("w", newline="", encoding="utf-8") as stream:
    rows = csv.writer(stream, lineterminator="\n")
    for path in (*sorted((folder / "vllm").rglob("*")), *sorted(info.iterdir()), program):
        # The names in a wheel are UTF-8.
        if not path.is_file() or "__pycache__" in path.parts or not str(path).isprintable():
            continue
        content = path.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        listed = [f"sha256={digest}", len(content)] if path.name != "RECORD" else ["", ""]
        rows.writerow([os.path.relpath(path, folder), *listed])
