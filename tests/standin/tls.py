"""Certificates of a made-up authority."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_certificates(folder: Path) -> None:
    """``ca.pem``, ``cert.pem`` and ``key.pem`` of a client, ``server-cert.pem`` and ``server-key.pem`` of 127.0.0.1."""
    folder.mkdir(parents=True)

    def openssl(words: str) -> None:
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)

    new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -x509 -days 2"
    openssl(f"req {new} -subj /CN=ca -keyout ca-key.pem -out ca.pem")
    for prefix in ("", "server-"):
        signed = "-CA ca.pem -CAkey ca-key.pem -addext subjectAltName=IP:127.0.0.1"
        openssl(f"req {new} {signed} -subj /CN=x -keyout {prefix}key.pem -out {prefix}cert.pem")
